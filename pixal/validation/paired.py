"""Compare two models on the same planted defects and the same good parts: paired tests and intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from pixal.validation.intervals import Interval, percentile_interval, resample_counts

Floats = NDArray[np.float64]

_SEED = 0
LEVEL = 0.95


@dataclass(frozen=True)
class PlantedScores:
    """The scores of one model for planted defects and for the good parts that they were planted on.

    Attributes:
        peaks: (D,), how far each defect stands out: the largest value of the anomaly map in its neighbourhood.
        parts: (D,), the index of the part that each defect was planted on.
        good: (P,), the scores of the parts without a defect.
        threshold: A defect is found, and a good part fails, if its value is above this.
    """

    peaks: Floats
    parts: NDArray[np.intp]
    good: Floats
    threshold: float

    @property
    def found(self) -> NDArray[np.bool_]:
        """(D,), whether each defect is found."""
        return np.asarray(self.peaks > self.threshold)

    @property
    def detection_rate(self) -> float:
        """The fraction of the defects that is found."""
        return float(self.found.mean())

    @property
    def auroc(self) -> float:
        """The area under the ROC curve: the probability that a defect has a larger value than a good part."""
        return float(self._wins.sum() / (len(self.peaks) * len(self.good)))

    @property
    def _wins(self) -> Floats:
        """(P, P): how often defects on one part exceed the score of another one; equal values count one half."""
        good = np.sort(self.good)
        order = np.argsort(self.good, kind="stable")
        below, at_most = (np.searchsorted(good, self.peaks, side) for side in ("left", "right"))
        ranks = np.arange(len(good))
        wins = np.zeros((len(good), len(good)))
        half = 0.5 * ((ranks < below[:, None]).astype(float) + (ranks < at_most[:, None]))
        np.add.at(wins, self.parts, half)
        unsorted = np.empty_like(wins)
        unsorted[:, order] = wins
        return unsorted


def pool_paired(paired: Sequence[PlantedScores]) -> PlantedScores:
    """Join what models of several types say: values in units of the threshold of the type, parts of all types."""
    starts = np.cumsum([0, *(len(each.good) for each in paired)])
    return PlantedScores(
        np.concatenate([each.peaks / each.threshold for each in paired]),
        np.concatenate([each.parts + start for each, start in zip(paired, starts, strict=False)]),
        np.concatenate([each.good / each.threshold for each in paired]),
        1.0,
    )


@dataclass(frozen=True)
class Difference:
    """The difference between two models on the same defects and parts.

    Attributes:
        detection_rate: Difference of the fractions of defects that are found.
        detection_interval: Its interval, by resampling parts.
        p_value: How often a difference at least as large would occur by chance: McNemar's exact test.
        auroc: Difference of the areas under the ROC curves.
        auroc_interval: Its interval, by resampling parts.
        alpha: The largest ``p_value`` of a difference that is called significant. The intervals have the level
            1 - ``alpha``.
    """

    detection_rate: float
    detection_interval: Interval
    p_value: float
    auroc: float
    auroc_interval: Interval
    alpha: float

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` if both test and interval of the detection rate say so, else ``no difference``."""
        low, high = self.detection_interval
        if self.p_value > self.alpha or low <= 0 <= high:
            return "no difference"
        return "better" if low > 0 else "worse"


def compare_paired(model: PlantedScores, baseline: PlantedScores, *, comparisons: int = 1) -> Difference:
    """Compare a model with another one.

    McNemar's exact test (McNemar 1947) asks whether, among the defects that only one of two models finds, both find as
    many. It treats defects as independent. Those on the same part are not quite, so that the intervals come from a
    bootstrap that draws whole parts, with all their defects, the same for both models (cluster bootstrap, Efron and
    Tibshirani 1993). 2000 resamples are drawn.

    Args:
        model: The model.
        baseline: The other one, on the same defects and parts, in the same order.
        comparisons: The number of comparisons that are made. All intervals together hold in 95 % of cases (Bonferroni).

    Raises:
        ValueError: The defects or the parts are not the same.
    """
    if len(model.good) != len(baseline.good) or not np.array_equal(model.parts, baseline.parts):
        raise ValueError("the models were scored on different defects or parts")
    alpha = (1 - LEVEL) / comparisons
    only_model = int((model.found & ~baseline.found).sum())
    only_baseline = int((baseline.found & ~model.found).sum())
    discordant = only_model + only_baseline
    p_value = float(binomtest(only_model, discordant).pvalue) if discordant else 1.0
    count = len(model.good)
    planted = np.bincount(model.parts, minlength=count).astype(float)
    gained = np.bincount(model.parts, model.found.astype(float) - baseline.found, count)
    wins = model._wins - baseline._wins

    def resampled(value: Callable[[Floats], Floats]) -> Interval:
        counts = resample_counts(np.random.default_rng(_SEED), count, count)
        return percentile_interval(
            [value(weights[weights @ planted > 0].astype(float)) for weights in counts], 1 - alpha
        )

    return Difference(
        model.detection_rate - baseline.detection_rate,
        resampled(lambda weights: (weights @ gained) / (weights @ planted)),
        p_value,
        model.auroc - baseline.auroc,
        resampled(lambda weights: np.einsum("bp,bp->b", weights @ wins, weights) / (count * (weights @ planted))),
        alpha,
    )
