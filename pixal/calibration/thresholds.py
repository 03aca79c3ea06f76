"""Thresholds and p-values from the scores of held-out good parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.calibration.settings import Threshold
from pixal.errors import ConfigError

_CONFORMAL_TAIL = "conformal+tail"
_TEXTURE = "texture"
# The lowest scale of the fitted tail is this, divided by the number of scores, times their mean. A few scores may be
# closer together than the scores of good parts are.
_MIN_SCALE = 0.25


def choose_threshold(calibration: Calibration, rate: float, settings: Threshold) -> tuple[float, str]:
    """Choose the threshold of a calibrated type.

    With held-out good parts this is ``set_threshold``. With only one good part it is the tail of the scores of its
    shifted copies (method "texture"), which does not guarantee any false-alarm rate. The methods "sigma" and "fixed"
    apply in both cases.

    Args:
        calibration: The calibration of the type.
        rate: The false-alarm rate, in (0, 1).
        settings: How the threshold is set.

    Returns:
        The threshold, and the name of the method that gave it. A part fails if its score is above the threshold.

    Raises:
        ConfigError: The method needs more held-out good parts, or the threshold is infinite or 0.
    """
    if not calibration.stand_ins or settings.method in ("sigma", "fixed"):
        threshold, method = set_threshold(calibration.scores, rate, settings)
    else:
        check_enough(0, rate, settings)
        threshold, method = set_threshold(calibration.scores, rate, Threshold(method="tail"))[0], _TEXTURE
    if not 0 < threshold < np.inf:
        raise ConfigError(
            f"validation.threshold: method {method} gives a threshold of {threshold:g} for good parts with scores "
            f"from {calibration.scores.min():.3g} to {calibration.scores.max():.3g}; set another method or value"
        )
    return threshold, method


def set_threshold(scores: NDArray[np.float64], rate: float, settings: Threshold) -> tuple[float, str]:
    """Return the threshold from the scores of held-out good parts.

    The methods are:

    - "conformal": at most ``rate`` of good parts score higher, whatever their distribution (Vovk et al. 2005). Needs
      1 / rate - 1 held-out parts.
    - "tail": the (1 - rate) quantile of an extreme-value (Gumbel) distribution that is fitted to the scores. The scores
      are maxima.
    - "conformal+tail": the quantile of the tail, but at least the largest score. So a lower rate never gives a lower
      threshold.
    - "auto": "conformal" with enough parts, else "conformal+tail".
    - "sigma": ``settings.value`` standard deviations of the log scores above their mean.
    - "fixed": ``settings.value``.

    Args:
        scores: (N,), the scores of held-out good parts.
        rate: The false-alarm rate, in (0, 1).
        settings: The method and its value.

    Returns:
        The threshold, and the name of the method that gave it (never "auto").

    Raises:
        ConfigError: The method needs more held-out good parts.
    """
    check_enough(len(scores), rate, settings)
    method: str = settings.method
    if method == "auto":
        method = "conformal" if _is_enough(len(scores), rate) else _CONFORMAL_TAIL
    if method == "fixed":
        return float(settings.value or 0), method
    if method == "sigma":
        logs = np.log(np.maximum(scores, 1e-12))
        with np.errstate(over="ignore"):  # choose_threshold refuses an infinite threshold
            return float(np.exp(logs.mean() + (settings.value or 0) * logs.std(ddof=min(1, len(logs) - 1)))), method
    if method in ("tail", _CONFORMAL_TAIL):
        location, scale = _fit_tail(scores)
        quantile = float(location - scale * np.log(-np.log1p(-rate)))
        return (quantile if method == "tail" else max(quantile, float(scores.max()))), method
    allowed = int(np.floor(rate * (len(scores) + 1) + 1e-9))  # how many scores may be above, with the one to validate
    return float(np.sort(scores)[len(scores) - allowed]), method


def check_enough(parts: int, rate: float, settings: Threshold) -> None:
    """Raise ConfigError if the threshold method needs more than ``parts`` held-out good parts."""
    if settings.method == "conformal" and not _is_enough(parts, rate):
        raise ConfigError(
            f"validation.threshold.method conformal needs {int(np.ceil(1 / rate - 1 - 1e-9))} held-out good parts for "
            f"a false-alarm rate of {rate:g}, but there are {parts}; use auto or tail, or a higher rate"
        )


def p_values(scores: NDArray[np.float64], good: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """Return how often a good part would score at least this high.

    The conformal p-value is (1 + number of good scores at least as high) / (1 + number of good scores). A score above
    all good scores has that of the fitted tail, if it is lower: it is below 1 / (1 + number of good scores), and
    extrapolated. With the methods "tail" and "texture" all p-values are those of the tail. So the p-value of a score
    does not depend on the false-alarm rate.

    Args:
        scores: (N,), the scores.
        good: (M,), the scores of held-out good parts.
        method: The name of the method that gave the threshold, see ``choose_threshold``.

    Returns:
        (N,), in (0, 1].
    """
    n_at_least = len(good) - np.searchsorted(np.sort(good), scores, side="left")
    conformal = np.asarray((1 + n_at_least) / (1 + len(good)), np.float64)
    with np.errstate(over="ignore"):  # far below tightly scored good parts exp overflows, and the p-value is 1
        location, scale = _fit_tail(good)
        fitted = np.asarray(-np.expm1(-np.exp((location - scores) / scale)), np.float64)
    return (
        fitted if method in ("tail", _TEXTURE) else np.where(n_at_least > 0, conformal, np.minimum(conformal, fitted))
    )


def fit_gumbel(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return location and scale of the Gumbel distribution of maxima with the largest likelihood.

    The scale is the root of ``mean(x) - sum(x w) / sum(w) - scale`` with weights ``w = exp(-x / scale)`` (Evans,
    Hastings and Peacock 2000). ``scipy.stats.gumbel_r.fit`` gives the same; importing it takes longer than a verdict.

    Args:
        values: (N,), not all equal.
    """
    smallest, mean = float(values.min()), float(values.mean())

    def excess(scale: float) -> float:
        weights = np.exp((smallest - values) / scale)
        return mean - float((values * weights).sum() / weights.sum()) - scale

    low, high = 0.5, 2.0
    while excess(low) <= 0:
        low /= 2
    while excess(high) >= 0:
        high *= 2
    while low < (middle := (low + high) / 2) < high:  # until there is no number between them
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return smallest - high * float(np.log(np.exp((smallest - values) / high).mean())), high


def _is_enough(parts: int, rate: float) -> bool:
    return rate * (parts + 1) >= 1 - 1e-9


def _fit_tail(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Fit a Gumbel distribution to scores (N,) and return its location and scale.

    The scale is at least the estimate from the standard deviation (method of moments). Maximum likelihood follows the
    bulk of the scores; if the bulk is narrow and a few scores lie far out, the standard deviation describes the tail
    better. It is also at least ``_MIN_SCALE``, because few scores determine neither well.
    """
    mean, deviation = float(scores.mean()), float(scores.std(ddof=min(1, len(scores) - 1)))
    location, scale = fit_gumbel(scores) if deviation > 1e-9 * mean else (mean, 0.0)
    return float(location), max(float(scale), deviation * np.sqrt(6) / np.pi, _MIN_SCALE / len(scores) * mean, 1e-12)
