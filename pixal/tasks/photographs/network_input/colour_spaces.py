"""Colour spaces of an RGB image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""(H, W) values of a channel, or (H, W, K) values of several."""

BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of ITU-R BT.601."""

# sRGB primaries to CIE XYZ, each row divided by the white of D65 (2 degree observer).
_XYZ_OVER_WHITE = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
) / np.array([[0.95047], [1.0], [1.08883]])


class Colours:
    """An RGB image in several colour spaces, (H, W, 3) float32. Each is computed on first use and then kept."""

    def __init__(self, image: NDArray[Any]) -> None:
        self._image = image
        self._white = {"B": 255.0, "H": 65535.0}.get(self._image.dtype.char, 1.0)

    @cached_property
    def levels(self) -> Plane:
        """The values of an integer image, whose differences are exact; a float image unchanged."""
        return np.asarray(self._image, dtype=np.float32)

    @cached_property
    def rgb(self) -> Plane:
        """Gamma-encoded sRGB in [0, 1]."""
        return self.levels if self._white == 1 else np.divide(self.levels, self._white, dtype=np.float32)

    @cached_property
    def hsv(self) -> Plane:
        """Hue in turns, saturation, value, all in [0, 1]."""
        # A power of two scales a float exactly; with a large one OpenCV's epsilons have no effect.
        scale = 2.0**24 if self._white == 1 else 1.0
        hsv = np.asarray(cv2.cvtColor(self.levels * np.float32(scale), cv2.COLOR_RGB2HSV), dtype=np.float32)
        return affine(hsv, np.diag([1 / 360, 1, 1 / (self._white * scale)]))

    @cached_property
    def luma(self) -> Plane:
        """ITU-R BT.601 luma, (H, W) in [0, 1]."""
        return affine(self.levels, np.divide([BT601], self._white))[..., 0]

    @cached_property
    def lab(self) -> Plane:
        """CIE 1976 L*a*b* of sRGB, D65, 2 degree observer: L in [0, 100], a and b in (-128, 127).

        The constants are those of ``skimage.color.rgb2lab``. OpenCV interpolates tables, with an error of 2e-3.
        """
        if self._image.dtype.kind == "f":
            light: NDArray[Any] = _srgb_to_linear(self._image)
        else:
            light = np.asarray(cv2.LUT(self._image, _linear_table(int(self._white) + 1)))
        xyz = affine(light, _XYZ_OVER_WHITE)
        line = cv2.addWeighted(xyz, 7.787, xyz, 0, 16 / 116)
        cone = _select(_power(xyz, 1 / 3), line, xyz <= 0.008856)
        return affine(cone, [[0, 116, 0, -16], [500, -500, 0, 0], [0, 200, -200, 0]])


def affine(pixels: NDArray[Any], matrix: Sequence[Sequence[float]] | NDArray[np.float64]) -> Plane:
    """Apply a (K, 3) matrix, or a (K, 4) one whose last column is added, to every pixel: (H, W, K)."""
    mapped = np.asarray(cv2.transform(pixels, np.asarray(matrix, dtype=np.float64)), dtype=np.float32)
    return mapped.reshape(*pixels.shape[:2], -1)


@lru_cache(maxsize=2)
def _linear_table(levels: int) -> Plane:
    return _srgb_to_linear(np.linspace(0.0, 1.0, levels, dtype=np.float32)[:, None])


def _srgb_to_linear(encoded: Plane) -> Plane:
    curve = _power(cv2.addWeighted(encoded, 1 / 1.055, encoded, 0, 0.055 / 1.055), 2.4)
    return _select(curve, encoded * np.float32(1 / 12.92), encoded <= 0.04045)


def _power(base: NDArray[Any], exponent: float) -> Plane:
    """Return powers of a base above 0, as exact as ``cv2.pow`` and three times as fast."""
    power = np.asarray(cv2.log(base), dtype=np.float32)
    return np.asarray(cv2.exp(np.multiply(power, exponent, out=power, dtype=np.float32), dst=power), dtype=np.float32)


def _select(values: NDArray[Any], others: NDArray[Any], where: NDArray[np.bool_]) -> Plane:
    """Return ``others`` at ``where``, else ``values``."""
    return np.asarray(cv2.copyTo(others, where.view(np.uint8), values), dtype=np.float32)
