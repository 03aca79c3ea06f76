"""The scale of a member of a combined model: its maps in units of the spread of the scores of good parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.calibration.maps import above, calibrated_maps
from pixal.calibration.spread import Maps

SMOOTHING = 1.0  # input pixels, Gaussian sigma of a member's map
_MIN_UNIT = 1e-6  # if all scores are 0


@dataclass(frozen=True)
class Scale:
    """What the errors of a member are like for good parts of a type.

    Attributes:
        variance: The variance of the errors at each pixel, (H, W, C).
        unit: The spread of the scores of good parts, above 0; see ``spread_of``.
        center: The mean distance, (H, W, 1), if the errors are distances that are not calibrated; else None.
    """

    variance: NDArray[np.float32]
    unit: float
    center: NDArray[np.float32] | None = None

    @classmethod
    def of_calibration(cls, calibration: Calibration) -> Scale:
        """The scale with the variance of a calibration, and the spread of its scores."""
        return cls(calibration.variance, spread_of(calibration.scores), calibration.center)

    def maps(self, errors: Maps, mask: NDArray[np.bool_], weights: NDArray[np.float32]) -> Maps:
        """Return maps (n, H, W) of errors (n, H, W, C) in units of the spread of the scores of good parts.

        Args:
            errors: Errors of the member.
            mask: The pixels of the part, (H, W).
            weights: The weight of each channel, (C,).
        """
        deviations = above(errors, self.center)
        maps = calibrated_maps(deviations, self.variance, mask, weights, SMOOTHING)
        return np.asarray(maps / np.float32(self.unit), np.float32)

    def stored(self) -> dict[str, NDArray[Any]]:
        """The arrays to store, by name."""
        arrays: dict[str, NDArray[Any]] = {"variance": self.variance, "unit": np.array(self.unit)}
        return arrays if self.center is None else arrays | {"center": self.center}

    @classmethod
    def from_stored(cls, arrays: Mapping[str, NDArray[Any]], shape: tuple[int, int, int]) -> Scale:
        """Rebuild it from what ``stored`` returned.

        Args:
            arrays: The arrays by name.
            shape: The shape (H, W, C) of the member's errors.

        Raises:
            KeyError: An array is missing.
            ValueError: A value is not finite, is negative, or has another shape.
        """
        unit = np.asarray(arrays["unit"], np.float64).reshape(1)
        # The same requirements as for the calibration of a whole model, with the unit for the scores.
        Calibration(arrays["variance"], unit, center=arrays.get("center")).check(shape)
        return cls(arrays["variance"], float(unit[0]), arrays.get("center"))


def spread_of(scores: NDArray[np.float64]) -> float:
    """The standard deviation of the scores of N held-out good parts, but at least their mean divided by N.

    A defect is seen if its score lies many such spreads above those of good parts. So a member whose good parts have
    scores that scatter widely counts less. Few scores may be closer together than those of good parts are.
    """
    return max(float(scores.std()), float(scores.mean()) / len(scores), _MIN_UNIT)


def mean_of(maps: tuple[Maps, Maps]) -> Maps:
    """The mean of the maps (n, H, W) of two members, as errors (n, H, W, 1)."""
    return np.asarray((maps[0] + maps[1])[..., None] / 2, np.float32)
