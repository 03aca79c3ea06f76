"""What the errors of held-out good parts are like at each pixel: their variance, and of distances their center."""

from __future__ import annotations

from copy import copy

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.arrays import release_pages

Maps = NDArray[np.float32]

# The spread at a pixel is the largest variance over held-out good parts near it, plus a floor: what varies (a serial
# number, an edge and its pose) varies over a patch, of which few parts have used every pixel.
_FINE = 1.0  # sigma, input pixels: a single part's error is no variance yet
_REACH = 6  # input pixels
_FLOOR = 0.1  # of the variance's median
_LEAST_VARIANCE = 1e-7  # where good parts do not differ at all: (1/3000)², a twelfth of an 8-bit level


def error_variance(squared: NDArray[np.float32], mask: NDArray[np.bool_], sigma: float = _FINE) -> NDArray[np.float32]:
    """The error's variance (H, W, C) from the mean ``squared`` error of held-out good parts: the largest near a pixel.

    ``mask`` (H, W): the part. ``sigma``: of the blur, input pixels, before the largest within ``_REACH`` is taken.
    """
    if not mask.any():
        return np.full(squared.shape, _LEAST_VARIANCE, np.float32)
    inside = mask.astype(np.float32)
    share = np.maximum(blur(inside, sigma), 1e-6)
    near = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    found = np.empty(squared.shape, np.float32)
    for channel in range(squared.shape[-1]):  # one in memory at a time
        smooth = blur(squared[..., channel] * inside, sigma) / share
        largest = cv2.dilate(smooth * inside, near)
        found[..., channel] = largest + _FLOOR * np.median(largest[mask]) + _LEAST_VARIANCE
    return found


class ErrorMoments:
    """Sums over ``rows`` of errors (N, H, W, C), one of which is in memory at a time.

    ``distances``: the errors are distances, whose variance is around their mean, not around 0.
    """

    def __init__(self, errors: Maps, rows: NDArray[np.intp], distances: bool) -> None:
        self.count = len(rows)
        self._squares = np.zeros(errors.shape[1:], np.float32)
        self._total = np.zeros(errors.shape[1:], np.float32) if distances else None
        for row in rows:
            self._squares += errors[row] ** 2
            if self._total is not None:
                self._total += errors[row]
            release_pages(errors)

    def __sub__(self, other: ErrorMoments) -> ErrorMoments:
        """The sums over the rows that are not the ``other``'s."""
        rest = copy(self)
        rest.count = self.count - other.count
        rest._squares = np.maximum(self._squares - other._squares, 0)
        if self._total is not None and other._total is not None:
            rest._total = self._total - other._total
        return rest

    @property
    def center(self) -> Maps | None:
        """The mean (H, W, C) of distances; None of errors with a sign, which good parts have around 0."""
        return None if self._total is None else np.asarray(self._total / max(1, self.count), np.float32)

    @property
    def variance(self) -> Maps:
        """The variance (H, W, C) around the ``center``, or around 0."""
        squared = np.asarray(self._squares / max(1, self.count), np.float32)
        if (center := self.center) is None:
            return squared
        return np.asarray(np.maximum(squared - center**2, 0) * (self.count / max(1, self.count - 1)), np.float32)


def blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur of (H, W) or (H, W, C)."""
    blurred = cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, np.float32).reshape(values.shape)
