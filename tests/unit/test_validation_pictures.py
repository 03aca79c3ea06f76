"""A part's overlay and its pictures for the report, read back from their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.io.images import read_image, write_image
from pixal.tasks.photographs.verdicts.part_files import save_part
from pixal.validation.scoring import Cut, Prediction

SIZE = (180, 320)


class Saved(NamedTuple):
    """What was drawn of a part: its photograph, its map, and the folder of the overlay and the report's pictures."""

    photo: NDArray[np.uint8]
    values: NDArray[np.float32]
    folder: Path
    report: Any


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    photo = np.full((*SIZE, 3), 100, np.uint8)
    write_image(tmp_path / "a.png", photo)
    values = np.zeros(SIZE, np.float32)
    values[2:60, 20:300] = 0.5
    values[8:40, 40:104] = 7.0  # where a caption on top would be
    record = {"image": "a.png", "name": "a", "source": tmp_path / "a.png", "width": SIZE[1], "height": SIZE[0]}
    _, files = save_part(
        (record, Prediction(values, 7.0, 0.01, True, ()), np.eye(3)),
        truth=None,
        cut=Cut(4.0, "conformal"),
        figures=tmp_path,
        maps=None,
        report=tmp_path / "report",
        overlays=True,
    )
    return Saved(photo, values, tmp_path, files)


def test_the_overlay_has_the_photographs_size_and_leaves_the_part_alone(saved: Saved) -> None:
    overlay = read_image(saved.folder / "anomaly_overlay_a.png")
    assert overlay.shape == saved.photo.shape
    drawn = (overlay != saved.photo).any(axis=2)
    part = saved.values > 0
    assert (drawn[part] == (saved.values[part] > 4)).all()
    assert drawn[~part].sum() > 1000  # caption and colour bar


def test_the_report_gets_the_tint_and_nothing_else_in_the_photographs_frame(saved: Saved) -> None:
    photo, overlay = (read_image(saved.folder / "report" / name).astype(int) for name in saved.report[:2])
    assert photo.shape == overlay.shape == saved.photo.shape
    redder = (overlay - photo)[..., 0] > 25
    tinted = saved.values > 4
    around = np.zeros(SIZE, bool)
    around[:56, 24:120] = True  # JPEG smears by a block
    assert redder[12:36, 48:96].all()
    assert not redder[~around].any()
    assert np.abs(overlay - photo)[~around].max() < 4  # no caption, no colour bar
    assert redder[tinted].mean() > 0.9
