"""Light and focus of known photographs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.synthetic import draw_component
from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions, measure_light_and_focus
from pixal.tasks.photographs.preprocessing.records import InputRecord

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@pytest.fixture(scope="module")
def part() -> tuple[Image, Mask]:
    image, mask = draw_component("front", (480, 270))
    return np.asarray(image, np.uint8), np.asarray(mask > 0)


def test_light_and_focus_equal_a_slow_direct_computation(part: tuple[Image, Mask]) -> None:
    image, mask = part
    actual = measure_light_and_focus(image, mask)
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    inside = mask[y : y + height, x : x + width]
    cut = image[y : y + height, x : x + width]
    for name, channel in (("red", 0), ("green", 1), ("blue", 2)):
        assert getattr(actual, name) == pytest.approx(cut[..., channel][inside].mean() / 255)
    rows, columns = height // 2, width // 2
    size = (columns, rows)
    half = cv2.resize(cut, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY).astype(float)
    whole = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.999
    levels, fine = [], []
    for i in range(1, rows - 1):
        for j in range(1, columns - 1):
            if whole[i - 1 : i + 2, j - 1 : j + 2].all():
                levels.append(grey[i, j])
                fine.append(grey[i - 1, j] + grey[i + 1, j] + grey[i, j - 1] + grey[i, j + 1] - 4 * grey[i, j])
    assert actual.sharpness == pytest.approx(np.std(fine) / np.std(levels), rel=1e-5)


def test_light_scales_brightness_and_not_sharpness(part: tuple[Image, Mask]) -> None:
    image, mask = part
    deep = image.astype(np.uint16) * 257
    plain, same = measure_light_and_focus(image, mask), measure_light_and_focus(deep, mask)
    lit = measure_light_and_focus(np.rint(deep * np.array([0.8, 0.6, 0.4])).astype(np.uint16), mask)
    for name, gain in (("red", 0.8), ("green", 0.6), ("blue", 0.4)):
        assert getattr(same, name) == pytest.approx(getattr(plain, name))
        assert getattr(lit, name) == pytest.approx(gain * getattr(plain, name), rel=1e-3)
    darker = measure_light_and_focus(np.rint(deep * 0.3).astype(np.uint16), mask)
    assert darker.sharpness == pytest.approx(same.sharpness, rel=1e-3)
    assert same.sharpness == pytest.approx(plain.sharpness, rel=0.02)


def test_the_background_does_not_count(part: tuple[Image, Mask]) -> None:
    image, mask = part
    other = image.copy()
    other[~mask] = np.random.default_rng(0).integers(0, 256, (int((~mask).sum()), 3))
    assert measure_light_and_focus(other, mask) == measure_light_and_focus(image, mask)


def test_sharpness_falls_with_blur(part: tuple[Image, Mask]) -> None:
    image, mask = part
    sharpness = [
        measure_light_and_focus(np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8), mask).sharpness
        for sigma in (0.3, 0.8, 1.2, 2.0, 4.0)
    ]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[2] < 0.8 * sharpness[0]


def test_sharpness_is_nan_without_contrast_or_pixels() -> None:
    flat = np.full((20, 30, 3), 90, np.uint8)
    assert np.isnan(measure_light_and_focus(flat, np.ones((20, 30), bool)).sharpness)
    speck = np.zeros((20, 30), bool)
    speck[5, 5] = True
    actual = measure_light_and_focus(flat, speck)
    assert np.isnan(actual.sharpness)
    assert actual.red == pytest.approx(90 / 255)


def test_conditions_leave_out_failed_photographs_and_hold_nan_for_unknown_values() -> None:
    full = {name: float(i) for i, name in enumerate(CONDITIONS)}
    records = [
        InputRecord.model_validate({"image": "a", "source": "a", "status": "ok"} | full),
        InputRecord(image="b", source="b", status="failed", reason="x"),
        InputRecord(image="c", source="c", status="ok", red=0.5),
    ]
    conditions = Conditions.from_records(records, 5)
    assert conditions.tried == 5
    assert conditions.values[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert conditions.values[1, 0] == 0.5
    assert np.isnan(conditions.values[1, 1:]).all()
    assert Conditions.from_records([], 0).values.shape == (0, len(CONDITIONS))
