"""A part's overlay and its images for the report, read back from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from pixal.io.files import file_hash
from pixal.io.images import read_image, write_image
from pixal.report.document import PartTruth
from pixal.tasks.photographs.parts import PhotographRecord
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
    saved = save_part(
        ScoredPart(record_of(tmp_path / "a.png"), None, Prediction(values, 7.0, 0.01, True, ()), np.eye(3)),
        folders=PartFolders(figures=tmp_path, maps=None, report=tmp_path / "report"),
        truth=None,
        consensus=np.ones(SIZE, bool),
        cut=Cut(4.0, "conformal"),
        overlays=True,
    )
    assert saved.images is not None
    return Saved(photo, values, tmp_path, saved.images)


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
