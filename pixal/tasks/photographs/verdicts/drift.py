"""Find drift: whether the photographs or scores of a batch differ from those of the good parts used for training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixal.report.document import DriftFinding
from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions
from pixal.tasks.photographs.verdicts.drift_messages import advice, message
from pixal.validation.hypothesis_tests import fisher_test, rank_test, student_tail

Values = NDArray[np.float64]
"""A quantity of N photographs, (N,)."""

# The smallest change of the median that is reported. A smaller change is within what the model has learned as the
# spread of good parts. It is relative for quantities that are ratios, and absolute for those in ``_ABSOLUTE``.
_MIN_CHANGE = {
    "brightness": 0.05,
    "warmth": 0.025,  # on grey, 5 % more of one channel
    "tint": 0.025,
    "sharpness": 0.10,
    "noise": 0.25,
    "spread": 0.10,
    "score": 0.25,
    "inlier_ratio": 0.05,
    "ssim": 0.05,
}
QUANTITIES = (*(name for name in _MIN_CHANGE if name not in ("noise", "spread")), "unprocessed")
"""The quantities that ``validate`` compares; ``inspect`` compares noise and spread as well."""

Quantities = Mapping[str, Values]
"""The values of some quantities, by name."""

_ABSOLUTE = ("inlier_ratio", "ssim")
_LOWER_ONLY = ("inlier_ratio", "ssim")  # better alignment than in training is no problem
_CAUSES = {"ssim": ("brightness", "warmth", "tint", "sharpness")}  # these lower it, and are reported instead
_MIN_ORDER = 0.75  # share of (batch, training) pairs in the same order; 0.76 for a shift by one standard deviation
_MIN_SHARE = 0.1  # of photographs that could not be processed
_TINY = 1e-100  # of which the square is a positive number, too
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


class Counts(NamedTuple):
    """Numbers of photographs.

    Attributes:
        tried: All of them.
        processed: Those that could be processed.
    """

    tried: int
    processed: int


@dataclass(frozen=True)
class Difference:
    """One statistical test for a difference between two sets of photographs, of training and of a batch.

    Attributes:
        type: The type.
        quantity: Name of the quantity, such as "brightness".
        training: The median or share in training.
        batch: The median or share in the batch.
        is_relevant: Whether the difference is large enough to be reported.
        p_value: The p-value.
        method: "rank", "interval" or "share".
    """

    type: str
    quantity: str
    training: float
    batch: float
    is_relevant: bool
    p_value: float
    method: str


_Change = tuple[Difference, Callable[[], float]]
"""A difference without its p-value, and what computes that."""


def find_drift(samples: Mapping[str, tuple[Sample, Sample]], level: float) -> list[DriftFinding]:
    """Return the differences between training and a batch.

    Args:
        samples: The samples of training and of the batch, by type.
        level: The probability of any finding, over all types and quantities, in a batch of parts that were
            photographed as in training (Holm 1979).

    Returns:
        The findings, without differences that are too small to matter.
    """
    values = {name: (_values(training), _values(batch)) for name, (training, batch) in samples.items()}
    counts = {
        name: (_counts(training.conditions), _counts(batch.conditions)) for name, (training, batch) in samples.items()
    }
    return [
        DriftFinding(
            difference.type,
            difference.quantity,
            difference.training,
            difference.batch,
            difference.p_value,
            difference.method,
            message(difference.quantity, difference.training, difference.batch),
            advice(difference.quantity, difference.training, difference.batch),
        )
        for difference in find_differences(values, counts, level)
    ]


def find_differences(
    values: Mapping[str, tuple[Quantities, Quantities]], counts: Mapping[str, tuple[Counts, Counts]], level: float
) -> list[Difference]:
    """Return the quantities in which two sets of photographs differ, with corrected p-values.

    Args:
        values: The values of training and of the batch, by type.
        counts: The numbers of photographs of training and of the batch, by type.
        level: As in ``find_drift``.
    """
    compared = [(name, quantity, *both) for name, pair in values.items() for quantity, both in _comparable(*pair)]
    processed = [(name, *pair) for name, pair in counts.items() if pair[0].tried and pair[1].tried]
    count = len(compared) + len(processed)
    changes = [_compare_values(*arguments, level=level / count) for arguments in compared]
    changes += [_compare_shares(*arguments) for arguments in processed]
    if not any(difference.is_relevant for difference, _ in changes):
        return []
    tests = [replace(difference, p_value=p_value()) for difference, p_value in changes]
    corrected = holm([test.p_value for test in tests])
    found = {
        (test.type, test.quantity): replace(test, p_value=p_value)
        for test, p_value in zip(tests, corrected, strict=True)
        if p_value <= level and test.is_relevant
    }
    return [
        difference
        for (name, quantity), difference in found.items()
        if not any((name, cause) in found for cause in _CAUSES.get(quantity, ()))
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


def light_quantities(red: Values, green: Values, blue: Values) -> dict[str, Values]:
    """Return brightness, warmth (red against blue) and tint (green against both) from the means of the channels."""
    light: Values = np.maximum(np.mean([red, green, blue], axis=0), _TINY)
    # Noise that is cut off at 0 is a large part of a very dark channel. Adding as much grey reduces its weight.
    red, green, blue = red + light, green + light, blue + light
    return {"brightness": light, "warmth": red / blue, "tint": green / np.sqrt(red * blue)}


def _comparable(training: Quantities, batch: Quantities) -> Iterator[tuple[str, tuple[Values, Values]]]:
    """Yield the values of each quantity in training and batch, where both have enough of them.

    Training needs two values, because one value has no spread. The batch needs one.
    """
    for name in _MIN_CHANGE:
        if name in training and name in batch:
            both = tuple(quantities[name][np.isfinite(quantities[name])] for quantities in (training, batch))
            if len(both[0]) >= 2 and len(both[1]):
                yield name, (both[0], both[1])


def _counts(conditions: Conditions) -> Counts:
    return Counts(conditions.tried, len(conditions.values))


def _values(sample: Sample) -> dict[str, Values]:
    """Return the values of each quantity."""
    columns: dict[str, Values] = dict(zip(CONDITIONS, sample.conditions.values.T, strict=True))
    return {
        **light_quantities(columns["red"], columns["green"], columns["blue"]),
        "score": np.maximum(sample.scores, _TINY),
        **{name: columns[name] for name in ("sharpness", "inlier_ratio", "ssim")},
    }


def _compare_values(name: str, quantity: str, training: Values, batch: Values, *, level: float) -> _Change:
    """Compare a quantity of a batch with training.

    The test is Mann-Whitney's U if so few values can reach ``level`` at all; else the prediction interval.
    """
    medians = float(np.median(training)), float(np.median(batch))
    is_absolute, min_change = quantity in _ABSOLUTE, _MIN_CHANGE[quantity]
    if not is_absolute:
        min_change, training, batch = float(np.log1p(min_change)), np.log(training), np.log(batch)
    change = float(np.median(batch) - np.median(training))
    order = _share_in_order(training, batch)
    is_relevant = abs(change) >= min_change and max(order, 1 - order) >= _MIN_ORDER
    is_relevant = is_relevant and (change < 0 or quantity not in _LOWER_ONLY)
    if 2 / comb(len(batch) + len(training), len(batch)) <= level:
        difference = Difference(name, quantity, *medians, is_relevant, np.nan, "rank")
        return difference, partial(rank_test, batch, training)
    difference = Difference(name, quantity, *medians, is_relevant, np.nan, "interval")
    return difference, partial(_prediction_p_value, training, batch, _MIN_SPREAD * min_change)


def _share_in_order(training: Values, batch: Values) -> float:
    """The share of pairs (batch, training) in which the value of the batch is the larger one; equal values are half."""
    ordered = np.sort(training)
    below = sum(np.searchsorted(ordered, batch, side=side).sum() for side in ("left", "right"))
    return float(below) / (2 * len(batch) * len(training))


def _prediction_p_value(training: Values, batch: Values, min_spread: float) -> float:
    """Return the p-value of the batch's mean in the prediction interval of normal training values (Student's t)."""
    spread = max(float(training.std(ddof=1)), min_spread)
    distance = abs(float(batch.mean() - training.mean())) / (spread * np.sqrt(1 / len(batch) + 1 / len(training)))
    return 2 * student_tail(len(training) - 1, distance)


def _compare_shares(name: str, training: Counts, batch: Counts) -> _Change:
    """Test for a larger share of photographs that could not be processed (Fisher's exact test, one-sided)."""
    table = [[sample.tried - sample.processed, sample.processed] for sample in (batch, training)]
    training_share, batch_share = (1 - sample.processed / sample.tried for sample in (training, batch))
    is_relevant = batch_share - training_share >= _MIN_SHARE
    difference = Difference(name, "unprocessed", training_share, batch_share, is_relevant, np.nan, "share")
    return difference, partial(fisher_test, table)
