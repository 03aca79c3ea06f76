"""Measures of a batch against its truth: of whole parts, with their intervals, and of kinds of defects."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from pixal.validation.intervals import Interval, mean_interval, ranking_intervals, rate_interval
from pixal.validation.pixel_metrics import PixelCounts, part_aupimo, pixel_measures


def all_measures(rows: list[dict[str, Any]], counts: PixelCounts) -> dict[str, Any]:
    """Every measure of parts with known truth, as ``metrics.json`` has them.

    ``rows``: ``label``, ``kind``, ``score``, ``failed`` of each part. ``counts``: of the pixels of those with masks.
    """
    labels = np.array([row["label"] for row in rows], int)
    scores = np.array([row["score"] for row in rows], float)
    failed = np.array([row["failed"] for row in rows], bool)
    measures: dict[str, Any] = image_measures(labels, scores, failed)
    intervals = image_intervals(labels, scores, failed)
    if counts.regions:
        measures |= pixel_measures(counts)
        if len(aupimo := part_aupimo(counts)):
            intervals["aupimo"] = mean_interval(aupimo)
    measures["intervals"] = intervals
    kinds = [set(row["kind"].split("+")) - {""} if row["label"] else set() for row in rows]
    if named := sorted(set().union(*kinds)):
        measures["kinds"] = {
            kind: _kind_measures(labels, scores, failed, np.array([kind in held for held in kinds])) for kind in named
        }
    return measures


def image_measures(
    labels: NDArray[np.int_], scores: NDArray[np.float64], failed: NDArray[np.bool_]
) -> dict[str, float | int | None]:
    """Measures of parts: truth (n,) 0 or 1, scores (n,), verdicts (n,). None where one class is missing."""
    good, bad = labels == 0, labels == 1
    both = bool(good.any() and bad.any())
    result: dict[str, float | int | None] = {
        "good": int(good.sum()),
        "defective": int(bad.sum()),
        "image_auroc": float(roc_auc_score(labels, scores)) if both else None,
        "image_ap": float(average_precision_score(labels, scores)) if both else None,
        "f1_max": _f1_max(labels, scores) if both else None,
        "false_alarm_rate": float(failed[good].mean()) if good.any() else None,
        "detection_rate": float(failed[bad].mean()) if bad.any() else None,
    }
    return result


def image_intervals(
    labels: NDArray[np.int_], scores: NDArray[np.float64], failed: NDArray[np.bool_]
) -> dict[str, Interval]:
    """95 % confidence intervals of measures of parts, where there are any; arguments as of ``image_measures``."""
    intervals = {
        name: rate_interval(int(failed[labels == label].sum()), int((labels == label).sum()))
        for name, label in (("false_alarm_rate", 0), ("detection_rate", 1))
        if (labels == label).any()
    }
    if len(intervals) == 2:
        intervals |= ranking_intervals(labels, scores)
    return intervals


def _f1_max(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def _kind_measures(
    labels: NDArray[np.int_], scores: NDArray[np.float64], failed: NDArray[np.bool_], of_kind: NDArray[np.bool_]
) -> dict[str, Any]:
    """Those of the parts with one kind of defect (n,) bool: how well they stand out from the good parts."""
    parts, found = int(of_kind.sum()), int(failed[of_kind].sum())
    compared = of_kind | (labels == 0)
    good = bool((labels == 0).any())
    return {
        "parts": parts,
        "image_auroc": float(roc_auc_score(labels[compared], scores[compared])) if good else None,
        "detection_rate": found / parts,
        "intervals": {"detection_rate": rate_interval(found, parts)},
    }
