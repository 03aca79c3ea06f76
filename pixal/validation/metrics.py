"""Measures of a batch against known truth: of whole parts, of their pixels, and of each kind of defect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.validation.intervals import Interval, mean_interval, ranking_intervals, rate_interval
from pixal.validation.pixel_metrics import PixelCounts, PixelMeasures, compute_pixel_measures, part_aupimo

# scikit-learn takes a second to import, so it is imported where it is used.


@dataclass(frozen=True)
class LabelledPart:
    """A part with a verdict whose truth is known.

    Attributes:
        label: 0 for a good part, 1 for a defective part.
        kind: The kinds of its defects, separated by ``+``; "" if not known.
        score: The score.
        failed: Whether the verdict is "fail".
    """

    label: int
    kind: str
    score: float
    failed: bool

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of defects of a defective part; none for a good part."""
        return frozenset(self.kind.split("+")) - {""} if self.label else frozenset()


@dataclass(frozen=True)
class ImageMeasures:
    """Measures of whole parts. A measure is None if the parts that it needs are missing.

    Attributes:
        good: The number of good parts.
        defective: The number of defective parts.
        image_auroc: Area under the ROC curve of the scores, in [0, 1].
        image_ap: Average precision of the scores, in [0, 1].
        f1_max: The highest F1 score over all thresholds, in [0, 1].
        false_alarm_rate: The share of good parts that failed.
        detection_rate: The share of defective parts that failed.
    """

    good: int
    defective: int
    image_auroc: float | None
    image_ap: float | None
    f1_max: float | None
    false_alarm_rate: float | None
    detection_rate: float | None


@dataclass(frozen=True)
class KindMeasures:
    """Measures of the parts with one kind of defect.

    Attributes:
        parts: The number of these parts.
        image_auroc: Area under the ROC curve against the good parts, in [0, 1]; None without good parts.
        detection_rate: The share of these parts that failed.
        detection_rate_interval: The 95 % confidence interval of that share.
    """

    parts: int
    image_auroc: float | None
    detection_rate: float
    detection_rate_interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """Return the content for ``metrics.json``."""
        return {
            "parts": self.parts,
            "image_auroc": self.image_auroc,
            "detection_rate": self.detection_rate,
            "intervals": {"detection_rate": list(self.detection_rate_interval)},
        }


@dataclass(frozen=True)
class Measures:
    """All measures of a batch.

    Attributes:
        image: Measures of whole parts.
        pixel: Measures of pixels; None if no part has a mask with a defect.
        intervals: 95 % confidence intervals by the name of the measure, of those measures that have one.
        kinds: Measures by kind of defect; empty if no kind is known.
    """

    image: ImageMeasures
    pixel: PixelMeasures | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    kinds: Mapping[str, KindMeasures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the content for ``metrics.json``."""
        content: dict[str, Any] = asdict(self.image)
        if self.pixel is not None:
            content |= asdict(self.pixel)
        content["intervals"] = {name: list(interval) for name, interval in self.intervals.items()}
        if self.kinds:
            content["kinds"] = {kind: measures.as_dict() for kind, measures in self.kinds.items()}
        return content


def compute_measures(parts: Sequence[LabelledPart], counts: PixelCounts) -> Measures:
    """Return every measure of parts whose truth is known.

    Args:
        parts: The parts; may be empty.
        counts: The pixel counts of those parts that have a mask.
    """
    labels = np.array([part.label for part in parts], int)
    scores = np.array([part.score for part in parts], float)
    failed = np.array([part.failed for part in parts], bool)
    intervals = image_intervals(labels, scores, failed)
    pixel = compute_pixel_measures(counts) if counts.regions else None
    if counts.regions and len(aupimo := part_aupimo(counts)):
        intervals["aupimo"] = mean_interval(aupimo)
    kinds = {}
    for kind in sorted({kind for part in parts for kind in part.kinds}):
        has_kind = np.array([kind in part.kinds for part in parts])
        kinds[kind] = _kind_measures(labels, scores, failed, has_kind)
    return Measures(image_measures(labels, scores, failed), pixel, intervals, kinds)


def image_measures(labels: NDArray[np.int_], scores: NDArray[np.float64], failed: NDArray[np.bool_]) -> ImageMeasures:
    """Return the measures of whole parts.

    Args:
        labels: (N,), 0 for good and 1 for defective.
        scores: (N,), higher for more anomalous parts.
        failed: (N,), whether the verdict is "fail".
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    good, defective = labels == 0, labels == 1
    has_both = bool(good.any() and defective.any())
    return ImageMeasures(
        good=int(good.sum()),
        defective=int(defective.sum()),
        image_auroc=float(roc_auc_score(labels, scores)) if has_both else None,
        image_ap=float(average_precision_score(labels, scores)) if has_both else None,
        f1_max=_f1_max(labels, scores) if has_both else None,
        false_alarm_rate=float(failed[good].mean()) if good.any() else None,
        detection_rate=float(failed[defective].mean()) if defective.any() else None,
    )


def image_intervals(
    labels: NDArray[np.int_], scores: NDArray[np.float64], failed: NDArray[np.bool_]
) -> dict[str, Interval]:
    """Return the 95 % confidence intervals of the measures of whole parts.

    Args:
        labels: (N,), 0 for good and 1 for defective.
        scores: (N,), higher for more anomalous parts.
        failed: (N,), whether the verdict is "fail".

    Returns:
        The intervals by the name of the measure, without the measures that are None.
    """
    intervals = {
        name: rate_interval(int(failed[labels == label].sum()), int((labels == label).sum()))
        for name, label in (("false_alarm_rate", 0), ("detection_rate", 1))
        if (labels == label).any()
    }
    if len(intervals) == 2:
        intervals |= ranking_intervals(labels, scores)
    return intervals


def _f1_max(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> float:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def _kind_measures(
    labels: NDArray[np.int_], scores: NDArray[np.float64], failed: NDArray[np.bool_], has_kind: NDArray[np.bool_]
) -> KindMeasures:
    """Compare the parts with one kind of defect, ``has_kind`` (N,), with the good parts."""
    from sklearn.metrics import roc_auc_score

    parts, detected = int(has_kind.sum()), int(failed[has_kind].sum())
    compared = has_kind | (labels == 0)
    has_good = bool((labels == 0).any())
    return KindMeasures(
        parts,
        float(roc_auc_score(labels[compared], scores[compared])) if has_good else None,
        detected / parts,
        rate_interval(detected, parts),
    )
