"""Make the pictures of the README and of docs/, from a run of the demo: ``python docs/make_pictures.py [FOLDER]``.

FOLDER is that of the demo (default: ``pixal_demo``); it is made if it does not exist. Pages are photographed with
Chromium, through playwright. Look at all pictures afterwards.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from planted_defects import main as draw_planted_defects

Image = NDArray[np.uint8]

IMAGES = Path(__file__).parent / "images"
TYPE = "front"
TRAINED, SHOWN = "image_001", "part_003"  # a good photograph; a part with two defects, of different kinds
_HIDE_FOLDER = """([folder, name]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(folder, name);
}"""
SPOTS = "--kinds spot --contrasts -0.4 --sizes 1.5 2.5 4 8 16 --defects 60"  # for the map of sensitivity


def main(demo: Path) -> None:
    """Make all pictures."""
    if not (demo / "validate").exists():
        _pixal("demo", str(demo), folder=Path())
    _pixal("sensitivity", "-i", f"out/Demo_Flex/{TYPE}", *SPOTS.split(), folder=demo)
    figures = demo / "out/Demo_Flex" / TYPE / "figures"
    results = demo / "validate/Demo_Flex"
    photographs = demo / "photographs"
    cut = demo / "out/Demo_Flex" / TYPE / f"preprocessed_images/background_removed/{TRAINED}_no_bg.png"

    _save("photograph.jpg", _read(photographs / f"train/Demo_Flex/{TYPE}/{TRAINED}.jpg"), 640)
    _save("background_removed.jpg", _on_a_chequerboard(cut), 640)
    _save("matches.jpg", _read(figures / f"aligned_metrics/matches/{TRAINED}_matches.jpg"), 900)
    _save("overlay.jpg", _read(figures / f"aligned_metrics/overlay_diagnostics/{TRAINED}_overlay.jpg"), 800)
    _save("crop_preview.jpg", _read(figures / "crop_preview.png"), 760)
    _save("channels.png", _read(figures / "channels.png"), 640)
    _save("loss.png", _read(figures / "loss.png"), 640)
    _save("sensitivity_map.jpg", _read(figures / "sensitivity_map.png"), 860)
    _save("distribution.png", _read(results / TYPE / "figures/score_distribution.png"), 640)
    overlay = _read(results / TYPE / f"figures/anomaly_overlay_{SHOWN}.png")
    _save("anomaly_overlay.jpg", overlay, 800)
    photograph = _read(photographs / f"production/Demo_Flex/{TYPE}/{SHOWN}.jpg")
    _save("overlay_crop.jpg", _one_above_the_other(photograph, overlay, photographs / f"truth/{TYPE}"), 880)
    _photograph_pages(demo)
    draw_planted_defects()


def _pixal(*words: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "pixal", *words], cwd=folder, check=True)


def _read(path: Path) -> Image:
    image = cv2.imread(str(path))
    if image is None:
        raise FileNotFoundError(path)
    return image.astype(np.uint8)


def _save(name: str, image: Image, width: int) -> None:
    if image.shape[1] > width:
        size = (width, round(image.shape[0] * width / image.shape[1]))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 9] if name.endswith(".png") else [cv2.IMWRITE_JPEG_QUALITY, 85]
    cv2.imwrite(str(IMAGES / name), image, options)


def _on_a_chequerboard(path: Path) -> Image:
    """A transparent image, on grey squares where it is transparent."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)
    y, x = np.indices(image.shape[:2]) // 12
    board = np.where((x + y) % 2, 255, 235)[..., None]
    alpha = image[..., 3:] / 255
    return np.asarray(image[..., :3] * alpha + board * (1 - alpha), np.uint8)


def _one_above_the_other(photograph: Image, overlay: Image, truth: Path) -> Image:
    """A photograph and its overlay, cut to the part."""
    part = _read(truth / f"foreground/{SHOWN}.png")[..., 0]
    x, y, width, height = cv2.boundingRect(part)
    rows, columns = slice(max(y - 20, 0), y + height + 20), slice(max(x - 60, 0), x + width + 60)
    crops = [image[rows, columns] for image in (photograph, overlay)]
    gap = np.full((6, crops[0].shape[1], 3), 255, np.uint8)
    return np.vstack([crops[0], gap, crops[1]])


def _photograph_pages(demo: Path) -> None:
    """``report.html``, and the page of a part in ``pixal serve``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, _server(demo) as address:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 1500})
        page.goto((demo.resolve() / "validate/Demo_Flex/report.html").as_uri())
        page.evaluate(_HIDE_FOLDER, [str(demo.resolve()), "pixal_demo"])
        _save("report.png", _screenshot(page), 900)
        page = browser.new_page(viewport={"width": 1180, "height": 760})
        page.set_default_timeout(10_000)
        page.goto(f"{address}/c/Demo_Flex")
        page.locator("a[href*='/c/Demo_Flex/b/']").first.click()
        part = page.locator(f"a[href$='part?type={TYPE}&image={SHOWN}.jpg']").first.get_attribute("href")
        page.goto(f"{address}{part}")
        page.get_by_label("Inspector").fill("Ann")
        page.wait_for_timeout(2000)
        _save("serve.jpg", _screenshot(page), 900)
        browser.close()


def _screenshot(page: Any) -> Image:
    return np.asarray(cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR), np.uint8)


@contextmanager
def _server(demo: Path) -> Any:
    """The address of ``pixal serve``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "pixal", "serve", "--port", str(port)]
    with subprocess.Popen(words, cwd=demo) as process:
        for _ in range(100):
            with socket.socket() as probe:
                probe.settimeout(0.3)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.3)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "pixal_demo"))
