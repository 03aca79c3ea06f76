"""The spread of the errors of good parts at each pixel: their variance, and for distances their mean."""

from __future__ import annotations

from copy import copy

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.arrays import release_pages

Maps = NDArray[np.float32]
"""Errors or maps of N parts: (N, H, W, C) or (N, H, W)."""

# The variance at a pixel is the largest variance of held-out good parts near it, plus a floor. What varies between good
# parts (a serial number, an edge and its pose) varies over a patch, and few parts vary at every pixel of the patch.
_FINE_SIGMA = 1.0  # input pixels; without blur, the error of a single part is no estimate of a variance
_REACH = 6  # input pixels
_FLOOR = 0.1  # of the median of the variance
_MIN_VARIANCE = 1e-7  # where good parts do not differ at all: (1/3000)², a twelfth of an 8-bit level


def error_variance(
    squared: NDArray[np.float32], mask: NDArray[np.bool_], sigma: float = _FINE_SIGMA
) -> NDArray[np.float32]:
    """Return the variance of the errors of good parts: the largest blurred squared error near each pixel, and a floor.

    Args:
        squared: (H, W, C), the mean squared error of held-out good parts.
        mask: (H, W), the pixels of the part.
        sigma: The Gaussian sigma of the blur before the maximum is taken, input pixels.

    Returns:
        (H, W, C), above 0.
    """
    if not mask.any():
        return np.full(squared.shape, _MIN_VARIANCE, np.float32)
    foreground = mask.astype(np.float32)
    share = np.maximum(blur(foreground, sigma), 1e-6)
    window = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    variance = np.empty(squared.shape, np.float32)
    for channel in range(squared.shape[-1]):  # one channel in memory at a time
        smooth = blur(squared[..., channel] * foreground, sigma) / share
        largest = cv2.dilate(smooth * foreground, window)
        variance[..., channel] = largest + _FLOOR * np.median(largest[mask]) + _MIN_VARIANCE
    return variance


class ErrorMoments:
    """Sums of errors, and of their squares, over parts.

    Attributes:
        count: The number of parts.
    """

    def __init__(self, errors: Maps, rows: NDArray[np.intp], distances: bool) -> None:
        """Sum over parts, one in memory at a time.

        Args:
            errors: (N, H, W, C).
            rows: The row indices of the parts to sum over.
            distances: Whether the errors are distances, whose variance is around their mean and not around 0.
        """
        self.count = len(rows)
        self._squares = np.zeros(errors.shape[1:], np.float32)
        self._total = np.zeros(errors.shape[1:], np.float32) if distances else None
        for row in rows:
            self._squares += errors[row] ** 2
            if self._total is not None:
                self._total += errors[row]
            release_pages(errors)

    def __sub__(self, other: ErrorMoments) -> ErrorMoments:
        """Return the sums without the parts of ``other``, all of which must be among these parts."""
        rest = copy(self)
        rest.count = self.count - other.count
        rest._squares = np.maximum(self._squares - other._squares, 0)
        if self._total is not None and other._total is not None:
            rest._total = self._total - other._total
        return rest

    @property
    def center(self) -> Maps | None:
        """The mean distance, (H, W, C); None for signed errors, which good parts have around 0."""
        return None if self._total is None else np.asarray(self._total / max(1, self.count), np.float32)

    @property
    def variance(self) -> Maps:
        """The variance around ``center``, or around 0, (H, W, C)."""
        squared = np.asarray(self._squares / max(1, self.count), np.float32)
        if (center := self.center) is None:
            return squared
        return np.asarray(np.maximum(squared - center**2, 0) * (self.count / max(1, self.count - 1)), np.float32)


def blur(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return the Gaussian blur of (H, W) or (H, W, C), with zeros outside the image."""
    blurred = cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(blurred, np.float32).reshape(values.shape)
