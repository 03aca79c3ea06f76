"""Find drift: whether the photographs or scores of a batch differ from those of the good parts used for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, mannwhitneyu, t

from pixal.report.document import DriftFinding
from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions
from pixal.tasks.photographs.verdicts.drift_messages import advice, message

Values = NDArray[np.float64]
"""A quantity of N photographs, (N,)."""

# The smallest change of the median that is reported. A smaller change is within what the model has learned as the
# spread of good parts. It is relative for quantities that are ratios, and absolute for those in ``_ABSOLUTE``.
_MIN_CHANGE = {
    "brightness": 0.05,
    "warmth": 0.025,  # on grey, 5 % more of one channel
    "tint": 0.025,
    "sharpness": 0.10,
    "score": 0.25,
    "inlier_ratio": 0.05,
    "ssim": 0.05,
}
QUANTITIES = (*_MIN_CHANGE, "unprocessed")
_ABSOLUTE = ("inlier_ratio", "ssim")
_LOWER_ONLY = ("inlier_ratio", "ssim")  # better alignment than in training is no problem
_CAUSES = {"ssim": ("brightness", "warmth", "tint", "sharpness")}  # these lower it, and are reported instead
_MIN_ORDER = 0.75  # share of (batch, training) pairs in the same order; 0.76 for a shift by one standard deviation
_MIN_SHARE = 0.1  # of photographs that could not be processed
_MIN_SPREAD = 0.2  # of the smallest change; a few photographs may be closer together by chance


@dataclass(frozen=True)
class Sample:
    """The photographs of one type, of training or of a batch.

    Attributes:
        conditions: How the photographs were taken.
        scores: (K,), the scores of the parts that do not fail.
    """

    conditions: Conditions
    scores: Values


@dataclass(frozen=True)
class _Test:
    """One statistical test.

    Attributes:
        type: The type.
        quantity: One of ``QUANTITIES``.
        training: The median or share in training.
        batch: The median or share in the batch.
        is_relevant: Whether the difference is large enough to be reported.
        p_value: The p-value, not corrected.
        method: "rank", "interval" or "share".
    """

    type: str
    quantity: str
    training: float
    batch: float
    is_relevant: bool
    p_value: float
    method: str


def find_drift(samples: Mapping[str, tuple[Sample, Sample]], level: float) -> list[DriftFinding]:
    """Return the differences between training and a batch.

    Args:
        samples: The samples of training and of the batch, by type.
        level: The probability of any finding, over all types and quantities, in a batch of parts that were
            photographed as in training (Holm 1979).

    Returns:
        The findings, without differences that are too small to matter.
    """
    compared = [
        (name, quantity, *values) for name, pair in samples.items() for quantity, values in _quantities(*pair).items()
    ]
    processed = [
        (name, training.conditions, batch.conditions)
        for name, (training, batch) in samples.items()
        if training.conditions.tried and batch.conditions.tried
    ]
    count = len(compared) + len(processed)
    tests = [_compare_values(*arguments, level=level / count) for arguments in compared]
    tests += [_compare_shares(*arguments) for arguments in processed]
    corrected = holm([test.p_value for test in tests])
    findings = {
        (test.type, test.quantity): DriftFinding(
            test.type,
            test.quantity,
            test.training,
            test.batch,
            p_value,
            test.method,
            message(test.quantity, test.training, test.batch),
            advice(test.quantity, test.training, test.batch),
        )
        for test, p_value in zip(tests, corrected, strict=True)
        if p_value <= level and test.is_relevant
    }
    return [
        finding
        for (name, quantity), finding in findings.items()
        if not any((name, cause) in findings for cause in _CAUSES.get(quantity, ()))
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of tests (Holm 1979).

    If all null hypotheses are true, the probability that any corrected p-value is at most ``level`` is at most
    ``level``.
    """
    order = np.argsort(p_values)
    steps = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps * np.asarray(p_values, np.float64)[order]), 1)
    return [float(value) for value in corrected]


def _quantities(training: Sample, batch: Sample) -> dict[str, tuple[Values, Values]]:
    """Return the values of each quantity in training and batch, where both have enough of them.

    Training needs two values, because one value has no spread. The batch needs one.
    """
    training_values, batch_values = _values(training), _values(batch)
    return {
        name: (training_values[name], batch_values[name])
        for name in _MIN_CHANGE
        if len(training_values[name]) >= 2 and len(batch_values[name])
    }


def _values(sample: Sample) -> dict[str, Values]:
    """Return the finite values of each quantity."""
    columns: dict[str, Values] = dict(zip(CONDITIONS, sample.conditions.values.T, strict=True))
    tiny = 1e-100  # of which the square is a positive number, too
    light: Values = np.maximum(np.mean([columns[name] for name in ("red", "green", "blue")], axis=0), tiny)
    # Noise that is cut off at 0 is a large part of a very dark channel. Adding as much grey reduces its weight.
    red, green, blue = (columns[name] + light for name in ("red", "green", "blue"))
    values: dict[str, Values] = {
        "brightness": light,
        "warmth": red / blue,
        "tint": green / np.sqrt(red * blue),
        "score": np.maximum(sample.scores, tiny),
        **{name: columns[name] for name in ("sharpness", "inlier_ratio", "ssim")},
    }
    return {name: values[name][np.isfinite(values[name])] for name in _MIN_CHANGE}


def _compare_values(name: str, quantity: str, training: Values, batch: Values, *, level: float) -> _Test:
    """Compare a quantity of a batch with training.

    The test is Mann-Whitney's U if so few values can reach ``level`` at all; else the prediction interval.
    """
    medians = float(np.median(training)), float(np.median(batch))
    is_absolute, min_change = quantity in _ABSOLUTE, _MIN_CHANGE[quantity]
    if not is_absolute:
        min_change, training, batch = float(np.log1p(min_change)), np.log(training), np.log(batch)
    change = float(np.median(batch) - np.median(training))
    ranks = mannwhitneyu(batch, training)
    order = float(ranks.statistic) / (len(batch) * len(training))
    is_relevant = abs(change) >= min_change and max(order, 1 - order) >= _MIN_ORDER
    is_relevant = is_relevant and (change < 0 or quantity not in _LOWER_ONLY)
    if 2 / comb(len(batch) + len(training), len(batch)) <= level:
        return _Test(name, quantity, *medians, is_relevant, float(np.nan_to_num(ranks.pvalue, nan=1)), "rank")
    p_value = _prediction_p_value(training, batch, _MIN_SPREAD * min_change)
    return _Test(name, quantity, *medians, is_relevant, p_value, "interval")


def _prediction_p_value(training: Values, batch: Values, min_spread: float) -> float:
    """Return the p-value of the batch's mean in the prediction interval of normal training values (Student's t)."""
    spread = max(float(training.std(ddof=1)), min_spread)
    distance = abs(float(batch.mean() - training.mean())) / (spread * np.sqrt(1 / len(batch) + 1 / len(training)))
    return float(2 * t.sf(distance, len(training) - 1))


def _compare_shares(name: str, training: Conditions, batch: Conditions) -> _Test:
    """Test for a larger share of photographs that could not be processed (Fisher's exact test, one-sided)."""
    table = [[sample.tried - len(sample.values), len(sample.values)] for sample in (batch, training)]
    training_share, batch_share = (1 - len(sample.values) / sample.tried for sample in (training, batch))
    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    is_relevant = batch_share - training_share >= _MIN_SHARE
    return _Test(name, "unprocessed", training_share, batch_share, is_relevant, p_value, "share")
