"""A part's overlay and its images for the report, read back from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pixal.io.files import file_hash
from pixal.io.images import read_image, write_image
from pixal.report import images
from pixal.report.document import PartTruth
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.preprocessing.state import input_to_photo
from pixal.tasks.photographs.verdicts.part_files import PartFolders, ScoredPart, count_pixels, save_part
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.validation.pixel_metrics import near_part
from pixal.validation.scoring import Cut, Prediction

SIZE = (180, 320)


class Saved(NamedTuple):
    """Return the photograph of a part, its map, the folder of the overlay, and the names of the report images."""

    photo: NDArray[np.uint8]
    values: NDArray[np.float32]
    folder: Path
    images: tuple[str | None, ...]


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    photo = np.full((*SIZE, 3), 100, np.uint8)
    write_image(tmp_path / "a.png", photo)
    values = np.zeros(SIZE, np.float32)
    values[2:60, 20:300] = 0.5
    values[8:40, 40:104] = 7.0  # where a caption on top would be
    part = ScoredPart(record_of(tmp_path / "a.png"), None, Prediction(values, 7.0, 0.01, True, ()), np.eye(3))
    return Saved(photo, values, tmp_path, report_images(tmp_path, part))


def report_images(folder: Path, part: ScoredPart) -> tuple[str | None, ...]:
    """Save a part with its overlay; return the names of its images in the report."""
    saved = save_part(
        part,
        folders=PartFolders(figures=folder, maps=None, report=folder / "report"),
        truth=None,
        consensus=np.ones(SIZE, bool),
        cut=Cut(4.0, "conformal"),
        overlays=True,
    )
    assert saved.images is not None
    return saved.images


def record_of(path: Path) -> PhotographRecord:
    return PhotographRecord(
        image=path.name,
        name=path.stem,
        source=str(path),
        status="ok",
        sha256=file_hash(path) if path.is_file() else "of a file that is gone",
        width=SIZE[1],
        height=SIZE[0],
    )


def test_the_overlay_has_the_photographs_size_and_leaves_the_part_alone(saved: Saved) -> None:
    overlay = read_image(saved.folder / "anomaly_overlay_a.png")
    assert overlay.shape == saved.photo.shape
    drawn = (overlay != saved.photo).any(axis=2)
    part = saved.values > 0
    assert (drawn[part] == (saved.values[part] > 4)).all()
    assert drawn[~part].sum() > 1000  # caption and colour bar


def test_the_report_gets_the_tint_and_nothing_else_in_the_photographs_frame(saved: Saved) -> None:
    photo, overlay = (read_image(saved.folder / "report" / str(name)).astype(int) for name in saved.images[:2])
    assert photo.shape == overlay.shape == saved.photo.shape
    redder = (overlay - photo)[..., 0] > 25
    tinted = saved.values > 4
    around = np.zeros(SIZE, bool)
    around[:56, 24:120] = True  # JPEG smears by a block
    assert redder[12:36, 48:96].all()
    assert not redder[~around].any()
    assert np.abs(overlay - photo)[~around].max() < 4  # no caption, no colour bar
    assert redder[tinted].mean() > 0.9


def test_the_decoded_photograph_is_used_and_its_file_is_read_only_without_it(tmp_path: Path) -> None:
    """With the photograph in memory its file is not needed. Without both, the overlay is drawn on grey."""
    photo = np.full((*SIZE, 3), 200, np.uint8)
    prediction = Prediction(np.zeros(SIZE, np.float32), 1.0, 0.5, False, ())
    record = record_of(tmp_path / "gone.png")
    folders = PartFolders(figures=tmp_path, maps=tmp_path / "maps", report=tmp_path / "report")

    def overlay_of(photo: NDArray[np.uint8] | None) -> tuple[NDArray[Any], tuple[str | None, ...] | None]:
        part = ScoredPart(record, photo, prediction, np.eye(3))
        saved = save_part(
            part, folders=folders, truth=None, consensus=np.ones(SIZE, bool), cut=Cut(4.0, "conformal"), overlays=True
        )
        return read_image(tmp_path / "anomaly_overlay_gone.png"), saved.images

    with_photo, images = overlay_of(photo)
    assert np.median(with_photo) == 200
    assert images is not None
    without, images = overlay_of(None)
    assert np.median(without) == 64
    assert images is None
    write_image(tmp_path / "gone.png", photo)  # another photograph, which the verdict is not about
    without, images = overlay_of(None)
    assert np.median(without) == 64
    assert images is None
    assert (tmp_path / "maps/gone.tiff").is_file()


def test_pixels_near_the_part_are_found_through_the_pose(tmp_path: Path) -> None:
    """The consensus mask lies in the reference frame, the map and the mask of the truth in that of the photograph."""
    consensus, mask = np.zeros((100, 100), bool), np.zeros(SIZE, bool)
    consensus[20:60, 30:70] = True
    mask[70:75, 110:130] = True
    write_image(tmp_path / "mask.png", (255 * mask).astype(np.uint8))
    tifffile.imwrite(tmp_path / "a.tiff", mask.astype(np.float16))
    pose = {f"h{row}{column}": float(row == column) for row in range(3) for column in range(3)}
    record = record_of(tmp_path / "a.png").replace(**pose | {"h02": -80.0, "h12": -50.0})
    truth = Truth({"a": PartTruth(1, "")}, {"a": tmp_path / "mask.png"})
    counts = count_pixels(record, truth=truth, consensus=consensus, maps=tmp_path)
    moved = np.zeros(SIZE, bool)
    moved[70:110, 110:150] = True
    assert counts is not None
    assert counts.near.sum() == (near_part(moved) & ~mask).sum()
    assert counts.negative.sum() == (~mask).sum()


@pytest.mark.parametrize("size", [(1080, 1920), (1000, 1501), (720, 1280), (77, 2000)])
@pytest.mark.parametrize("window", [np.s_[10:43, 700:1211], np.s_[0:77, 0:1280], np.s_[5:5, 3:3]])
def test_only_what_has_changed_is_reduced_again(size: tuple[int, int], window: tuple[slice, slice]) -> None:
    random = np.random.default_rng(4)
    photo = random.integers(0, 256, (*size, 3), dtype=np.uint8)
    overlay = photo.copy()
    overlay[window] = random.integers(0, 256, overlay[window].shape, dtype=np.uint8)
    again = images._reduce_window(overlay, window, images._reduce(photo, 1280))
    np.testing.assert_array_equal(again, images._reduce(overlay, 1280))


def test_a_map_is_moved_to_its_box_on_the_photograph_and_stored_without_loss(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    values = random.uniform(0, 9, (40, 70)).astype(np.float32)
    poses = [
        np.array([[0.5, 0.1, -20], [-0.1, 0.5, 5], [1e-4, -1e-4, 1]]),
        np.array([[0.25, 0, 10.3], [0, 0.25, 3.1], [0, 0, 1]]),  # larger than the photograph
        np.array([[1.0, 0, -400], [0, 1, 0], [0, 0, 1]]),  # beside it
    ]
    for photo_to_input in poses:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        expected = cv2.warpPerspective(values, photo_to_input, SIZE[::-1], flags=flags)
        moved = input_to_photo(values, photo_to_input, SIZE)
        np.testing.assert_allclose(moved, expected, atol=0.02)  # OpenCV rounds the coordinates of pixels to float32
        np.testing.assert_array_equal(moved > 0, expected > 0)
        save_part(
            ScoredPart(record_of(tmp_path / "a.png"), None, Prediction(values, 9.0, None, True, ()), photo_to_input),
            folders=PartFolders(figures=tmp_path, maps=tmp_path, report=tmp_path),
            truth=None,
            consensus=np.ones(SIZE, bool),
            cut=Cut(4.0, "conformal"),
            overlays=False,
        )
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tiff"), moved.astype(np.float16))


def test_a_part_without_anomalies_is_shown_by_its_photograph(tmp_path: Path) -> None:
    photo = np.random.default_rng(6).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    names = []
    for score in (1.0, 5.0):
        values = np.full(SIZE, score, np.float32)
        part = ScoredPart(record_of(tmp_path / "a.png"), photo, Prediction(values, score, 0.5, False, ()), np.eye(3))
        names.append(report_images(tmp_path, part))
    assert names[0][0] == names[0][1] == names[1][0] != names[1][1]
