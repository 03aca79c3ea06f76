"""One gain a channel, whatever is stained, missing or saturated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixal.preprocessing.illumination import light_gain, unit_range
from pixal.synthetic import draw_component

GAIN = np.array([1.15, 0.9, 0.82], np.float32)


@pytest.fixture(scope="module")
def part() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    image, mask = draw_component("front", (320, 180))
    return unit_range(image), mask > 0


def photographed(image: NDArray[np.float32], light: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """The picture in other light, with a sensor's noise and limits."""
    noise = 0.01 * np.random.default_rng(seed).standard_normal(image.shape)
    return np.clip(image * light + noise, 0, 1).astype(np.float32)


@given(light=st.lists(st.floats(0.8, 1.25), min_size=3, max_size=3), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_a_known_gain_is_recovered(light: list[float], seed: int) -> None:
    image, mask = draw_component("front", (320, 180))
    bright = 0.1 + 0.6 * unit_range(image)  # colours darker than the noise tell little about the light
    reference = photographed(bright, np.ones(3, np.float32), seed + 1)
    gain = light_gain(photographed(bright, np.array(light, np.float32), seed), reference, mask > 0)
    assert gain.shape == (3,)
    assert gain * light == pytest.approx(np.ones(3), abs=0.01)


def test_a_stain_on_a_fifth_of_the_part_changes_nothing(
    part: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> None:
    reference, mask = part
    seen = photographed(reference, 1 / GAIN)
    columns = np.nonzero(mask)[1]
    stained = mask & (np.arange(mask.shape[1]) < np.quantile(columns, 0.2))
    assert 0.19 < stained.sum() / mask.sum() < 0.21
    seen[stained] *= (0.5, 0.6, 0.4)
    assert light_gain(seen, reference, mask) == pytest.approx(GAIN, rel=0.01)
    mean = (reference[mask] / np.maximum(seen[mask], 1e-3)).mean(0)  # what a mean would make of it
    assert (abs(mean / GAIN - 1) > 0.05).all()


def test_what_lies_beyond_the_mask_does_not_count(part: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    reference, mask = part
    seen = photographed(reference, 1 / GAIN)
    plates = [np.where(mask[..., None], seen, np.float32(level)) for level in (0.1, 0.9)]
    lit = np.where(mask[..., None], reference, np.float32(0.5))
    gains = [light_gain(plate, lit, mask) for plate in plates]
    assert np.array_equal(gains[0], gains[1])
    assert gains[0] == pytest.approx(GAIN, rel=0.01)


def test_saturated_and_black_pixels_do_not_count() -> None:
    rng = np.random.default_rng(1)
    reference = rng.uniform(0.2, 0.8, (60, 60, 3)).astype(np.float32)
    seen = reference / 2
    seen[:35] = 1.0  # more than half is saturated, which would pull the median
    assert light_gain(seen, reference, np.ones((60, 60), bool)) == pytest.approx(np.full(3, 2.0), rel=1e-4)
    seen[:35] = 0.0
    assert light_gain(seen, reference, np.ones((60, 60), bool)) == pytest.approx(np.full(3, 2.0), rel=1e-4)
    bright = reference.copy()
    bright[:35] = 1.0
    assert light_gain(reference / 2, bright, np.ones((60, 60), bool)) == pytest.approx(np.full(3, 2.0), rel=1e-4)


def test_too_few_usable_pixels_leave_the_light_as_it_is() -> None:
    reference = np.full((60, 60, 3), 0.6, np.float32)
    seen = np.full((60, 60, 3), 0.3, np.float32)
    few = np.zeros((60, 60), bool)
    few[:18, :18] = True  # 81 of them on the grid of every second pixel
    assert np.array_equal(light_gain(seen, reference, few), np.ones(3))
    few[:22, :22] = True
    assert light_gain(seen, reference, few) == pytest.approx(np.full(3, 2.0))
    seen[..., 1] = 0.0  # one channel without colour; the others keep theirs
    assert light_gain(seen, reference, few) == pytest.approx([2.0, 1.0, 2.0])


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_levels_become_the_unit_range(dtype: type, top: int) -> None:
    levels = np.array([0, 1, top // 2, top], dtype)
    scaled = unit_range(levels)
    assert scaled.dtype == np.float32
    assert scaled == pytest.approx(np.array([0, 1, top // 2, top]) / top, rel=1e-6)
    assert scaled.max() == 1.0  # not a bit above
