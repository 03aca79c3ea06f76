"""Whether a batch was taken, or scores, otherwise than the good parts the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import fisher_exact, mannwhitneyu, t

from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions
from pixal.tasks.photographs.verdicts.drift_messages import advice, message

Values = NDArray[np.float64]

# The smallest difference that matters: where the model, which has seen training's spread, may judge otherwise.
_LEAST_CHANGE = {  # of the medians: relative where a quantity is a ratio, else absolute
    "brightness": 0.05,
    "warmth": 0.025,  # in grey 5 % more of one channel
    "tint": 0.025,
    "sharpness": 0.10,
    "score": 0.25,
    "inlier_ratio": 0.05,
    "ssim": 0.05,
}
QUANTITIES = (*_LEAST_CHANGE, "unprocessed")
_ABSOLUTE = ("inlier_ratio", "ssim")
_LOWER_ONLY = ("inlier_ratio", "ssim")  # a batch that aligns better than training did is none the worse for it
_CAUSES = {"ssim": ("brightness", "warmth", "tint", "sharpness")}  # what lowers it: named instead
_LEAST_ORDER = 0.75  # share of the pairs of a batch's and a training value in order; 1 standard deviation apart: 0.76
_LEAST_SHARE = 0.1  # of the photographs, that cannot be processed
_TIGHT = 0.2  # of the least change: few photographs may agree better than that by chance


@dataclass(frozen=True)
class Sample:
    """A type's photographs, of training or of a batch.

    conditions: how they were taken. scores: (k,), of the parts that do not fail.
    """

    conditions: Conditions
    scores: Values


@dataclass(frozen=True)
class Finding:
    """What differs in a type's batch.

    training, batch: medians, or shares of photographs that could not be processed. p_value: corrected for the number
    of tests. test: rank (Mann-Whitney U), interval (training's prediction interval) or share (Fisher's exact test).
    """

    type: str
    quantity: str
    training: float
    batch: float
    p_value: float
    test: str
    message: str
    advice: str


@dataclass(frozen=True)
class _Test:
    type: str
    quantity: str
    training: float
    batch: float
    matters: bool
    p_value: float
    how: str


def find_drift(samples: Mapping[str, tuple[Sample, Sample]], level: float) -> list[Finding]:
    """What differs between training and batch, by type and quantity.

    ``samples``: training's and the batch's, by type. ``level``: the probability that a batch of parts taken as
    training's were has any finding at all, over all types and quantities (Holm 1979). A difference too small to
    matter is none.
    """
    pairs = [
        (name, quantity, *values) for name, both in samples.items() for quantity, values in _quantities(*both).items()
    ]
    shares = [
        (name, theirs.conditions, ours.conditions)
        for name, (theirs, ours) in samples.items()
        if theirs.conditions.tried and ours.conditions.tried
    ]
    count = len(pairs) + len(shares)
    tests = [_compare(*pair, level=level / count) for pair in pairs]
    tests += [_compare_shares(*share) for share in shares]
    corrected = holm([test.p_value for test in tests])
    found = {
        (test.type, test.quantity): Finding(
            test.type,
            test.quantity,
            test.training,
            test.batch,
            p_value,
            test.how,
            message(test.quantity, test.training, test.batch),
            advice(test.quantity, test.training, test.batch),
        )
        for test, p_value in zip(tests, corrected, strict=True)
        if p_value <= level and test.matters
    }
    return [
        finding
        for (name, quantity), finding in found.items()
        if not any((name, cause) in found for cause in _CAUSES.get(quantity, ()))
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): those up to a level are wrong, any of them, at most so often."""
    order = np.argsort(p_values)
    steps = len(p_values) - np.arange(len(p_values))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps * np.asarray(p_values, np.float64)[order]), 1)
    return [float(value) for value in corrected]


def _quantities(training: Sample, batch: Sample) -> dict[str, tuple[Values, Values]]:
    """What can be compared, of both: at least two photographs of training and one of the batch have it."""
    both = [_values(sample) for sample in (training, batch)]
    return {
        name: (both[0][name], both[1][name])
        for name in _LEAST_CHANGE
        if len(both[0][name]) >= 2 and len(both[1][name])  # of one there is no spread
    }


def _values(sample: Sample) -> dict[str, Values]:
    columns: dict[str, Any] = dict(zip(CONDITIONS, sample.conditions.values.T, strict=True))
    light = np.maximum(np.mean([columns[name] for name in ("red", "green", "blue")], axis=0), np.finfo(float).tiny)
    # Of a channel that is hardly there, noise that is cut off at 0 makes a good part: with as much grey it counts less.
    red, green, blue = (columns[name] + light for name in ("red", "green", "blue"))
    values = {
        "brightness": light,
        "warmth": red / blue,
        "tint": green / np.sqrt(red * blue),
        "score": np.maximum(sample.scores, np.finfo(float).tiny),
        **{name: columns[name] for name in ("sharpness", "inlier_ratio", "ssim")},
    }
    return {name: values[name][np.isfinite(values[name])] for name in _LEAST_CHANGE}


def _compare(name: str, quantity: str, training: Values, batch: Values, *, level: float) -> _Test:
    """Mann-Whitney's U, where so few can reach the ``level`` of one test at all; else the prediction interval."""
    medians = float(np.median(training)), float(np.median(batch))
    absolute, least = quantity in _ABSOLUTE, _LEAST_CHANGE[quantity]
    least = least if absolute else float(np.log1p(least))
    ours, theirs = (batch, training) if absolute else (np.log(batch), np.log(training))
    change = float(np.median(ours) - np.median(theirs))
    ranks = mannwhitneyu(ours, theirs)
    above = float(ranks.statistic) / (len(ours) * len(theirs))
    matters = abs(change) >= least and max(above, 1 - above) >= _LEAST_ORDER
    matters = matters and (change < 0 or quantity not in _LOWER_ONLY)
    if 2 / comb(len(ours) + len(theirs), len(ours)) <= level:
        return _Test(name, quantity, *medians, matters, float(np.nan_to_num(ranks.pvalue, nan=1)), "rank")
    return _Test(name, quantity, *medians, matters, _beyond_prediction(ours, theirs, _TIGHT * least), "interval")


def _beyond_prediction(ours: Values, theirs: Values, least_spread: float) -> float:
    """p-value of the mean of ``ours`` in the interval that the normal ``theirs`` predict for it (Student's t)."""
    spread = max(float(theirs.std(ddof=1)), least_spread)
    distance = abs(float(ours.mean() - theirs.mean())) / (spread * np.sqrt(1 / len(ours) + 1 / len(theirs)))
    return float(2 * t.sf(distance, len(theirs) - 1))


def _compare_shares(name: str, training: Conditions, batch: Conditions) -> _Test:
    """More photographs that could not be processed than in training: Fisher's exact test, one-sided."""
    table = [[one.tried - len(one.values), len(one.values)] for one in (batch, training)]
    theirs, ours = (1 - len(one.values) / one.tried for one in (training, batch))
    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    return _Test(name, "unprocessed", theirs, ours, ours - theirs >= _LEAST_SHARE, p_value, "share")
