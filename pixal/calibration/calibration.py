"""From errors to calibrated maps, scores, p-values and thresholds; the same for every model family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gumbel_r

from pixal.calibration.settings import Threshold
from pixal.calibration.spread import ErrorMoments, Maps, blur, error_variance
from pixal.errors import ConfigError
from pixal.io.arrays import release_pages

_NEIGHBOURHOOD = 16.0  # sigma, where a part's own error is all there is to tell the spread from
_BEYOND = "conformal+tail"
_TEXTURE = "texture"
_LEAST_SCALE = 0.25  # of the tail, times the number of scores over their mean: few look more alike than good parts are


@dataclass(frozen=True)
class Calibration:
    """What held-out good parts of one type say about its errors.

    variance: (H, W, C), the error's at each pixel. scores: (n,), each good part's score, held out from both the model
    and the variance it was scored with; with ``stand_ins`` there was a single good part, and both are of its texture.
    center: (H, W, 1), of a distance (``ModelFamily.gives_distance``) its mean, around which the variance is.
    """

    variance: NDArray[np.float32]
    scores: NDArray[np.float64]
    stand_ins: bool = False
    center: NDArray[np.float32] | None = None


def calibrate(
    errors: Maps,
    folds: Sequence[NDArray[np.intp]],
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
    distances: bool = False,
) -> Calibration:
    """Calibrate a type from the ``errors`` (N, H, W, C) of held-out good parts, one of which is in memory at a time.

    ``folds``: rows of ``errors``; a fold's errors come from a model that did not see it. A part is scored with the
    spread of the other folds, or of the others in a single fold: its own error would hide it. Of two parts either
    one's error is the other's, with the opposite sign, so there the spread of a wider neighbourhood has to do.
    ``distances``: the errors are distances; what counts is how far one exceeds those of the other good parts.
    """
    if len(folds) == 1:
        folds = [fold[None] for fold in folds[0]]
    total = ErrorMoments(errors, np.concatenate(folds), distances)
    wide = error_variance(total.variance, mask, sigma=_NEIGHBOURHOOD) if total.count < 3 else None
    scores = []
    for fold in folds:
        others = total - ErrorMoments(errors, fold, distances)
        variance = error_variance(others.variance, mask) if wide is None else wide
        for row in fold:
            exceeding = above(errors[row][None], others.center)
            scores.append(part_scores(calibrated_maps(exceeding, variance, mask, weights, smoothing))[0])
            release_pages(errors)
    return Calibration(error_variance(total.variance, mask), np.array(scores, np.float64), center=total.center)


def calibrate_by_texture(
    near: Maps,
    far: Maps,
    *,
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
    distances: bool = False,
) -> Calibration:
    """Calibrate a type from its only good image, with which no error can be held out.

    A good part's error is taken to be that of the image moved by half a pixel (``near``, (n, H, W, C)), and a good
    part's score to be no higher than that of the image moved by two (``far``): a part that fails differs by more.
    """
    moments = ErrorMoments(near, np.arange(len(near)), distances)
    variance = error_variance(moments.variance, mask)
    maps = calibrated_maps(above(far, moments.center), variance, mask, weights, smoothing)
    return Calibration(variance, part_scores(maps), stand_ins=True, center=moments.center)


def above(errors: Maps, center: NDArray[np.float32] | None) -> Maps:
    """How far distances (n, H, W, 1) exceed their ``center``, 0 where they do not; other errors as they are."""
    return errors if center is None else np.maximum(errors - center, 0)


def calibrated_maps(
    errors: Maps,
    variance: NDArray[np.float32],
    mask: NDArray[np.bool_],
    weights: NDArray[np.float32],
    smoothing: float,
) -> Maps:
    """Anomaly maps (n, H, W) of ``errors`` (n, H, W, C): the root mean square, over channels and a neighbourhood, of
    the error in units of its spread.

    ``weights`` (C,): how much a channel counts. ``smoothing``: the neighbourhood's Gaussian sigma, input pixels.
    """
    shares = (weights / weights.sum()).astype(np.float32) / variance
    return np.sqrt(_smoothed(np.einsum("nhwc,nhwc,hwc->nhw", errors, errors, shares), mask, smoothing))


def raw_maps(losses: Maps, mask: NDArray[np.bool_], weights: NDArray[np.float32], smoothing: float) -> Maps:
    """Maps (n, H, W) of the uncalibrated loss (n, H, W, C), for a numeric ``loss_cut``."""
    shares = (weights / weights.sum()).astype(np.float32)
    return _smoothed(losses @ shares, mask, smoothing)


def part_scores(maps: Maps) -> NDArray[np.float64]:
    """A part's score is the largest value of its map: (n,)."""
    return np.asarray(maps.reshape(len(maps), -1).max(1), np.float64)


def choose_threshold(calibration: Calibration, rate: float, settings: Threshold) -> tuple[float, str]:
    """The score above which a part of the calibrated type fails, and the name of the method that gave it.

    ``set_threshold``'s from held-out good parts. Where a single good part has only stand-ins of its texture, their
    tail ("texture"), which promises no false-alarm rate; "sigma" and "fixed" are what they are.
    """
    if not calibration.stand_ins or settings.method in ("sigma", "fixed"):
        return set_threshold(calibration.scores, rate, settings)
    check_enough(0, rate, settings)
    return set_threshold(calibration.scores, rate, Threshold(method="tail"))[0], _TEXTURE


def set_threshold(scores: NDArray[np.float64], rate: float, settings: Threshold) -> tuple[float, str]:
    """The score above which a part fails, and the name of the method that gave it.

    conformal: at most ``rate`` of good parts score higher, whatever their distribution (Vovk et al. 2005); needs
    1/rate - 1 held-out parts. tail: the (1 - rate) quantile of an extreme-value (Gumbel) distribution fitted to the
    scores, which are maxima. auto: conformal where there are parts enough; else "conformal+tail": the tail beyond the
    largest held-out score, never below it, so that a lower rate never gives a lower threshold. sigma: ``value``
    standard deviations of the log scores above their mean. fixed: ``value``.
    """
    check_enough(len(scores), rate, settings)
    method: str = settings.method
    if method == "auto":
        method = "conformal" if _is_enough(len(scores), rate) else _BEYOND
    if method == "fixed":
        return float(settings.value or 0), method
    if method == "sigma":
        logs = _logs(scores)
        return float(np.exp(logs.mean() + (settings.value or 0) * logs.std(ddof=min(1, len(logs) - 1)))), method
    if method in ("tail", _BEYOND):
        fitted = float(gumbel_r.isf(rate, *_fit_tail(scores)))
        return (fitted if method == "tail" else max(fitted, float(scores.max()))), method
    allowed = int(np.floor(rate * (len(scores) + 1) + 1e-9))  # good parts, this one among them, that may score as high
    return float(np.sort(scores)[len(scores) - allowed]), method


def check_enough(parts: int, rate: float, settings: Threshold) -> None:
    """Raise ConfigError when the threshold asked for needs more than ``parts`` held-out good parts."""
    if settings.method == "conformal" and not _is_enough(parts, rate):
        raise ConfigError(
            f"validation.threshold.method conformal needs {int(np.ceil(1 / rate - 1 - 1e-9))} held-out good parts for "
            f"a false-alarm rate of {rate:g}, there are {parts}; use auto or tail, or a higher rate"
        )


def p_values(scores: NDArray[np.float64], good: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """How likely a good part is to score at least this high: (n,) from the held-out ``good`` scores.

    Conformal, (1 + number of good scores as high) / (1 + number of good scores), unless the threshold (``method``, as
    ``choose_threshold`` names it) comes from the fitted tail, which then gives the p-value too: of every part, or
    ("conformal+tail") of those that score higher than all good ones.
    """
    as_high = len(good) - np.searchsorted(np.sort(good), scores, side="left")
    conformal = np.asarray((1 + as_high) / (1 + len(good)), np.float64)
    if method not in ("tail", _BEYOND, _TEXTURE):
        return conformal
    with np.errstate(over="ignore"):  # far below tightly scored good parts exp overflows, and the p-value is 1
        fitted = np.asarray(gumbel_r.sf(scores, *_fit_tail(good)), np.float64)
    return fitted if method in ("tail", _TEXTURE) else np.where(as_high > 0, conformal, np.minimum(conformal, fitted))


def _is_enough(parts: int, rate: float) -> bool:
    return rate * (parts + 1) >= 1 - 1e-9


def _fit_tail(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Location and scale of a Gumbel distribution, with the scale no smaller than the moments' estimate.

    Maximum likelihood trusts the bulk; where the bulk is tight and a few parts are far out, the standard deviation
    knows better what the tail is like. And few scores know little about either.
    """
    mean, deviation = float(scores.mean()), float(scores.std(ddof=min(1, len(scores) - 1)))
    location, scale = gumbel_r.fit(scores) if deviation > 1e-9 * mean else (mean, 0.0)
    return float(location), max(float(scale), deviation * np.sqrt(6) / np.pi, _LEAST_SCALE / len(scores) * mean, 1e-12)


def _logs(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(scores, 1e-12))


def _smoothed(values: Maps, mask: NDArray[np.bool_], sigma: float) -> Maps:
    values = values * mask
    if sigma > 0:
        values = np.stack([blur(value, sigma) for value in values]) if len(values) else values
    return values * mask
