"""The scale of a member of a combined model: its maps in units of the spread of the scores of good parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration, held_out_maps
from pixal.calibration.maps import above, calibrated_maps, part_scores
from pixal.calibration.odd_parts import find_odd_parts
from pixal.calibration.spread import ErrorMoments, Maps, error_variance

SMOOTHING = 1.0  # input pixels, Gaussian sigma of a member's map
_MIN_UNIT = 1e-6  # if all scores are 0


@dataclass(frozen=True)
class Scale:
    """Statistics of the errors of a member on good parts of a type.

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
    scores that scatter widely counts less. Odd parts are left out: a single one could decide how much a member counts.
    Few scores may be closer together than those of good parts are.
    """
    scores = scores[~find_odd_parts(scores)]
    return max(float(scores.std()), float(scores.mean()) / len(scores), _MIN_UNIT)


def scale_of_differences(
    errors: Maps, folds: Sequence[NDArray[np.intp]], mask: NDArray[np.bool_], weights: NDArray[np.float32]
) -> tuple[Scale, Maps]:
    """The scale of a member whose error is a difference in each channel, and the maps of held-out parts in this scale.

    Args:
        errors: (N, H, W, C), of held-out parts; see ``calibrate``.
        folds: The row indices of each fold in ``errors``.
        mask: The pixels of the part, (H, W).
        weights: The weight of each channel, (C,).

    Returns:
        The scale, and the maps (n, H, W) of the n parts of all folds, fold by fold.
    """
    held_out = np.concatenate(folds)
    total, maps = ErrorMoments(errors, held_out, distances=False), np.empty((len(held_out), *mask.shape), np.float32)
    of_parts = held_out_maps(errors, folds, total, mask=mask, weights=weights, smoothing=SMOOTHING)
    for index, values in enumerate(of_parts):
        maps[index] = values
    scale = Scale(error_variance(total.variance, mask), spread_of(part_scores(maps)))
    maps /= np.float32(scale.unit)
    return scale, maps


def scale_of_distances(errors: Iterable[Maps], mask: NDArray[np.bool_]) -> Scale:
    """The scale of a member whose error is a distance in units of what good parts reach.

    Args:
        errors: Chunks (n, H, W, 1) of the errors of held-out parts.
        mask: The pixels of the part, (H, W).
    """
    unscaled = Scale(np.ones((*mask.shape, 1), np.float32), 1.0)
    scores = [part_scores(unscaled.maps(chunk, mask, np.ones(1, np.float32))) for chunk in errors]
    return Scale(unscaled.variance, spread_of(np.concatenate(scores)))
