"""Tests of average pooling against a loop over windows and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import block_reduce

from pixal.tasks.photographs.network_input.pooling import average_pool


def slow_pool(image: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    height, width = image.shape[:2]
    rows = [
        [image[top : top + size, left : left + size].astype(float).mean(axis=(0, 1)) for left in range(0, width, size)]
        for top in range(0, height, size)
    ]
    return np.array(rows)


shapes = st.tuples(st.integers(1, 23), st.integers(1, 23), st.sampled_from([None, 1, 3, 4, 5, 23]))


@given(shape=shapes, size=st.integers(1, 26), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_pooling_is_the_mean_of_each_window(shape: tuple[int, int, int | None], size: int, seed: int) -> None:
    image = np.random.default_rng(seed).random([n for n in shape if n is not None], np.float32)
    before = image.copy()
    pooled = average_pool(image, size)
    assert pooled.dtype == np.float32
    assert pooled.shape == (-(-shape[0] // size), -(-shape[1] // size), *image.shape[2:])
    assert pooled == pytest.approx(slow_pool(image, size), abs=2e-6)
    assert np.array_equal(image, before)


@given(shape=shapes, size=st.integers(1, 26), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_pooling_agrees_with_scikit_image(shape: tuple[int, int, int | None], size: int, seed: int) -> None:
    """scikit-image pads to whole windows; with NaN as padding, the mean can leave it out."""
    image = np.random.default_rng(seed).random([n for n in shape if n is not None], np.float32)
    block = (size, size, 1)[: image.ndim]
    reduced = block_reduce(image, block, np.nanmean, cval=np.nan, func_kwargs={"dtype": np.float64})
    assert average_pool(image, size) == pytest.approx(reduced, abs=1.5e-7)


@given(shape=shapes, size=st.integers(1, 40), value=st.floats(0, 1, width=32))
@settings(max_examples=200)
def test_a_constant_image_stays_exactly_constant(shape: tuple[int, int, int | None], size: int, value: float) -> None:
    image = np.full([n for n in shape if n is not None], value, np.float32)
    assert abs(average_pool(image, size).astype(float) - value).max() <= np.spacing(np.float32(value))


def test_the_last_windows_average_the_remaining_pixels() -> None:
    image = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert average_pool(image, 3).tolist() == [[6, 8.5], [16, 18.5]]
    assert average_pool(image, 9).tolist() == [[9.5]]


def test_a_strided_view_gives_the_result_of_its_copy() -> None:
    image = np.random.default_rng(0).random((90, 70, 7), np.float32)
    view = image[3:80, 5:-4, 1:6]
    for size in (2, 3, 4):
        assert np.array_equal(average_pool(view, size), average_pool(view.copy(), size))


def test_channels_are_pooled_separately() -> None:
    image = np.zeros((6, 8, 7), np.float32)
    image[..., 5] = 1
    assert np.array_equal(average_pool(image, 2).sum(axis=(0, 1)), [0, 0, 0, 0, 0, 12, 0])
