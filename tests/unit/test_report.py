from __future__ import annotations

import base64
import hashlib
import json
import re
import weakref
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from pixal.errors import InputError
from pixal.report import ResultsDocument, render, write_report
from pixal.report.document import PartResult

Image = NDArray[np.uint8]
Pair = tuple[Image, Image]
HOSTILE = "</script><img src=x onerror=alert(1)>&\"'.jpg"
REGION: dict[str, Any] = {"x": 200, "y": 40, "width": 30, "height": 20, "area_px": 500, "peak": 9.0, "channel": "LAB_a"}
REGION |= {"reference": (100, 20, 15, 10)}


def part(image: str = "a.jpg", **changes: Any) -> dict[str, Any]:
    plain = {"type": "front", "image": image, "source": f"batch/{image}", "score": 1.0, "p_value": 0.5}
    plain |= {"threshold": 2.0, "verdict": "pass", "reason": "", "overlay": None, "width": 320, "height": 180}
    return {**plain, "regions": [], "truth": None, **changes}


def document(*parts: dict[str, Any], **changes: Any) -> ResultsDocument:
    kind = {"threshold": 2.0, "method": "tail", "false_alarm_rate": 0.01, "training_scores": [0.5, 1.0]}
    kind |= {"parts": len(parts), "failed": 0, "errors": 0}
    plain = {
        "schema_version": 1,
        "component": "FLEX",
        "created": "2025-11-21T09:42:10Z",
        "pixal_version": "0.1",
    }
    plain |= {
        "model": {"family": "autoencoder", "name": "dense", "trained": "2025-11-01T08:00:00", "good_images": 12},
        "drift": {"level": 0.001},
    }
    content = {**plain, "types": {"front": kind}, "parts": parts, **changes}
    return ResultsDocument.model_validate(content)


def photograph(seed: int = 0) -> Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (320, 180), interpolation=cv2.INTER_CUBIC), np.uint8)


def images_of(_: PartResult) -> Pair:
    return photograph(1), photograph(2)


class Page(HTMLParser):
    """Every element with its attributes, and the text of the scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.text = ""
        self._inside: str | None = None
        self.feed(path.read_text(encoding="utf-8"))
        self.data = json.loads(self.texts["results"], parse_constant=pytest.fail)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = dict(attrs).get("id") or tag
            self.texts[self._inside] = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self.text += data
        else:
            self.texts[self._inside] += data

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.elements if (value := attrs.get(name))]


def decoded(uri: str) -> Image:
    raw = np.frombuffer(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")), np.uint8)
    bgr = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(bgr[..., ::-1], np.uint8)


def test_each_part_gets_its_own_reduced_images_in_order(tmp_path: Path) -> None:
    asked = []

    def images(part: PartResult) -> Pair | None:
        asked.append(part.image)
        return (photograph(len(asked)), photograph(10 + len(asked))) if part.image != "b.jpg" else None

    path = tmp_path / "new" / "report.html"
    write_report(path, document(part("a.jpg"), part("b.jpg"), part("c.jpg")), images, max_width=160)
    page = Page(path)
    assert asked == ["a.jpg", "b.jpg", "c.jpg"]
    assert [part["has_images"] for part in page.data["parts"]] == [True, False, True]
    assert "photo-1" not in page.texts
    for name, seed in (("photo-0", 1), ("overlay-0", 11), ("photo-2", 3), ("overlay-2", 13)):
        half = photograph(seed).reshape(90, 2, 160, 2, 3).mean(axis=(1, 3))
        shown = decoded(page.texts[name])
        assert shown.shape == (90, 160, 3)
        assert np.abs(shown - half).mean() < 6
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html"]


def test_the_close_up_shows_the_worst_region(tmp_path: Path) -> None:
    photo = np.full((360, 640, 3), 90, np.uint8)  # twice the size that the part states
    photo[80:120, 400:460] = (250, 20, 20)
    regions = [{**REGION, "x": 5, "peak": 3.0}, REGION]
    write_report(tmp_path / "r.html", document(part(verdict="fail", regions=regions)), lambda _: (photo, photo))
    close_up = decoded(Page(tmp_path / "r.html").attributes("src")[1])
    height, width = close_up.shape[:2]
    assert np.abs(close_up[height // 2, width // 2].astype(int) - (250, 20, 20)).max() < 25
    assert np.abs(close_up[2, 2].astype(int) - 90).max() < 25
    share = float((close_up[..., 0] > 180).mean())
    assert 0.1 < share < 0.5


def test_names_and_texts_are_never_markup(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    texts: dict[str, Any] = {
        "type": HOSTILE,
        "reason": HOSTILE,
        "source": HOSTILE,
        "truth": {"label": 1, "kind": HOSTILE},
    }
    hostile = part(HOSTILE, overlay="javascript:alert(1)", **texts)
    kinds = dict.fromkeys((HOSTILE, "b"), document().types["front"])
    model = {"family": HOSTILE, "name": HOSTILE, "trained": HOSTILE, "good_images": 1, "type": HOSTILE}
    metrics = {"types": {HOSTILE: {HOSTILE: 0.5}}, "overall": {"image_auroc": 0.5}}
    write_report(
        path,
        document(hostile, types=kinds, component=HOSTILE, notes=[HOSTILE], model=model, metrics=metrics),
        images_of,
    )
    page = Page(path)
    assert not page.attributes("onerror")
    assert page.data["parts"][0]["image"] == page.data["component"] == HOSTILE
    assert page.text.count(HOSTILE) >= 10
    assert page.data["parts"][0]["overlay"] == "javascript%3Aalert%281%29"
    assert [tag for tag, _ in page.elements].count("script") == 4  # the data, two images, our own


def test_the_page_loads_nothing_from_outside_and_runs_only_its_own_script(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(path, document(part(verdict="fail", regions=[REGION])), images_of)
    page = Page(path)
    addresses = page.attributes("src") + page.attributes("href")
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"url\(|@import", page.texts["style"])
    policy = next(value for value in page.attributes("content") if value.startswith("default-src 'none'"))
    for name in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(page.texts[name].encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not page.attributes("style")  # the policy would block them
    assert not [key for _, attrs in page.elements for key in attrs if key.startswith("on")]


@pytest.mark.parametrize("thumbnails_inside", [True, False])
def test_images_over_the_limit_are_next_to_the_page(tmp_path: Path, thumbnails_inside: bool) -> None:
    path, folder = tmp_path / "report.html", tmp_path / "report_images"
    batch = document(part("1.jpg"), part("2.jpg"))
    write_report(path, batch, images_of)
    thumbnails = sum(len(address) for address in Page(path).attributes("src"))
    limit = thumbnails / 1e6 + 1e-4 if thumbnails_inside else thumbnails / 2e6
    assert not folder.exists()

    write_report(path, batch, images_of, embed_limit_mb=limit)
    page = Page(path)
    assert len(page.attributes("src")) == 2
    assert all(address.startswith("data:") == thumbnails_inside for address in page.attributes("src"))
    for name in ("photo-0", "overlay-0", "photo-1", "overlay-1"):
        assert page.texts[name].startswith("report_images/")
        shown = cv2.imread(str(tmp_path / page.texts[name]))
        assert shown is not None
        assert shown.shape == (180, 320, 3)
    assert "keep it next to this page" in page.text

    (folder / "mine.jpg").write_bytes(b"kept")
    write_report(path, batch, images_of)
    assert [file.name for file in folder.iterdir()] == ["mine.jpg"]
    assert Page(path).texts["photo-0"].startswith("data:")


def test_many_thumbnails_are_next_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, batch = tmp_path / "report.html", document(*(part(f"{i}.jpg") for i in range(8)))
    write_report(path, batch, images_of, embed_limit_mb=0.03)
    assert all(address.startswith("data:") for address in Page(path).attributes("src"))
    monkeypatch.setattr(render, "THUMBNAIL_LIMIT_MB", 0.0005)
    write_report(path, batch, images_of, embed_limit_mb=0.03)
    assert all(address.startswith("report_images/") for address in Page(path).attributes("src"))


def test_a_failure_leaves_the_old_report_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def images(part: PartResult) -> Pair:
        if part.image == "b.jpg":
            raise InputError("gone")
        return photograph(), photograph()

    with pytest.raises(InputError, match="gone"):
        write_report(path, document(part("a.jpg"), part("b.jpg")), images, embed_limit_mb=0)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_images_of_one_part_only_are_in_memory(tmp_path: Path) -> None:
    made: list[weakref.ref[Image]] = []
    most = 0

    def images(_: PartResult) -> Pair:
        nonlocal most
        most = max(most, sum(reference() is not None for reference in made))
        pair = photograph(), photograph()
        made.extend(map(weakref.ref, pair))
        return pair

    write_report(tmp_path / "r.html", document(*(part(f"{i}.jpg") for i in range(6))), images)
    assert len(made) == 12
    assert most <= 2


def test_numbers_that_json_does_not_have_become_none(tmp_path: Path) -> None:
    odd = part(score=np.float32(1.5), p_value=float("nan"), threshold=float("inf"), source=str(Path("b") / "a.jpg"))
    write_report(tmp_path / "r.html", document(odd), images_of)
    one = Page(tmp_path / "r.html").data["parts"][0]
    assert (one["score"], one["p_value"], one["threshold"]) == (1.5, None, None)
    assert Path(one["source"]) == Path("b") / "a.jpg"


def test_measures_show_intervals_and_kinds(tmp_path: Path) -> None:
    values = {"image_auroc": 0.98712, "intervals": {"image_auroc": [0.961, 0.9984]}, "aupro": None}
    front = {**values, "kinds": {"scratch": {"parts": 12, "detection_rate": 0.75}}}
    write_report(
        tmp_path / "r.html",
        document(part(), metrics={"types": {"front": front}, "overall": values}),
        images_of,
    )
    text = re.sub(r"\s+", " ", Page(tmp_path / "r.html").text)
    assert "0.987 (0.961–0.998)" in text
    assert "Image AUROC95 %: 0.96–1.00" in text.replace("\u2060", "")
    assert "front · scratch 12 0.750".replace(" ", "") in text.replace(" ", "")
    assert "AUPRO" in text


def test_the_summary_counts_the_verdicts(tmp_path: Path) -> None:
    parts = [part("a.jpg", verdict="fail", score=3.0), part("b.jpg"), part("c.jpg")]
    parts.append(part("d.jpg", verdict="error", score=None, p_value=None, threshold=None, reason="too dark"))
    write_report(tmp_path / "r.html", document(*parts, notes=["Drift: darker"]), images_of)
    text = re.sub(r"\s+", " ", Page(tmp_path / "r.html").text)
    for words in (
        "4photographs",
        "2✓ passed",
        "1✕ failed",
        "1! error",
        "1 %false alarms requested",
        "Drift: darker",
        "too dark",
    ):
        assert words in text
    assert "21 November 2025, 09:42" in text


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_an_image_of_another_type_is_refused_with_its_name(tmp_path: Path, image: Any) -> None:
    with pytest.raises(InputError, match=r"a\.jpg.*\(H, W, 3\) uint8"):
        write_report(tmp_path / "r.html", document(part()), lambda _: (image, image))


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        document(part(), schema_version=2)


def drift(**changes: Any) -> dict[str, Any]:
    plain = {"type": "front", "quantity": "brightness", "training": 0.4, "batch": 0.34, "p_value": 3e-9}
    plain |= {"test": "rank", "message": "Light: 15% darker", "advice": "Set the lamp."}
    return {"level": 0.001, "findings": [{**plain, **changes}]}


def test_drift_is_shown_above_the_verdicts_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(path, document(part(), drift=drift(message=HOSTILE, advice="Set the lamp.")), images_of)
    page = Page(path)
    text = " ".join(page.text.split())
    assert f"front · {HOSTILE} p < 1e-06. Set the lamp." in text
    assert "the probability of this warning is at most 0.001" in text
    assert not page.attributes("onerror")
    html = path.read_text("utf-8")
    assert html.index('class="drift"') < html.index('class="cards"') < html.index('id="parts"')
    write_report(path, document(part(), drift=drift(p_value=0.0004)), images_of)
    assert "p = 0.0004." in " ".join(Page(path).text.split())


def test_a_batch_like_training_has_no_drift_banner(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", document(part()), images_of)
    assert not [tag for tag, attrs in Page(tmp_path / "r.html").elements if attrs.get("class") == "drift"]
