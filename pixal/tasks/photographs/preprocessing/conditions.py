"""Conditions of photographs: light, focus and quality of alignment, as numbers to compare batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

CONDITIONS = ("red", "green", "blue", "sharpness", "inlier_ratio", "ssim")
_SHRINK = 2  # at half size, sharpness holds a quarter of the sensor's noise, and no interpolation of the warp
_MASK_VALUE = 255


@dataclass(frozen=True)
class LightAndFocus:
    """The light and the focus of one photograph, measured over the part.

    Attributes:
        red: Mean of the red channel, in [0, 1].
        green: Mean of the green channel, in [0, 1].
        blue: Mean of the blue channel, in [0, 1].
        sharpness: Standard deviation of the Laplacian divided by that of the grey levels, so that it does not depend on
            the light (after the variance of the Laplacian, LAP4, of Pertuz et al. 2013). NaN where the part is too
            small or has no contrast.
    """

    red: float
    green: float
    blue: float
    sharpness: float


class ConditionsRecord(Protocol):
    """A record of a photograph; values are None if they are not known."""

    @property
    def is_ok(self) -> bool:
        """Whether the photograph could be processed."""

    @property
    def red(self) -> float | None:
        """Mean of the red channel over the part, in [0, 1]."""

    @property
    def green(self) -> float | None:
        """Mean of the green channel over the part, in [0, 1]."""

    @property
    def blue(self) -> float | None:
        """Mean of the blue channel over the part, in [0, 1]."""

    @property
    def sharpness(self) -> float | None:
        """As in ``LightAndFocus``."""

    @property
    def inlier_ratio(self) -> float | None:
        """Fraction of the matches that agree with the homography."""

    @property
    def ssim(self) -> float | None:
        """Mean structural similarity to the reference over the part."""


@dataclass(frozen=True)
class Conditions:
    """The conditions of the photographs of a type.

    Attributes:
        values: One row per photograph that could be processed, columns as in ``CONDITIONS``, (N, 6); NaN where unknown.
        tried: Number of photographs, failed ones included.
    """

    values: NDArray[np.float64]
    tried: int

    @classmethod
    def from_records(cls, records: Iterable[ConditionsRecord], tried: int) -> Conditions:
        """Collect the conditions in the records of photographs; ``tried`` is the number of all photographs."""
        rows = [
            (record.red, record.green, record.blue, record.sharpness, record.inlier_ratio, record.ssim)
            for record in records
            if record.is_ok
        ]
        return cls(np.array(rows, np.float64).reshape(-1, len(CONDITIONS)), tried)


def measure_light_and_focus(image: NDArray[Any], part: NDArray[np.bool_]) -> LightAndFocus:
    """Measure the light and the focus of an aligned photograph over the part.

    Args:
        image: The aligned photograph, (H, W, 3), 8- or 16-bit RGB.
        part: The pixels that show the part, (H, W).
    """
    x, y, width, height = cv2.boundingRect(part.view(np.uint8))
    image = np.ascontiguousarray(image[y : y + height, x : x + width])
    mask = part[y : y + height, x : x + width].astype(np.uint8) * _MASK_VALUE
    red, green, blue = (np.array(cv2.mean(image, mask)[:3]) / np.iinfo(image.dtype).max).tolist()
    return LightAndFocus(red, green, blue, relative_sharpness(image, mask))


def relative_sharpness(image: NDArray[Any], mask: NDArray[np.uint8] | None = None) -> float:
    """Standard deviation of the Laplacian divided by that of the grey levels, at half size.

    Args:
        image: The photograph, (H, W, 3), 8- or 16-bit RGB.
        mask: 255 where the pixels count, (H, W). None: all pixels.

    Returns:
        The ratio; NaN where the area is too small or has no contrast.
    """
    height, width = image.shape[:2]
    size = (width // _SHRINK, height // _SHRINK)
    if not all(size):
        return float("nan")
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    inside = None
    if mask is not None:
        # The Laplacian reads one pixel on each side, and none of them may show the background.
        inside = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) == _MASK_VALUE
        inside = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    contrast, detail = (
        cv2.meanStdDev(plane, mask=inside)[1].item() for plane in (grey, cv2.Laplacian(grey, cv2.CV_32F))
    )
    return detail / contrast if min(detail, contrast) > 0 else float("nan")
