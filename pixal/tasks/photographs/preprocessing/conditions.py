"""How a photograph was taken: its light, its focus and how well it was aligned, in numbers to compare batches by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CONDITIONS = ("red", "green", "blue", "sharpness", "inlier_ratio", "ssim")
_STEP = 2  # focus is measured at half size: a quarter of the sensor's noise, and none of the warp's interpolation
_WHOLE = 255


@dataclass(frozen=True)
class Conditions:
    """How a type's photographs were taken.

    values: (n, 6), those of each that could be processed, columns as in ``CONDITIONS``; NaN where unknown.
    tried: how many photographs there were, these among them.
    """

    values: NDArray[np.float64]
    tried: int

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], tried: int) -> Conditions:
        """Those that the rows of a record hold."""
        values = [[row.get(name, np.nan) for name in CONDITIONS] for row in rows if row["status"] == "ok"]
        return cls(np.array(values, np.float64).reshape(-1, len(CONDITIONS)), tried)


def measure_conditions(image: NDArray[Any], part: NDArray[np.bool_]) -> dict[str, float]:
    """The light and the focus of an aligned photograph (H, W, 3), 8- or 16-bit RGB, on the ``part`` (H, W) it shows.

    red, green, blue: the mean of each, in [0, 1]. sharpness: the standard deviation of the Laplacian over that of the
    grey levels, which is the same in any light (after Pertuz et al. 2013, variance of the Laplacian, LAP4). NaN where
    the part is too small or has no contrast.
    """
    x, y, width, height = cv2.boundingRect(part.view(np.uint8))
    image = np.ascontiguousarray(image[y : y + height, x : x + width])
    mask = part[y : y + height, x : x + width].astype(np.uint8) * _WHOLE
    light = np.array(cv2.mean(image, mask)[:3]) / np.iinfo(image.dtype).max
    values = dict(zip(("red", "green", "blue"), light.tolist(), strict=True))
    return values | {"sharpness": _sharpness(image, mask)}


def _sharpness(image: NDArray[Any], mask: NDArray[np.uint8]) -> float:
    size = (mask.shape[1] // _STEP, mask.shape[0] // _STEP)
    if not all(size):
        return float("nan")
    half = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY).astype(np.float32)
    # The Laplacian reaches one pixel around itself, and none of those may show the plate.
    held = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) == _WHOLE
    held = cv2.erode(held.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    contrast, fine = (cv2.meanStdDev(plane, mask=held)[1].item() for plane in (grey, cv2.Laplacian(grey, cv2.CV_32F)))
    return fine / contrast if min(fine, contrast) > 0 else float("nan")
