"""Tests of light matching: known gains and fields are recovered, also with stained, dark or saturated parts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pixal.synthetic import draw_component
from pixal.tasks.photographs.network_input.illumination import (
    light_gain,
    match_light,
    restore_saturated,
    unit_range,
    weighted_median,
)

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

GAIN = np.array([1.15, 0.9, 0.82], np.float32)
BRIGHT_PLATE = (0.9, 0.85, 0.8)


@pytest.fixture(scope="module")
def part() -> tuple[Image, Mask]:
    """A part of 380 x 120 pixels with a margin; its blue is not much brighter than the noise of a sensor."""
    image, mask = draw_component("front", (640, 360))
    x, y, width, height = cv2.boundingRect(mask)
    box = slice(y - 9, y + height + 9), slice(x - 9, x + width + 9)
    return unit_range(image)[box], mask[box] > 0


@pytest.fixture(scope="module")
def large() -> tuple[Image, Mask]:
    """A disc of 900 x 700 pixels with a texture; each channel has another brightness."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.normal(0, 1, (720, 920)).astype(np.float32), (0, 0), 3)
    image = np.array([0.45, 0.3, 0.12], np.float32) * (1 + 2 * texture[..., None])
    x, y = coordinates(image)
    return np.clip(image, 0.02, 0.9).astype(np.float32), np.asarray(x**2 + y**2 < 0.95)


def coordinates(image: Image) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return x and y of each pixel, from -1 to 1."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    return (2 * columns + 1) / image.shape[1] - 1, (2 * rows + 1) / image.shape[0] - 1


def photographed(image: Image, light: NDArray[np.floating], seed: int = 0, noise: float = 0.01) -> Image:
    """Return the image in another light, with the noise and limits of a sensor."""
    grain = noise * np.random.default_rng(seed).standard_normal(image.shape)
    return np.clip(image * light + grain, 0, 1).astype(np.float32)


def median_of_ratios(image: Image, reference: Image, mask: Mask) -> NDArray[np.float32]:
    """Compute the simple estimate: robust, but biased where a channel is dark."""
    usable = mask[..., None] & (np.minimum(image, reference) > 0.03) & (np.maximum(image, reference) < 0.97)
    ratio = np.divide(reference, image, out=np.ones_like(image), where=usable)
    return np.array([np.median(ratio[..., channel][usable[..., channel]]) for channel in range(3)])


@given(light=st.lists(st.floats(0.8, 1.25), min_size=3, max_size=3), seed=st.integers(0, 1000))
@settings(max_examples=25)
def test_a_known_gain_is_recovered(part: tuple[Image, Mask], light: list[float], seed: int) -> None:
    image, mask = part
    reference = photographed(0.8 * image, np.ones(3), seed + 1)
    gain = light_gain(photographed(0.8 * image, np.array(light), seed), reference, mask)
    assert gain.shape == (3,)
    assert gain.dtype == np.float32
    assert (gain * light)[:2] == pytest.approx(np.ones(2), abs=0.002)
    assert gain[2] * light[2] == pytest.approx(1, abs=0.006)  # blue: a median of 13 levels in noise of 2.5


def test_noise_does_not_bias_a_dark_channel(large: tuple[Image, Mask]) -> None:
    """The signals are 15, 10 and 4 times the noise."""
    image, mask = large
    dark = image / 3
    reference = photographed(dark, np.ones(3), 1)
    for light in (0.8, 1.25):
        seen = photographed(dark, np.full(3, light), 2)
        assert light_gain(seen, reference, mask) * light == pytest.approx(np.ones(3), abs=0.003)
        assert abs(median_of_ratios(seen, reference, mask)[2] * light - 1) > 0.02


STAINS = {
    "brown": (0.95, 0.8, 0.5),
    "dark": (0.3, 0.3, 0.3),
    "faint": (0.95, 0.95, 0.95),
    "pale": (1.2, 1.2, 1.2),
    "one channel": (1.0, 1.0, 0.6),
}
PLATES = {"bright plate": BRIGHT_PLATE, "dark plate": (0.15, 0.3, 0.35), "black plate": (0.0, 0.0, 0.0)}


@pytest.mark.parametrize("content", [*STAINS, *PLATES])
def test_a_stained_or_missing_fifth_of_the_part_does_not_change_the_gain(
    part: tuple[Image, Mask], content: str
) -> None:
    image, mask = part
    scene = 0.8 * image / GAIN
    stained = mask & (np.arange(mask.shape[1]) < np.quantile(np.nonzero(mask)[1], 0.2))
    assert 0.19 < stained.sum() / mask.sum() < 0.21
    scene[stained] = scene[stained] * STAINS[content] if content in STAINS else PLATES[content]
    reference, seen = photographed(0.8 * image, np.ones(3), 1), photographed(scene, np.ones(3), 2)
    assert light_gain(seen, reference, mask) == pytest.approx(GAIN, rel=0.006)
    assert light_gain(seen, reference, mask)[:2] == pytest.approx(GAIN[:2], rel=0.002)
    means = reference[mask].mean(0) / seen[mask].mean(0)  # the gain from means over the part
    assert abs(means / GAIN - 1).max() > 0.008


def test_pixels_outside_the_mask_do_not_count(part: tuple[Image, Mask]) -> None:
    reference, mask = part
    seen = photographed(reference, 1 / GAIN)
    plates = [np.where(mask[..., None], seen, np.float32(level)) for level in (0.1, 0.9)]
    lit = np.where(mask[..., None], reference, np.float32(0.5))
    for method in ("gain", "field"):
        matched = [match_light(plate, lit, mask, method)[mask] for plate in plates]
        assert np.array_equal(matched[0], matched[1])


@pytest.mark.parametrize("level", [1.0, 0.0])
@pytest.mark.parametrize("method", ["gain", "field"])
def test_saturated_and_black_pixels_do_not_count(level: float, method: Literal["gain", "field"]) -> None:
    rng = np.random.default_rng(1)
    reference = rng.uniform(0.2, 0.8, (120, 120, 3)).astype(np.float32)
    seen = reference / 2
    seen[:70] = level  # more than half
    whole = np.ones((120, 120), bool)
    assert match_light(seen, reference, whole, method)[72:] == pytest.approx(reference[72:], rel=2e-3)
    seen, bright = reference / 2, reference.copy()
    bright[:70] = level
    assert match_light(seen, bright, whole, method)[72:] == pytest.approx(reference[72:], rel=2e-3)


def test_saturation_of_single_pixels_does_not_bias(part: tuple[Image, Mask]) -> None:
    image, mask = part
    scene = 1.4 * image
    reference, seen = photographed(scene, np.ones(3), 1), photographed(scene, 1 / GAIN, 2)
    assert (np.maximum(reference, seen)[mask] >= 0.97).mean(0)[1] > 0.1
    assert light_gain(seen, reference, mask) == pytest.approx(GAIN, rel=0.004)


def test_the_gain_is_1_with_too_few_usable_pixels() -> None:
    reference = np.full((60, 60, 3), 0.6, np.float32)
    seen = np.full((60, 60, 3), 0.3, np.float32)
    few = np.zeros((60, 60), bool)
    few[:16, :8] = True  # two blocks of 8 x 8
    assert np.array_equal(light_gain(seen, reference, few), np.ones(3))
    few[:24, :24] = True  # nine blocks
    assert light_gain(seen, reference, few) == pytest.approx(np.full(3, 2.0), rel=1e-3)
    seen[..., 1] = 0.0  # one black channel; the others are matched
    assert light_gain(seen, reference, few) == pytest.approx([2.0, 1.0, 2.0], rel=1e-3)


@pytest.mark.parametrize(("shape", "lit"), [((1, 1), 0.3), ((1, 90), 0.6), ((90, 1), 0.6), ((8, 800), 0.6)])
@pytest.mark.parametrize("method", ["gain", "field"])
def test_images_that_are_too_thin_for_a_field(
    shape: tuple[int, int], lit: float, method: Literal["gain", "field"]
) -> None:
    """A row of blocks gives a gain and no field across it; a single block does not even give a gain."""
    reference = np.full((*shape, 3), 0.6, np.float32)
    matched = match_light(reference / 2, reference, np.ones(shape, bool), method)
    assert matched == pytest.approx(np.full_like(reference, lit), rel=1e-3)
    assert match_light(reference / 2, reference, np.zeros(shape, bool), method) == pytest.approx(reference / 2)


def fields(image: Image) -> dict[str, NDArray[np.float64]]:
    """Return known light fields, (H, W, 1) or (H, W, 3): of one colour, and of lamps of different colours."""
    x, y = (axis[..., None] for axis in coordinates(image))
    return {
        "slope": 1 + 0.12 * x + 0.09 * y,
        "vignette": 1 - 0.12 * (x**2 + y**2),
        "two lamps": 1 + 0.1 * x * np.array([1, 0, -1]),
        "flat": np.ones_like(x),
    }


@pytest.mark.parametrize("kind", ["slope", "vignette", "two lamps", "flat"])
def test_a_known_field_is_recovered(large: tuple[Image, Mask], kind: str) -> None:
    image, mask = large
    light = fields(image)[kind] / GAIN
    reference, seen = photographed(image, np.ones(3), 1, 0.005), photographed(image, light, 2, 0.005)
    truth = np.ones_like(image) * light
    gain, field = (match_light(seen, reference, mask, method) / seen * truth - 1 for method in ("gain", "field"))
    inside = mask[..., None] & (seen > 0.03)
    assert abs(field[inside]).mean() < 0.003
    assert np.quantile(abs(field[inside]), 0.99) < 0.015
    if kind != "flat":
        assert abs(gain[inside]).mean() > 0.02


@pytest.mark.parametrize("contrast", [-0.5, -0.2, -0.1, 0.3])
@pytest.mark.parametrize("kind", ["flat", "slope"])
def test_a_field_does_not_follow_a_stain(large: tuple[Image, Mask], contrast: float, kind: str) -> None:
    """A stain with a radius of 60 pixels keeps 90 % of its contrast, in the middle and at the ends of the part."""
    image, mask = large
    light = fields(image)[kind] / GAIN
    reference = photographed(image, np.ones(3), 1, 0.005)
    rows, columns = np.indices(mask.shape)
    for x, y in ((460, 360), (90, 360), (460, 80), (740, 560)):
        stain = mask & (np.hypot(columns - x, rows - y) < 60)
        seen = photographed(image * np.where(stain, 1 + contrast, 1)[..., None], light, 2, 0.005)
        kept = match_light(seen, reference, mask, "field")[stain].mean(0) / reference[stain].mean(0) - 1
        assert (kept / contrast > 0.9).all()
        assert (kept / contrast < 1.1).all()


def test_a_narrow_part_gets_a_field_along_it() -> None:
    """All blocks lie in one row, which does not determine three of the six terms."""
    rng = np.random.default_rng(0)
    reference = rng.uniform(0.3, 0.6, (8, 800, 3)).astype(np.float32)
    light = 1 + 0.2 * coordinates(reference)[0][..., None]
    matched = match_light(photographed(reference, light, 1, 0.005), reference, np.ones((8, 800), bool), "field")
    assert abs(matched / reference - 1).mean() < 0.02  # of which 0.01 is noise


def test_a_stain_visible_in_one_channel_is_left_out_of_all(large: tuple[Image, Mask]) -> None:
    """Noise hides the stain in the darkest channel."""
    image, mask = large
    reference = photographed(image / 3, np.ones(3), 1)
    rows, columns = np.indices(mask.shape)
    stain = mask & (np.hypot(columns - 90, rows - 360) < 60)
    seen = photographed(image / 3 * np.where(stain, 0.85, 1)[..., None], np.ones(3), 2)
    kept = 1 - match_light(seen, reference, mask, "field")[stain].mean(0) / reference[stain].mean(0)
    assert kept[2] > 0.9 * 0.15


def test_a_channel_dark_over_most_of_the_part_gets_one_gain(large: tuple[Image, Mask]) -> None:
    """The field of the dark half is not known."""
    image, mask = large
    scene = image.copy()
    scene[:, 300:, 2] = 0.01
    light = fields(image)["slope"]
    reference, seen = photographed(scene, np.ones(3), 1, 0.002), photographed(scene, light, 2, 0.002)
    factor = match_light(seen, reference, mask, "field") / np.maximum(seen, 1e-6)
    lit = mask & (seen.min(axis=-1) > 0.002)
    assert np.ptp(factor[lit][:, 2]) < 1e-4
    assert np.ptp(factor[lit][:, 0]) > 0.15


@pytest.mark.parametrize("method", ["gain", "field", "none"])
def test_the_result_is_in_range_and_the_input_unchanged(
    part: tuple[Image, Mask], method: Literal["gain", "field", "none"]
) -> None:
    image, mask = part
    seen = photographed(image, 1 / (2.5 * GAIN))
    seen[0, 0] = 0.9  # outside the mask; above 1 after matching
    kept, original = seen.copy(), image.copy()
    matched = match_light(seen, image, mask, method)
    assert matched.dtype == np.float32
    assert matched.min() >= 0
    assert np.array_equal(seen, kept)
    assert np.array_equal(image, original)
    if method == "none":
        assert np.array_equal(matched, seen)
    else:
        assert matched.max() == 1
    if method == "gain":
        assert matched == pytest.approx(np.clip(seen * light_gain(seen, image, mask), 0, 1), rel=1e-6)


def test_all_threads_give_the_same_bytes(large: tuple[Image, Mask]) -> None:
    image, mask = large
    seen = photographed(image, fields(image)["slope"])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: match_light(seen, image, mask, "field").tobytes(), range(8)))
    assert len(set(results)) == 1


@given(
    values=hnp.arrays(np.float64, (9, 3), elements=st.integers(-5, 5).map(float)),
    weights=hnp.arrays(np.float64, (9, 3), elements=st.integers(0, 4).map(float)),
)
def test_the_weighted_median_is_the_median_of_repeated_values(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> None:
    for channel, actual in enumerate(weighted_median(values, weights)):
        repeated = np.repeat(values[:, channel], weights[:, channel].astype(int))
        if len(repeated):
            assert actual == np.quantile(repeated, 0.5, method="inverted_cdf")


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_integer_levels_are_scaled_to_the_unit_range(dtype: type, top: int) -> None:
    levels = np.array([0, 1, top // 2, top], dtype)
    scaled = unit_range(levels)
    assert scaled.dtype == np.float32
    assert scaled == pytest.approx(np.array([0, 1, top // 2, top]) / top, rel=1e-6)
    assert scaled.max() == 1.0  # exactly


def test_saturated_print_of_a_brighter_photograph_is_as_bright_as_in_the_reference() -> None:
    generator = np.random.default_rng(5)
    reference = generator.uniform(0.2, 0.6, (60, 80, 3)).astype(np.float32)
    reference[20:30, 20:40] = 0.9
    brighter = np.minimum(reference * np.float32(1.3), 1)
    mask = np.ones(reference.shape[:2], bool)
    matched = match_light(brighter, reference, mask, "gain")
    assert matched[20:30, 20:40].max() < 0.8
    np.testing.assert_allclose(restore_saturated(matched, brighter, reference), reference, atol=2e-3)
    darker = matched.copy()
    darker[25, 30] = 0.3  # a defect is not saturated, and stays
    brighter[25, 30] = 0.4
    assert (restore_saturated(darker, brighter, reference)[25, 30] == np.float32(0.3)).all()
