"""``auto`` for parts on a plate, parts that fill the frame, and textures; types that are mostly refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from helpers import NO_FIGURES, config_in
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.io.images import read_image
from pixal.synthetic import draw_component, write_batch
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.foreground.methods import Foreground
from pixal.tasks.photographs.preprocessing import layout_choice
from pixal.tasks.photographs.preprocessing.pipeline import preprocess

FRAME = (400, 225)
Painter = Callable[[np.random.Generator], NDArray[Any]]


def blobs(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A texture: smooth noise in grey."""
    noise = cv2.GaussianBlur(rng.normal(size=(120, 160)), (0, 0), 2)
    grey = np.clip(128 + 40 * noise / noise.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def fields(rng: np.random.Generator) -> NDArray[np.uint8]:
    """A texture of uneven light with a dark frame, like a solar cell."""
    image = blobs(rng)
    image[:6] = image[-6:] = image[:, :6] = image[:, -6:] = 5
    return image


def cells(rng: np.random.Generator) -> NDArray[np.uint8]:
    """The middle of a rendered part, moved by up to six pixels: it fills the frame."""
    dx, dy = rng.integers(-6, 7, 2)
    image = np.asarray(draw_component("front", (640, 360))[0])
    centre = image[90 + dy : 250 + dy, 200 + dx : 440 + dx, :3].astype(float)
    return np.clip(centre * rng.uniform(0.95, 1.05) + rng.normal(0, 1.5, centre.shape), 0, 255).astype(np.uint8)


def write(folder: Path, paint: Painter, count: int = 8, seed: int = 0) -> Path:
    target = folder / "photos/surface"
    target.mkdir(parents=True)
    for i in range(count):
        image = paint(np.random.default_rng([seed, i]))
        assert cv2.imwrite(str(target / f"{i:02d}.png"), np.ascontiguousarray(image[..., ::-1]))
    return target.parent


def record(folder: Path, type_name: str, name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / f"out/Part/{type_name}/metadata/{name}.yaml").read_text()))


@pytest.mark.parametrize("paint", [blobs, fields])
def test_a_texture_is_used_as_it_is(tmp_path: Path, paint: Painter, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pixal")
    outcome = preprocess(write(tmp_path, paint), config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert (outcome.done, outcome.failures) == (8, [])
    layout = record(tmp_path, "surface", "background")["layout"]
    assert (layout["method"], layout["apply_alignment"]) == ("none", "texture")
    assert "surface: used as a texture: the whole photographs as they are" in caplog.text
    assert record(tmp_path, "surface", "alignment")["settings"]["apply_alignment"] == "texture"
    inputs = InputSet.load(tmp_path / "out/Part/surface/out.npz")
    assert inputs.shape == (120, 160, 4)  # a small texture is not pooled
    with (tmp_path / "out/Part/surface/figures/aligned_metrics/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["status"], row["ssim"], row["mse"], row["h00"], row["h01"]) for row in rows} == {
        ("ok", "", "", "1", "0")
    }


def test_a_part_that_fills_the_frame_is_aligned_and_completed(tmp_path: Path) -> None:
    photos = write(tmp_path, cells)
    outcome = preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert (outcome.done, outcome.failures) == (8, [])
    layout = record(tmp_path, "surface", "background")["layout"]
    assert (layout["method"], layout["apply_alignment"]) == ("none", True)
    alignment = record(tmp_path, "surface", "alignment")
    reference = read_image(photos / "surface" / alignment["reference"])
    aligned = tmp_path / "out/Part/surface/preprocessed_images/aligned_images"
    for path in sorted(aligned.iterdir()):
        image = read_image(path)
        unseen = image[..., 3] == 0
        light = image[~unseen][:, :3].mean() / reference[~unseen].mean()
        difference = np.abs(image[..., :3].astype(float) - light * reference)
        assert difference.mean() < 6
        if unseen.any():  # the edge of the photograph, repeated, would differ by 20 and more
            assert difference[unseen].mean() < 2


def test_a_photograph_that_shows_too_little_of_a_part_is_refused(tmp_path: Path) -> None:
    photos = write(tmp_path, cells)
    shifted = np.asarray(draw_component("front", (640, 360))[0])[90:250, 270:510, :3]
    cv2.imwrite(str(photos / "surface/99.png"), np.ascontiguousarray(shifted[..., ::-1]))
    outcome = preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert [failure.image for failure in outcome.failures] == ["99.png"]
    assert "of the part is outside the photograph, at most 20 % is allowed" in outcome.failures[0].reason


def test_parts_on_a_plate_are_found_and_the_choice_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batch(tmp_path, component="Part", types=("front",), train=4, good=0, bad=0, frame_size=FRAME)
    photos, config = tmp_path / "train/Part", config_in(tmp_path, *NO_FIGURES)
    preprocess(photos, config=config, quiet=True)
    first = record(tmp_path, "front", "background")
    assert (first["method"], first["layout"]["apply_alignment"]) == ("border", True)
    assert "border: 3 of 3 agree" in first["layout"]["reason"]
    monkeypatch.setattr(layout_choice, "_try", None)  # it would raise TypeError if it was called
    preprocess(photos, config=config, quiet=True)
    assert record(tmp_path, "front", "background")["layout"] == first["layout"]


def test_the_method_whose_masks_agree_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second method cuts off another piece of the part on each photograph; so does the first, in another run."""
    write_batch(tmp_path, component="Part", types=("front",), train=4, good=0, bad=0, frame_size=FRAME)
    monkeypatch.setattr(layout_choice, "available_methods", lambda _: ["border", "rembg"])
    find = layout_choice.find_foreground
    for bad in ("border", "rembg"):
        cuts = iter(range(100))

        def find_part(image: Any, settings: Any, bad: str = bad, cuts: Any = cuts) -> Any:
            alpha = find(image, settings.model_copy(update={"method": "border"})).alpha
            if settings.method == bad:
                x, _, width, _ = cv2.boundingRect(alpha)
                third = next(cuts) % 3
                alpha[:, x + width * third // 3 : x + width * (third + 1) // 3] = 0
            return Foreground(alpha)

        monkeypatch.setattr(layout_choice, "find_foreground", find_part)
        config = config_in(tmp_path, "execution.workers=1")
        photographs = list_photographs(tmp_path / "train/Part")["front"]
        layout = layout_choice.choose_layout(photographs, config.preprocessing, None, config.execution, size=None)
        assert layout.method == ({"border", "rembg"} - {bad}).pop()


def test_parts_that_cannot_be_aligned_are_no_texture(tmp_path: Path) -> None:
    """Plain discs on a plate have no features: the outlines agree, and the user is told, instead of a texture."""

    def disc(rng: np.random.Generator) -> NDArray[np.uint8]:
        image = np.full((180, 240, 3), (30, 60, 160), np.uint8)
        x, y = rng.integers(70, 170), rng.integers(70, 110)
        return np.asarray(cv2.circle(image, (int(x), int(y)), 45, (200, 180, 60), -1))

    with pytest.raises(InputError, match=r"none of 8 images could be processed; the first: surface/.*not aligned"):
        preprocess(write(tmp_path, disc), config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    layout = record(tmp_path, "surface", "background")["layout"]
    assert (layout["method"], layout["apply_alignment"]) == ("border", True)


def test_a_type_that_is_mostly_refused_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One photograph of a texture aligns to itself: nothing may be trained on it alone. Another type goes on."""
    write(tmp_path, blobs)
    write_batch(tmp_path / "b", component="Part", types=("front",), train=2, good=0, bad=0, frame_size=FRAME)
    (tmp_path / "b/train/Part/front").rename(tmp_path / "photos/front")
    settings = ("preprocessing.remove_background.method=none", "preprocessing.alignment.apply_alignment=True")
    config = config_in(tmp_path, *NO_FIGURES, *settings)
    outcome = preprocess(tmp_path / "photos", config=config, quiet=True)
    assert {failure.type_name for failure in outcome.failures} == {"surface"}
    assert len(outcome.failures) == 8
    assert "its type is left out, because most photographs were refused (alignment)" in {
        failure.reason for failure in outcome.failures
    }
    assert "surface: 7 of 8 photographs were refused (alignment), and the type is left out" in caplog.text
    assert "preprocessing.alignment.apply_alignment to texture" in caplog.text
    assert not (tmp_path / "out/Part/surface/out.npz").exists()
    assert (tmp_path / "out/Part/front/out.npz").exists()


def test_most_photographs_without_a_part_leave_the_type_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_batch(tmp_path, component="Part", types=("front",), train=2, good=0, bad=0, frame_size=FRAME)
    photos = tmp_path / "train/Part"
    for number in range(3):
        cv2.imwrite(str(photos / f"front/empty_{number}.png"), np.full((FRAME[1], FRAME[0], 3), 80, np.uint8))
    config = config_in(tmp_path, *NO_FIGURES, "preprocessing.remove_background.method=border")
    with pytest.raises(
        InputError, match=r"none of 5 images could be processed; the first: front/empty_0\.png: no part"
    ):
        preprocess(photos, config=config, quiet=True)
    assert "front: 3 of 5 photographs were refused (background), and the type is left out" in caplog.text


def test_files_that_are_no_photographs_do_not_leave_a_type_out(tmp_path: Path) -> None:
    write_batch(tmp_path, component="Part", types=("front",), train=2, good=0, bad=0, frame_size=FRAME)
    photos = tmp_path / "train/Part"
    for number in range(5):
        (photos / f"front/text_{number}.png").write_text("no image")
    outcome = preprocess(photos, config=config_in(tmp_path, *NO_FIGURES), quiet=True)
    assert outcome.done == 2
    assert len(outcome.failures) == 5
