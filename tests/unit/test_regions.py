"""Regions of synthetic blobs: their position on the photograph for known homographies and pooling."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import Preprocessing
from pixal.validation.regions import Region, find_regions

IDENTITY = np.eye(3)


def regions_of(anomaly_map: np.ndarray, **options: Any) -> list[Region]:
    settings: dict[str, Any] = {
        "threshold": 2.0,
        "low": 0.5,
        "photo_to_input": IDENTITY,
        "size": anomaly_map.shape,
    } | options
    deviations = settings.pop("deviations", anomaly_map[..., None])
    channels = settings.pop("channels", ("R",))
    return find_regions(anomaly_map.astype(np.float32), deviations, channels, **settings)


def blobs() -> np.ndarray:
    values = np.zeros((20, 30))
    values[2:5, 3:9] = 3.0
    values[10:14, 20:22] = 5.0
    values[17, 1] = 1.9  # below the threshold
    return values


def test_regions_have_boxes_and_areas_and_are_sorted_by_peak() -> None:
    worst, other = regions_of(blobs())
    assert (worst.x, worst.y, worst.width, worst.height) == (20, 10, 2, 4)
    assert (worst.area_px, worst.peak, worst.reference) == (8, 5, (20, 10, 2, 4))
    assert (other.x, other.y, other.width, other.height) == (3, 2, 6, 3)
    assert (other.area_px, other.peak) == (18, 3)


def test_the_low_threshold_extends_regions_but_starts_none() -> None:
    values = np.zeros((12, 30))
    values[5, 5:15] = 1.2  # above half of the threshold, and connected to a peak
    values[6, 15] = 2.5  # by a corner
    values[5, 20:28] = 1.9  # connected to none
    values[5, 3] = 0.9  # below
    (actual,) = regions_of(values)
    assert (actual.x, actual.y, actual.width, actual.height, actual.area_px) == (5, 5, 11, 2, 11)
    (narrow,) = regions_of(values, low=1.0)
    assert (narrow.x, narrow.y, narrow.area_px) == (15, 6, 1)


def test_two_peaks_connected_above_the_low_threshold_are_one_region() -> None:
    values = np.zeros((5, 20))
    values[2, 2:18] = [3, 3, 3, 3, 3, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5, 4, 4, 4, 4, 4]
    assert len(regions_of(values)) == 1
    difference = regions_of(values, low=0.8)
    assert [region.peak for region in difference] == [4, 3]


def test_a_value_equal_to_the_threshold_is_no_region() -> None:
    values = np.zeros((5, 5))
    values[2, 2] = 2.0
    assert regions_of(values) == []
    assert len(regions_of(values, threshold=1.999)) == 1


def test_a_value_equal_to_the_low_threshold_does_not_extend_a_region() -> None:
    values = np.zeros((5, 9))
    values[2, 2:7] = [1.0, 1.5, 3.0, 1.5, 1.0]
    (actual,) = regions_of(values)
    assert (actual.x, actual.width) == (3, 3)


def test_a_region_names_the_channel_that_deviates_most() -> None:
    values = np.zeros((8, 8))
    values[1:3, 1:3] = values[5:7, 5:7] = 3
    deviations = np.ones((8, 8, 3))
    deviations[1:3, 1:3, 2] = 4
    deviations[5:7, 5:7, 1] = [[9, 0], [0, 0]]  # the mean over the region counts: 2.25
    deviations[0, 0, 0] = 100  # outside all regions
    values[5, 5] = 3.5
    actual = regions_of(values, deviations=deviations, channels=("R", "G", "B"))
    assert [(region.peak, region.channel) for region in actual] == [(3.5, "G"), (3, "B")]


def state_of(pool: int, box: tuple[int, int, int, int]) -> PreprocessingState:
    """A fitted preprocessing whose input is cut from ``box`` of the frame and pooled."""
    settings = Preprocessing.model_validate({"preprocessor": {"pool_size": pool, "channels": ["R"]}})
    frame = np.zeros((400, 500), bool)
    features = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    reference = Reference(np.zeros((400, 500, 3), np.uint8), frame, features)
    return PreprocessingState("front", reference, ~frame, frame, Box(*box), None, settings)


@pytest.mark.parametrize("pool", [1, 2, 3, 5])
def test_without_rotation_a_box_covers_exactly_the_pooled_pixels(pool: int) -> None:
    state = state_of(pool, (40, 60, 30 * pool, 20 * pool))
    (actual,) = regions_of(
        np.pad(np.full((3, 6), 3.0), ((2, 15), (5, 19))), photo_to_input=state.photo_to_input(IDENTITY), size=(400, 500)
    )
    assert (actual.x, actual.y) == (40 + 5 * pool, 60 + 2 * pool)
    assert (actual.width, actual.height) == (6 * pool, 3 * pool)
    assert actual.area_px == pytest.approx(18 * pool**2)
    assert actual.reference == (5, 2, 6, 3)


POSES = {
    "rotated": cv2.getRotationMatrix2D((250, 200), 17, 1.1),
    "upside down": cv2.getRotationMatrix2D((250, 200), 178, 0.8),
}
PERSPECTIVE = np.array([[1.05, 0.08, -20.0], [-0.06, 0.97, 15.0], [1.5e-4, -1e-4, 1.0]])


@pytest.mark.parametrize("pool", [1, 2, 4])
@pytest.mark.parametrize("name", [*POSES, "perspective"])
def test_box_and_area_equal_those_of_the_mask_warped_at_full_resolution(name: str, pool: int) -> None:
    pose = PERSPECTIVE if name == "perspective" else np.vstack([POSES[name], [0, 0, 1]])  # photograph to frame
    box = (120, 100, 240, 200)
    state = state_of(pool, box)
    y, x = np.mgrid[: 200 // pool, : 240 // pool]
    blob = ((x - 120 / pool) / (50 / pool)) ** 2 + ((y - 90 / pool) / (25 / pool)) ** 2 < 1
    (actual,) = regions_of(blob * 3.0, photo_to_input=state.photo_to_input(pose), size=(400, 500))

    frame = np.zeros((400, 500), np.float32)
    frame[100:300, 120:360] = np.kron(blob, np.ones((pool, pool)))
    photo = cv2.warpPerspective(frame, pose, (500, 400), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP) > 0.5
    rows, columns = np.nonzero(photo)
    assert actual.area_px == pytest.approx(photo.sum(), rel=0.01)
    expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    got = (actual.x, actual.y, actual.x + actual.width, actual.y + actual.height)
    # A pixel at the edge may be covered in part only.
    assert max(abs(a - b) for a, b in zip(got, expected, strict=True)) <= 2
    # No defect pixel lies outside the box.
    assert got[0] <= expected[0]
    assert got[1] <= expected[1]
    assert got[2] >= expected[2]
    assert got[3] >= expected[3]


@pytest.mark.parametrize(
    "shift", [(-300.0, 0.0), (300.0, 0.0), (0.0, -300.0), (0.0, 300.0), (-10.0, -3.0), (18.0, 13.0)]
)
def test_a_box_is_clipped_to_the_photograph(shift: tuple[float, float]) -> None:
    to_input = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]])
    for actual in regions_of(blobs(), photo_to_input=to_input):
        assert 0 <= actual.x < actual.x + actual.width <= 30
        assert 0 <= actual.y < actual.y + actual.height <= 20


@pytest.mark.parametrize(("shift", "expected"), [(-300.0, (29, 1)), (300.0, (0, 1))])
def test_a_region_outside_the_photograph_is_a_pixel_at_its_edge(shift: float, expected: tuple[int, int]) -> None:
    to_input = np.array([[1, 0, shift], [0, 1, 0], [0, 0, 1]])
    for actual in regions_of(blobs(), photo_to_input=to_input):
        assert (actual.x, actual.width) == expected


def test_a_single_input_pixel_covers_a_fraction_of_photograph_pixels() -> None:
    values = np.zeros((6, 9))
    values[1, 2] = 3.0
    (actual,) = regions_of(values, photo_to_input=np.diag([0.3, 0.3, 1.0]), size=(20, 30), pixel_size_mm=1.0)
    # From (2 - 0.5) / 0.3 = 5 to 8.33, and from 1.67 to 5, where a photograph's pixel extends from -0.5 to 0.5.
    assert (actual.x, actual.y, actual.width, actual.height) == (5, 2, 4, 4)
    assert actual.area_px == 11.1
    assert actual.area_mm2 == pytest.approx(1 / 0.09)


def test_sizes_in_millimetres_if_the_scale_is_known() -> None:
    actual = regions_of(blobs(), pixel_size_mm=0.05)[0]
    assert (actual.width_mm, actual.height_mm) == (pytest.approx(0.1), pytest.approx(0.2))
    assert actual.area_mm2 == pytest.approx(8 * 0.0025)
    assert {"width_mm", "height_mm", "area_mm2"} <= set(actual.as_dict())
    assert not any(key.endswith(("_mm", "_mm2")) for key in regions_of(blobs())[0].as_dict())


def test_a_constant_map_has_no_region_or_one() -> None:
    assert regions_of(np.zeros((5, 5))) == []
    (everything,) = regions_of(np.full((5, 7), 9.0))
    assert (everything.x, everything.y, everything.width, everything.height) == (0, 0, 7, 5)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.45, 0.8])
def test_a_box_holds_each_pixel_that_the_region_touches(shift: float) -> None:
    values = np.zeros((12, 14))
    values[4:7, 5:9] = 3.0
    moved = np.array([[1, 0, -shift], [0, 1, -shift], [0, 0, 1]], float)
    (actual,) = regions_of(values, photo_to_input=moved)
    # A pixel extends half a pixel around its centre, so after a shift by a fraction it touches one pixel more.
    more = int(shift > 0)
    assert (actual.x, actual.y, actual.width, actual.height) == (5, 4, 4 + more, 3 + more)
    assert actual.area_px == 12
