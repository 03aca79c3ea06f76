"""Match a photograph's light to the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEP = 2  # every second pixel in each direction is enough for a median
_DARK, _BRIGHT = 0.03, 0.97  # darker holds no colour, brighter may be saturated
_LEAST_PIXELS = 100


def light_gain(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The gain (3,) a channel that brings ``image`` (H, W, 3) to the light of ``reference``, both in [0, 1].

    The median of the ratio over the part's pixels: a stain or a missing piece does not shift it.
    """
    ours, theirs = image[::_STEP, ::_STEP], reference[::_STEP, ::_STEP]
    gain = np.ones(3, np.float32)
    for channel in range(3):
        a, b = ours[..., channel], theirs[..., channel]
        usable = mask[::_STEP, ::_STEP] & (a > _DARK) & (b > _DARK) & (a < _BRIGHT) & (b < _BRIGHT)
        if usable.sum() >= _LEAST_PIXELS:
            gain[channel] = np.median(b[usable] / a[usable])
    return gain


def unit_range(image: NDArray[Any]) -> NDArray[np.float32]:
    """An 8- or 16-bit image as float32 in [0, 1]."""
    return np.asarray(np.multiply(image, 1 / np.iinfo(image.dtype).max, dtype=np.float32))
