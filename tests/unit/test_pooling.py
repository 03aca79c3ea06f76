"""Average pooling against a loop over windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixal.preprocessing.pooling import average_pool


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


@given(shape=shapes, size=st.integers(1, 26), value=st.floats(0, 1, width=32))
@settings(max_examples=100)
def test_a_constant_stays_constant(shape: tuple[int, int, int | None], size: int, value: float) -> None:
    image = np.full([n for n in shape if n is not None], value, np.float32)
    assert average_pool(image, size) == pytest.approx(value, rel=5e-6, abs=1e-30)


def test_channels_do_not_mix() -> None:
    image = np.zeros((6, 8, 7), np.float32)
    image[..., 5] = 1
    assert np.array_equal(average_pool(image, 2).sum(axis=(0, 1)), [0, 0, 0, 0, 0, 12, 0])
