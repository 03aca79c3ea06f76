"""Tests of the channels against scikit-image, SciPy and the formulas, and of properties that all channels have."""

from __future__ import annotations

import itertools
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2hsv, rgb2lab, rgb2ycbcr

from pixal.errors import PixalError
from pixal.tasks.photographs.network_input import channels
from pixal.tasks.photographs.network_input.channels import (
    CHANNELS,
    FILTER_RADIUS,
    Colours,
    channel_names,
    compute_channels,
)

# fmt: off
CONTRACT = [
    "R", "G", "B", "H", "S", "V", "Y", "Cr", "Cb", "LAB_L", "LAB_a", "LAB_b", "LCh_C", "LCh_sinH", "LCh_cosH",
    "r_chroma", "g_chroma", "Opp_O1", "Opp_O2", "Opp_O3", "GradMag", "Laplacian", "LocalStd",
]
# fmt: on
POINTWISE = CONTRACT[:-3]


def white(dtype: str | np.dtype[Any]) -> float:
    return {"uint8": 255.0, "uint16": 65535.0}.get(np.dtype(dtype).name, 1.0)


def expected(image: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Compute all channels with simple code in double precision."""
    rgb = image.astype(np.float64) / white(image.dtype)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    hsv, lab, ycc = rgb2hsv(rgb), rgb2lab(rgb), rgb2ycbcr(rgb)
    _, a, b = np.moveaxis(lab, -1, 0)
    chroma, faded = np.hypot(a, b), np.sqrt(a**2 + b**2 + 25)
    total = rgb.sum(-1)
    fraction = np.where(total[..., None] > 0, rgb / np.where(total > 0, total, 1)[..., None], 1 / 3)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    sobel = [ndimage.sobel(luma, axis=axis, mode="mirror") for axis in (0, 1)]
    planes = [red, green, blue, *np.moveaxis(hsv, -1, 0)]
    planes += [(ycc[..., 0] - 16) / 219, (ycc[..., 2] - 16) / 224, (ycc[..., 1] - 16) / 224]
    planes += [lab[..., 0] / 100, (a + 128) / 255, (b + 128) / 255]
    planes += [chroma / 134, (b / faded + 1) / 2, (a / faded + 1) / 2, fraction[..., 0], fraction[..., 1]]
    planes += [((red - green) / np.sqrt(2) + np.sqrt(0.5)) / np.sqrt(2)]
    planes += [((red + green - 2 * blue) / np.sqrt(6) + 2 / np.sqrt(6)) / (4 / np.sqrt(6)), total / 3]
    planes += [np.hypot(*sobel) / np.sqrt(20), ndimage.laplace(luma, mode="mirror") / 8 + 0.5]
    planes += [ndimage.generic_filter(luma, np.std, size=5, mode="mirror") * 2]
    return dict(zip(CONTRACT, planes, strict=True))


def noise(dtype: str, shape: tuple[int, int] = (23, 31), seed: int = 0) -> NDArray[Any]:
    values = np.random.default_rng(seed).random((*shape, 3))
    return np.asarray(values * white(dtype)).astype(dtype)


def cube(dtype: str) -> NDArray[Any]:
    """Return corners, edges, centres and greys of the colour cube."""
    ramp = np.linspace(0, 1, 18)
    lattice = list(itertools.product((0, 0.5, 1), repeat=3))
    edges = [
        np.insert(np.broadcast_to(ends, (len(ramp), 2)), axis, ramp, axis=1)
        for axis in range(3)
        for ends in itertools.product((0, 1), repeat=2)
    ]
    greys = np.repeat(np.linspace(0, 1, 256)[:, None], 3, axis=1)
    colours = np.concatenate([lattice, *edges, greys, greys[::-1] ** 4])
    return np.round(colours * white(dtype), 0 if white(dtype) > 1 else 9).astype(dtype).reshape(1, -1, 3)


def near_grey(dtype: str) -> NDArray[Any]:
    """Return colours that differ by one level, where hue and chroma are ratios of the smallest differences."""
    base = np.floor(np.linspace(0, white(dtype) - 1, 40))[:, None, None]
    return np.asarray(base + np.array(list(itertools.product((0, 1), repeat=3))), dtype=dtype)


IMAGES = {
    "8 bit": noise("uint8"),
    "16 bit": noise("uint16"),
    "single": noise("float32"),
    "dark single": noise("float32") * np.float32(1e-3),
    "cube, 8 bit": cube("uint8"),
    "cube, 16 bit": cube("uint16"),
    "cube, single": cube("float32"),
    "cube, double": cube("float64"),
    "near grey, 8 bit": near_grey("uint8"),
    "near grey, 16 bit": near_grey("uint16"),
    "smaller than the filters": noise("uint8", (2, 1)),
    "faint texture on bright ground": noise("uint16") // 20000 + np.uint16(60000),
    "several chunks": noise("uint16", (2 * channels.CHUNK_ROWS + 1, 5)),
    "several chunks, single": noise("float32", (2 * channels.CHUNK_ROWS + 1, 5)),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES.keys())
def test_channels_agree_with_the_reference(image: NDArray[Any]) -> None:
    computed = compute_channels(image, ["ALL"])
    assert computed.shape == (*image.shape[:2], len(CHANNELS))
    assert computed.dtype == np.float32
    assert computed.flags.c_contiguous
    for plane, (name, reference) in enumerate(expected(image).items()):
        np.testing.assert_allclose(computed[..., plane], reference, rtol=0, atol=1e-5, err_msg=name)


def test_named_values() -> None:
    """Compare with published values, independent of the reference above."""
    image = np.array([[(255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)]], dtype=np.uint8)
    names = ["LAB_L", "LAB_a", "LAB_b", "Cr", "r_chroma", "LCh_C"]
    brightest, black, red, blue = compute_channels(image, names)[0]
    grey = 128 / 255
    np.testing.assert_allclose(brightest, [1, grey, grey, 0.5, 1 / 3, 0], atol=1e-4)
    np.testing.assert_allclose(black, [0, grey, grey, 0.5, 1 / 3, 0], atol=1e-4)
    np.testing.assert_allclose(red[:3] * [100, 255, 255] - [0, 128, 128], [53.24, 80.09, 67.20], atol=0.02)
    np.testing.assert_allclose(red[3:5], [1, 1], atol=1e-6)
    np.testing.assert_allclose(blue[:3] * [100, 255, 255] - [0, 128, 128], [32.30, 79.19, -107.86], atol=0.02)
    assert 0.99 < blue[5] < 1


def test_filter_scales_are_the_largest_possible_values() -> None:
    """Over all black-and-white neighbourhoods the filters have the range [0, 1] exactly."""
    bits = np.array(list(itertools.product((0, 255), repeat=9)), dtype=np.uint8).reshape(-1, 3, 3)
    middles = [compute_channels(np.stack([b] * 3, -1), ["GradMag", "Laplacian"])[1, 1] for b in bits]
    np.testing.assert_allclose(np.max(middles, axis=0), [1, 1], atol=1e-6)
    np.testing.assert_allclose(np.min(middles, axis=0), [0, 0], atol=1e-6)


def test_a_flat_image_has_no_structure() -> None:
    flat = np.full((40, 50, 3), (200, 77, 31), dtype=np.uint8)
    structure = compute_channels(flat, ["GradMag", "Laplacian", "LocalStd"])
    np.testing.assert_allclose(structure, np.broadcast_to([0, 0.5, 0], structure.shape), atol=1e-6)


def test_sine_and_cosine_of_hue_are_stable_near_grey() -> None:
    """One level of noise on a grey changes the hue of HSV completely, but sine and cosine only slightly."""
    rng = np.random.default_rng(3)
    image = (128 + rng.integers(0, 2, (40, 40, 3))).astype(np.uint8)
    hue, sine, cosine = np.moveaxis(compute_channels(image, ["H", "LCh_sinH", "LCh_cosH"]), -1, 0)
    assert np.ptp(hue) > 0.5
    assert abs(sine - 0.5).max() < 0.1
    assert abs(cosine - 0.5).max() < 0.1


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))
STEPS = st.integers(0, 2**24).map(lambda step: step / 2**24)


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.uint8, SHAPES) | hnp.arrays(np.uint16, SHAPES) | hnp.arrays(np.float32, SHAPES, elements=STEPS))
def test_all_values_are_correct_and_in_range(image: NDArray[Any]) -> None:
    computed = compute_channels(image, "ALL")
    assert computed.min() >= 0
    assert computed.max() <= 1
    pointwise = np.stack([expected(image)[name] for name in POINTWISE], -1)
    # Hue is periodic: 0 and 1 are the same red.
    difference = np.abs(computed[..., :20] - pointwise)
    difference[..., 3] = np.minimum(difference[..., 3], 1 - difference[..., 3])
    assert difference.max() < 1e-5


def test_the_scales_are_correct_without_the_final_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "clip", lambda array, *_, out: np.copyto(out, array))
    grid = np.linspace(0, 255, 18).astype(np.uint8)
    cube = np.array(list(itertools.product(grid, repeat=3)), dtype=np.uint8).reshape(18, -1, 3)
    computed = compute_channels(cube, ["ALL"])
    assert computed.min() > -1e-6
    assert computed.max() < 1 + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 16))
def test_a_colour_has_the_same_value_in_every_image(
    colour: tuple[int, int, int], seed: int, row: int, column: int
) -> None:
    image = noise("uint8", (13, 17), seed)
    image[row, column] = colour
    alone = np.array([[colour]], dtype=np.uint8)
    np.testing.assert_allclose(
        compute_channels(image, POINTWISE)[row, column], compute_channels(alone, POINTWISE)[0, 0], atol=5e-6
    )


def test_a_colour_has_the_same_value_at_every_depth() -> None:
    image = noise("uint8")
    reference = compute_channels(image, "ALL")
    for other in (image.astype(np.uint16) * 257, image.astype(np.float32) / 255, image / 255.0):
        np.testing.assert_allclose(compute_channels(other, "ALL"), reference, atol=2e-5)


@pytest.mark.parametrize("name", CONTRACT)
def test_16_bit_images_keep_their_depth(name: str) -> None:
    """Two images that are equal in 8 bits differ in every channel."""
    coarse = noise("uint8", seed=5).astype(np.uint16) << 8
    fine = coarse + np.random.default_rng(6).integers(0, 256, coarse.shape).astype(np.uint16)
    np.testing.assert_array_equal(coarse >> 8, fine >> 8)
    difference = compute_channels(coarse, [name]) != compute_channels(fine, [name])
    assert difference.mean() > 0.6


def test_one_16_bit_level_changes_the_channels() -> None:
    image = np.array([[(30000, 30000, 30000), (30001, 30000, 30000)]], dtype=np.uint16)
    first, second = compute_channels(image, ["R", "LAB_L", "LAB_a", "S"])[0]
    np.testing.assert_allclose(second[0] - first[0], 1 / 65535, rtol=1e-2)
    assert (second != first).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 70), st.integers(0, 20), st.sampled_from(["uint8", "uint16", "float32"]), st.integers(0, 99))
def test_the_channels_of_a_shifted_image_are_shifted(down: int, right: int, dtype: str, seed: int) -> None:
    """Also if the chunks begin at other rows. Hue is periodic: 0 and 1 are the same red."""
    image = noise(dtype, (channels.CHUNK_ROWS + 41, 44), seed)
    whole, part = compute_channels(image, "ALL"), compute_channels(image[down:, right:], "ALL")
    inner = FILTER_RADIUS
    difference = np.abs(part - whole[down:, right:])[inner:, inner:]
    difference[..., 3] = np.minimum(difference[..., 3], 1 - difference[..., 3])
    assert difference.max() < 5e-6


@pytest.mark.parametrize("name", CONTRACT)
def test_reach_is_exact(name: str) -> None:
    """A changed pixel has an effect up to the reach of the channel, and no farther."""
    image = noise("uint8", (15, 15), 8)
    changed = image.copy()
    changed[7, 7] = 255 - changed[7, 7]
    rows, columns, _ = np.nonzero(np.abs(compute_channels(image, [name]) - compute_channels(changed, [name])) > 1e-6)
    assert max(np.abs(rows - 7).max(), np.abs(columns - 7).max()) == CHANNELS[name].reach


def test_filter_radius_is_the_largest_reach() -> None:
    assert FILTER_RADIUS == 2
    assert {name for name in CONTRACT if CHANNELS[name].reach == 0} == set(POINTWISE)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(CONTRACT), min_size=1, unique=True), st.sampled_from(["uint8", "uint16", "float32"]))
def test_a_subset_has_the_values_of_all_channels(names: list[str], dtype: str) -> None:
    image = noise(dtype, (channels.CHUNK_ROWS + 7, 9), 9)
    columns = [CONTRACT.index(name) for name in names]
    np.testing.assert_array_equal(compute_channels(image, names), compute_channels(image, "ALL")[..., columns])


def test_only_the_requested_colour_spaces_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[Colours] = []

    class RecordedColours(Colours):
        def __init__(self, image: NDArray[Any]) -> None:
            super().__init__(image)
            created.append(self)

    monkeypatch.setattr(channels, "Colours", RecordedColours)
    spaces = {"levels", "rgb", "hsv", "luma", "lab"}
    for names, used in (
        (["LAB_a", "LCh_C"], {"lab"}),
        (["R"], {"levels", "rgb"}),
        (["g_chroma"], {"levels"}),
        (["GradMag"], {"levels", "luma"}),
        (["S"], {"levels", "hsv"}),
    ):
        compute_channels(noise("uint8"), names)
        assert spaces & set(vars(created[-1])) == used


def test_a_colour_space_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup = Mock(side_effect=cv2.LUT)
    monkeypatch.setattr(cv2, "LUT", lookup)
    compute_channels(noise("uint8"), ["ALL"])
    lookup.assert_called_once()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("name", ["R", "V", "LocalStd", "ALL"])
def test_the_input_is_not_changed(dtype: str, name: str) -> None:
    """A read-only reversed view is valid input, and the result does not share its memory."""
    image = noise(dtype, seed=11)
    kept = image.copy()
    image.flags.writeable = False
    view = image[::-1, :, ::-1]
    computed = compute_channels(view, [name])
    np.testing.assert_array_equal(computed, compute_channels(view.copy(), [name]))
    assert not np.shares_memory(computed, image)
    np.testing.assert_array_equal(image, kept)


def test_the_byte_order_does_not_matter() -> None:
    image = noise("uint16")
    np.testing.assert_array_equal(compute_channels(image.astype(">u2"), "ALL"), compute_channels(image, "ALL"))


def test_names() -> None:
    assert list(CHANNELS) == CONTRACT
    assert [CHANNELS[name].name for name in CONTRACT] == CONTRACT
    assert channel_names("ALL") == CONTRACT
    assert channel_names(["ALL"]) == CONTRACT
    assert channel_names(("GradMag", "R")) == ["GradMag", "R"]
    assert channel_names("LAB_L") == ["LAB_L"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (["R", "LAB_l"], r"'LAB_l'.*LAB_L"),
        (["gradmag"], r"'gradmag'.*GradMag"),
        ("all", r"'all'.*ALL"),
        (["infrared"], r"'infrared'"),
        (["R", True], r"True"),
        (["R", "G", "R"], r"R is in the list more than once"),
        (["ALL", "R"], r"ALL"),
        ([], r"empty"),
        ("", r"unknown channel ''"),
    ],
)
def test_invalid_names_are_an_error(spec: Any, message: str) -> None:
    with pytest.raises(PixalError, match=message):
        channel_names(spec)
    with pytest.raises(PixalError, match=message):
        compute_channels(noise("uint8"), spec)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"\(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"\(4, 5, 4\)"),
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros((4, 5, 3), np.int32), "int32"),
        (np.zeros((4, 5, 3), bool), "bool"),
        (np.full((4, 5, 3), 1.5), r"1\.5"),
        (np.full((4, 5, 3), -0.5), r"-0\.5"),
        (np.full((4, 5, 3), np.nan), "nan"),
    ],
)
def test_an_image_that_is_not_rgb_is_an_error(image: NDArray[Any], message: str) -> None:
    with pytest.raises(PixalError, match=message):
        compute_channels(image, ["R"])
