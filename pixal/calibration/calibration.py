"""Calibrate a type: the variance of the errors of good parts at each pixel, and the scores of held-out good parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.maps import above, calibrated_maps, part_scores
from pixal.calibration.spread import ErrorMoments, Maps, error_variance
from pixal.io.arrays import release_pages

LOWEST_GAIN = 0.25
"""The most that the anomaly map is lowered where harmless variations recur."""

_WIDE_SIGMA = 16.0  # input pixels, where the variance has to come from a part's own error


@dataclass(frozen=True)
class Calibration:
    """The calibration of one type.

    Attributes:
        variance: (H, W, C), the variance of the errors of good parts at each pixel, above 0.
        scores: (N,), the scores of good parts. Each part was held out from the model and from the variance that its
            score was computed with.
        stand_ins: Whether there was only one good part. Then ``variance`` and ``scores`` come from shifted copies of
            it, see ``calibrate_by_texture``.
        center: (H, W, 1), the mean distance of good parts if the errors are distances
            (``ModelFamily.gives_distance``); else None.
        losses: (N,), the loss of the same good parts without calibration, the scale of a numeric ``loss_cut``. Empty:
            not known.
        selected: (K,), the positions among all N + K held-out good parts of those that are no sample of good parts,
            because they were chosen for their high scores. They tell nothing about how often good parts score high.
        selected_scores: (K,), their scores.
        gain: (H, W): what the anomaly map is multiplied by. Above 1 where known defects recur, see
            ``pixal.calibration.recurrence``; below 1, but at least ``LOWEST_GAIN``, where accepted false alarms do, see
            ``pixal.calibration.tolerance``. None: 1 everywhere.
    """

    variance: NDArray[np.float32]
    scores: NDArray[np.float64]
    stand_ins: bool = False
    center: NDArray[np.float32] | None = None
    losses: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    selected: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    selected_scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    gain: NDArray[np.float32] | None = None

    @property
    def all_scores(self) -> NDArray[np.float64]:
        """(N + K,), the scores of all held-out good parts, in the order in which they were held out."""
        scores = np.empty(len(self.scores) + len(self.selected))
        is_selected = np.zeros(len(scores), bool)
        is_selected[self.selected] = True
        scores[is_selected], scores[~is_selected] = self.selected_scores, self.scores
        return scores

    def without(self, is_selected: NDArray[np.bool_]) -> Calibration:
        """The calibration whose scores are those of the other parts only.

        Args:
            is_selected: (N,), which parts were chosen for their high scores. If all were, nothing changes.
        """
        if self.stand_ins or is_selected.all() or not is_selected.any():
            return self
        return replace(
            self,
            scores=self.scores[~is_selected],
            losses=self.losses[~is_selected] if len(self.losses) else self.losses,
            selected=np.flatnonzero(is_selected),
            selected_scores=self.scores[is_selected],
        )

    def check(self, shape: tuple[int, int, int]) -> None:
        """Check that parts can be scored with these values.

        Args:
            shape: The shape (H, W, C) of the errors.

        Raises:
            ValueError: A value is not finite, is negative, or has another shape; or all scores are 0.
        """
        arrays: list[tuple[str, NDArray[Any], tuple[int, ...]]]
        arrays = [("variance", self.variance, shape), ("scores", self.scores, (max(1, len(self.scores)),))]
        if self.center is not None:
            arrays.append(("mean distance", self.center, shape))
        if self.gain is not None:
            arrays.append(("gain", self.gain, shape[:2]))
        if (
            len(self.selected) != len(self.selected_scores)
            or not np.isin(self.selected, np.arange(len(self.scores) + len(self.selected))).all()
        ):
            raise ValueError("the positions and scores of selected parts do not belong together")
        if len(self.losses):
            arrays.append(("losses", self.losses, self.scores.shape))
        for name, values, expected in arrays:
            if values.dtype.kind != "f" or values.shape != expected:
                raise ValueError(f"the {name} of good parts is {values.dtype} of shape {values.shape}, not {expected}")
            if not np.isfinite(values).all():
                raise ValueError(f"the {name} of good parts holds values that are not finite")
            if values.min() < 0:
                raise ValueError(f"the {name} of good parts holds negative values")
        if self.gain is not None and self.gain.min() < np.float32(LOWEST_GAIN):
            raise ValueError(f"the gain is below {LOWEST_GAIN} at some pixels")
        if not self.variance.all():
            raise ValueError("the variance of good parts is 0 at some pixels")
        if not self.scores.any():
            raise ValueError("the score of every good part is 0, as of identical photographs or of a constant image")


def calibrate(
    errors: Maps,
    folds: Sequence[NDArray[np.intp]],
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
    distances: bool = False,
) -> Calibration:
    """Calibrate a type from the errors of held-out good parts.

    The score of a part uses the variance of the other folds, or of the other parts if there is only one fold: with its
    own error in the variance, every score would be low. With two parts, the error of one is often the error of the
    other with the opposite sign. Then the variance of a wider neighbourhood is used instead. One error is in memory
    at a time.

    Args:
        errors: (N, H, W, C).
        folds: The row indices of each fold in ``errors``. The errors of a fold come from a model that was fitted
            without it.
        mask: (H, W), the pixels of the part.
        weights: (C,), the weight of each channel.
        smoothing: The Gaussian sigma of the maps, input pixels.
        distances: Whether the errors are distances. Then a deviation is what exceeds the mean distance of the other
            good parts.
    """
    total = ErrorMoments(errors, np.concatenate(folds), distances)
    maps = held_out_maps(errors, folds, total, mask=mask, weights=weights, smoothing=smoothing, distances=distances)
    scores = [part_scores(anomaly_map[None])[0] for anomaly_map in maps]
    return Calibration(error_variance(total.variance, mask), np.array(scores, np.float64), center=total.center)


def held_out_maps(
    errors: Maps,
    folds: Sequence[NDArray[np.intp]],
    total: ErrorMoments,
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
    distances: bool = False,
) -> Iterator[NDArray[np.float32]]:
    """Yield the calibrated map (H, W) of each held-out part, fold by fold; see ``calibrate``.

    ``total`` holds the sums over the parts of all folds.
    """
    if len(folds) == 1:
        folds = [row[None] for row in folds[0]]
    wide_variance = error_variance(total.variance, mask, sigma=_WIDE_SIGMA) if total.count < 3 else None
    for fold in folds:
        others = total - ErrorMoments(errors, fold, distances)
        variance = error_variance(others.variance, mask) if wide_variance is None else wide_variance
        for row in fold:
            yield calibrated_maps(above(errors[row][None], others.center), variance, mask, weights, smoothing)[0]
            release_pages(errors)


def calibrate_scores(
    errors: Maps,
    rows: NDArray[np.intp],
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
) -> Calibration:
    """Calibrate a type whose errors are already in units of what good parts reach (``AnomalyModel.is_calibrated``).

    The variance is 1, because one that is estimated from the same parts again would make their scores too high: it
    lacks the part itself, but the errors of the other parts were scaled with that part among them.

    Args:
        errors: (N, H, W, C), of held-out parts.
        rows: The row indices of the parts in ``errors``.
        mask: (H, W), the pixels of the part.
        weights: (C,), the weight of each channel.
        smoothing: The Gaussian sigma of the maps, input pixels.
    """
    maps = _unit_maps(errors, rows, mask=mask, weights=weights, smoothing=smoothing)
    scores = [part_scores(anomaly_map[None])[0] for anomaly_map in maps]
    return Calibration(np.ones(errors.shape[1:], np.float32), np.array(scores, np.float64))


def maps_of_held_out(
    errors: Maps,
    folds: Sequence[NDArray[np.intp]],
    *,
    is_calibrated: bool,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
    distances: bool,
) -> Iterator[NDArray[np.float32]]:
    """Yield the map (H, W) of each held-out part, in the order of the scores of ``calibrate`` or ``calibrate_scores``.

    Args:
        errors: (N, H, W, C), of held-out parts.
        folds: The row indices of each fold in ``errors``.
        is_calibrated: Whether the errors are already in units of what good parts reach.
        mask: (H, W), the pixels of the part.
        weights: (C,), the weight of each channel.
        smoothing: The Gaussian sigma of the maps, input pixels.
        distances: Whether the errors are distances.
    """
    rows = np.concatenate(folds)
    if is_calibrated:
        return _unit_maps(errors, rows, mask=mask, weights=weights, smoothing=smoothing)
    total = ErrorMoments(errors, rows, distances)
    return held_out_maps(errors, folds, total, mask=mask, weights=weights, smoothing=smoothing, distances=distances)


def calibrate_by_texture(
    near: Maps,
    far: Maps,
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
    distances: bool = False,
) -> Calibration:
    """Calibrate a type from its only good part, which cannot be held out.

    The errors of good parts are assumed to be like those of the part shifted by half a pixel, and the scores of good
    parts to be at most those of the part shifted by two pixels. So a part only fails if it differs by more.

    Args:
        near: (N, H, W, C), the errors of the images of ``shift_near``.
        far: (N, H, W, C), the errors of the images of ``shift_far``.
        mask: (H, W), the pixels of the part.
        weights: (C,), the weight of each channel.
        smoothing: The Gaussian sigma of the maps, input pixels.
        distances: Whether the errors are distances.
    """
    moments = ErrorMoments(near, np.arange(len(near)), distances)
    variance = error_variance(moments.variance, mask)
    maps = calibrated_maps(above(far, moments.center), variance, mask, weights, smoothing)
    return Calibration(variance, part_scores(maps), stand_ins=True, center=moments.center)


def _unit_maps(
    errors: Maps, rows: NDArray[np.intp], *, mask: NDArray[np.bool_], weights: NDArray[np.float32], smoothing: float
) -> Iterator[NDArray[np.float32]]:
    """Yield the map (H, W) of each part whose errors are already calibrated; see ``calibrate_scores``."""
    variance = np.ones(errors.shape[1:], np.float32)
    for row in rows:
        yield calibrated_maps(errors[row][None], variance, mask, weights, smoothing)[0]
        release_pages(errors)
