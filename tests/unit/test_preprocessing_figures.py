"""Which figures of preprocessing are written, kept and deleted, and what their titles say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pixal.errors import AlignmentError
from pixal.io.files import write_bytes
from pixal.plotting import style
from pixal.tasks.photographs.alignment.align import Reference, align_photograph
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.parts import AlignedImageRecord
from pixal.tasks.photographs.preprocessing import figures as figure_files
from pixal.tasks.photographs.preprocessing.figures import AlignmentFigures
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings, Preprocessing

pytestmark = pytest.mark.figures

SHAPE = (360, 640)
ON = AlignmentSettings(draw_matches=True, save_overlays=True, save_metrics=True)


def part_of(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A photograph of a textured part on a plain plate, and its mask."""
    noise = np.random.default_rng(seed).integers(0, 256, (45, 80, 3), dtype=np.uint8)
    texture = cv2.resize(noise, SHAPE[::-1], interpolation=cv2.INTER_CUBIC)
    mask = np.zeros(SHAPE, bool)
    mask[80:280, 120:520] = True
    return np.where(mask[..., None], texture, np.uint8(90)), mask


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_photograph(*part_of(0), ON.number_of_points)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def save(folder: Path, reference: Reference, settings: AlignmentSettings = ON, name: str = "a") -> None:
    image, mask = part_of(0)
    result = align_photograph(image, mask, reference, settings)
    AlignmentFigures(folder, reference, "ref.jpg", settings).save(name, image, mask, result)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["matches/a_matches.jpg", "overlay_diagnostics/a_overlay.jpg"]),
        ({"draw_matches": False}, ["overlay_diagnostics/a_overlay.jpg"]),
        ({"save_overlays": False}, ["matches/a_matches.jpg"]),
        ({"apply_alignment": False}, ["overlay_diagnostics/a_overlay.jpg"]),
        ({"draw_matches": False, "save_overlays": False}, []),
    ],
)
def test_the_wanted_figures_are_written_and_found(
    tmp_path: Path, reference: Reference, changes: dict[str, Any], expected: list[str]
) -> None:
    settings = ON.model_copy(update=changes)
    assert figure_files.figures_exist(tmp_path, "a", settings) == (not expected)
    save(tmp_path, reference, settings)
    assert names(tmp_path) == expected
    assert figure_files.figures_exist(tmp_path, "a", settings)
    assert figure_files.figures_exist(tmp_path, "a", ON) == (len(expected) == 2)


@pytest.mark.parametrize("failure", ["other part", "no texture", "another scale"])
def test_a_photograph_without_a_pose_has_a_match_figure_and_no_old_overlay(
    tmp_path: Path, reference: Reference, failure: str
) -> None:
    save(tmp_path, reference)
    image, mask = part_of(1 if failure == "other part" else 0)
    if failure == "no texture":
        image = np.full_like(image, 90)
    elif failure == "another scale":
        shrink = np.array([[0.35, 0, 200], [0, 0.35, 120]])
        image = np.asarray(cv2.warpAffine(image, shrink, SHAPE[::-1], borderMode=cv2.BORDER_REPLICATE), np.uint8)
        mask = cv2.warpAffine(mask.view(np.uint8), shrink, SHAPE[::-1]) > 0
    with pytest.raises(AlignmentError) as error:
        align_photograph(image, mask, reference, ON)
    before = (tmp_path / "matches/a_matches.jpg").read_bytes()
    AlignmentFigures(tmp_path, reference, "ref.jpg", ON).save_failure("a", image, mask, str(error.value))
    assert names(tmp_path) == ["matches/a_matches.jpg"]
    assert (tmp_path / "matches/a_matches.jpg").read_bytes() != before
    off = ON.model_copy(update={"draw_matches": False})
    AlignmentFigures(tmp_path, reference, "ref.jpg", off).save_failure("b", image, mask, "why")
    assert names(tmp_path) == ["matches/a_matches.jpg"]


def test_only_figures_of_other_photographs_are_removed(tmp_path: Path, reference: Reference) -> None:
    for name in ("a", "b", "a_overlay", "a_matches"):
        save(tmp_path, reference, name=name)
    (tmp_path / "metrics.png").write_bytes(b"")
    (tmp_path / "results.csv").write_text("")
    figure_files.remove_other_figures(tmp_path, {"a", "a_matches"}, ON)
    kept = [
        f"{folder}/{n}_{kind}.jpg"
        for folder, kind in (("matches", "matches"), ("overlay_diagnostics", "overlay"))
        for n in ("a", "a_matches")
    ]
    assert names(tmp_path) == sorted([*kept, "metrics.png", "results.csv"])


@pytest.mark.parametrize(
    ("key", "removed"),
    [("draw_matches", "matches"), ("save_overlays", "overlay_diagnostics"), ("save_metrics", "metrics.png")],
)
def test_figures_that_are_turned_off_are_removed(tmp_path: Path, reference: Reference, key: str, removed: str) -> None:
    save(tmp_path, reference)
    write_bytes(tmp_path / "metrics.png", b"")
    figure_files.remove_other_figures(tmp_path, {"a"}, ON.model_copy(update={key: False}))
    assert {path.name for path in tmp_path.iterdir()} == {"matches", "overlay_diagnostics", "metrics.png"} - {removed}


def test_removing_from_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    figure_files.remove_other_figures(tmp_path / "none", set(), ON)
    assert names(tmp_path) == []


def test_metrics_of_records_with_and_without_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = kept_figures(monkeypatch)
    rows = [
        AlignedImageRecord(image="a.jpg", source="a.jpg", status="ok", inliers=90, ssim=1.0, mse=0.0),
        AlignedImageRecord(image="b.jpg", source="b.jpg", status="failed", reason="not aligned: 3 matches"),
    ]
    figure_files.save_alignment_metrics(tmp_path / "metrics.png", rows, ON, "front", reference="a.jpg")
    figure_files.save_alignment_metrics(tmp_path / "metrics.png", rows, ON, "front")
    assert "b.jpg: 3 matches" in figures[0].axes[2].get_xlabel()
    shown = [[str(each.get_label()) for each in figure.axes[0].lines] for figure in figures]
    assert ["reference" in labels for labels in shown] == [True, False]
    limits = [next(each for each in ax.lines if each.get_label() == "limit") for ax in figures[0].axes]
    wanted = [ON.MIN_GOOD_MATCHES, ON.MIN_SCORE_THRESHOLD, ON.MAX_MSE_THRESHOLD]
    assert [np.asarray(each.get_ydata())[0] for each in limits] == wanted


@pytest.mark.parametrize("given", [None, "masks/front.png", {"front": "masks/front.png"}, {"back": "back.png"}])
def test_titles_name_the_source_of_the_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | dict[str, str] | None
) -> None:
    figures = kept_figures(monkeypatch)
    image, mask = part_of(0)
    nothing = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    ignored = np.zeros(SHAPE, bool)
    ignored[100:120, 200:260] = True
    settings = Preprocessing.model_validate({"preprocessor": {"mask": given, "consensus": 0.3}})
    state = PreprocessingState(
        "front", Reference(image, mask, nothing), mask, ignored, Box(120, 80, 400, 200), None, settings
    )
    share = mask.astype(np.float32)
    share[80:90] *= 0.5
    brightness = image.mean(axis=2).astype(np.float32)
    figure_files.save_crop_figures(tmp_path, state, share, brightness, left_out=[("odd.jpg", 0.25)])
    crop, consensus, stacked = figures
    named = given in ("masks/front.png", {"front": "masks/front.png"})
    assert ("mask (front.png)" in crop.get_suptitle()) == named
    assert ("used instead" in consensus.get_suptitle()) == named
    assert "odd.jpg (IoU\u00a00.25)" in consensus.get_suptitle()
    entries = [[text.get_text() for text in figure.legends[0].get_texts()] for figure in figures]
    assert "ignored: 1 region, 1,200 pixels" in entries[0]
    assert entries[1] == ["consensus mask: more than 0.3 of the masks"]
    assert any(entry.startswith("crop box: 400 × 200 pixels at (120, 80)") for entry in entries[2])
    assert stacked.axes[0].images[0].get_clim()[1] <= 1.0


def test_channels_are_blank_outside_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = kept_figures(monkeypatch)
    image, mask = part_of(0)
    nothing = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    settings = Preprocessing.model_validate({"preprocessor": {"channels": ["R", "G"], "pool_size": 2}})
    state = PreprocessingState(
        "front", Reference(image, mask, nothing), mask, ~mask, Box(100, 60, 440, 240), None, settings
    )
    figure_files.save_channels(tmp_path / "channels.png", state.to_input(image), state)
    panels = [ax.images[0].get_array() for ax in figures[0].axes if ax.get_title()]
    assert len(panels) == 2
    for shown in panels:
        assert isinstance(shown, np.ma.MaskedArray)
        assert (shown.mask == ~state.mask).all()


def test_long_names_leave_room_for_the_measures(reference: Reference, tmp_path: Path) -> None:
    save(tmp_path, reference, name="a" * 120)
    title = AlignmentFigures(tmp_path, reference, "ref.jpg", ON)._title("a" * 120)
    assert len(title) < 70
    assert style.shorten("a" * 120, 48) in title


def kept_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures, in the order in which they would have been written."""
    figures: list[Figure] = []
    monkeypatch.setattr(figure_files, "write_figure", lambda _, figure, **options: figures.append(figure))
    return figures
