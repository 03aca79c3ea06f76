"""Measures of a batch against its truth: whole parts, and pixels."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from pixal.errors import InputError
from pixal.images import read_mask

_VALUES = 0x7C01  # non-negative float16 values, infinity included: their bit patterns, in increasing order
AUPRO_LIMIT = 0.3


@dataclass(frozen=True)
class Truth:
    """What is known of a type's parts. labels: name (with and without extension) to 0 (good) or 1; kinds alike."""

    folder: Path
    labels: dict[str, int]
    kinds: dict[str, str]

    def of(self, image: str, name: str) -> dict[str, Any] | None:
        """What is known of a part, by its file name or else its name in ``validate/``: label and kind."""
        for key in (image, name):
            if key in self.labels:
                return {"label": self.labels[key], "kind": self.kinds[key]}
        return None

    def mask(self, name: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The defect's pixels (H, W) = ``size`` of part ``name``; all false for a good part; None where not known."""
        path = self.folder / "masks" / f"{name}.png"
        if path.is_file():
            try:
                mask = read_mask(path)
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            if mask.shape != size:
                raise InputError(
                    f"{path} is {mask.shape[1]}x{mask.shape[0]}, its photograph {size[1]}x{size[0]} pixels"
                )
            return mask
        known_good = self.labels.get(name) == 0 and (self.folder / "masks").is_dir()
        return np.zeros(size, bool) if known_good else None


def read_truth(root: Path, types: list[str]) -> dict[str, Truth]:
    """The truth of each type: ``root/TYPE/labels.csv``, or for a single type ``root/labels.csv``.

    Raises InputError where there is none, or a table cannot be used.
    """
    if not root.is_dir():
        raise InputError(f"--truth {root} does not exist")
    found = {}
    for name in types:
        folder = root / name
        if len(types) == 1 and not folder.is_dir():
            folder = root
        path = folder / "labels.csv"
        if not path.is_file():
            raise InputError(f"--truth: {path} does not exist; it lists name,label[,kind] of each part (1: defective)")
        try:
            found[name] = _read_labels(folder, path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"--truth: {path} cannot be read ({error}); save it as CSV in UTF-8") from error
    return found


def _read_labels(folder: Path, path: Path) -> Truth:
    labels: dict[str, int] = {}
    kinds: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"name", "label"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: its first line has to name the columns name,label[,kind]")
        for row in reader:
            if row["label"] not in ("0", "1"):
                raise InputError(
                    f"{path}, line {reader.line_num}: label {row['label']!r} is neither 0 (good) nor 1 (defective)"
                )
            if labels.get(row["name"], int(row["label"])) != int(row["label"]):
                raise InputError(f"{path}, line {reader.line_num}: {row['name']} has another label further up")
            for name in {row["name"], Path(row["name"]).stem}:
                labels[name] = int(row["label"])
                kinds[name] = (row.get("kind") or "").strip()
    return Truth(folder, labels, kinds)


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


def _f1_max(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@dataclass
class PixelCounts:
    """Exact counts of pixel values, for measures of any number of maps in constant memory.

    Maps are float16; a non-negative float16 has one of 31,745 bit patterns, which order as the values do, so counting
    patterns loses nothing. positive, negative: pixels on and off defects; overlap: the sum over true regions of the
    share of the region that has each value.
    """

    positive: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    negative: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_VALUES, np.float64))
    regions: int = 0

    def add(self, anomaly_map: NDArray[np.float16], mask: NDArray[np.bool_]) -> None:
        """Count one map (H, W) with its true defect pixels (H, W)."""
        patterns = np.ascontiguousarray(anomaly_map, np.float16).view(np.uint16)
        self.negative += np.bincount(patterns[~mask], minlength=_VALUES)
        if not mask.any():
            return
        self.positive += np.bincount(patterns[mask], minlength=_VALUES)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        for region in range(1, count):
            values = patterns[labels == region]
            self.overlap += np.bincount(values, minlength=_VALUES) / len(values)
        self.regions += count - 1

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.positive + other.positive,
            self.negative + other.negative,
            self.overlap + other.overlap,
            self.regions + other.regions,
        )


def pixel_measures(counts: PixelCounts) -> dict[str, float | None]:
    """Pixel AUROC and average precision, and AUPRO up to a false-positive rate of 0.3 (Bergmann et al. 2021)."""
    if not counts.regions or not counts.negative.any():
        return {"pixel_auroc": None, "pixel_ap": None, "aupro": None}
    # From the highest value down: what lies at or above it.
    true = np.concatenate([[0], np.cumsum(counts.positive[::-1])])
    false = np.concatenate([[0], np.cumsum(counts.negative[::-1])])
    overlap = np.concatenate([[0], np.cumsum(counts.overlap[::-1])]) / counts.regions
    tpr, fpr = true / true[-1], false / false[-1]
    precision = true[1:] / np.maximum(true[1:] + false[1:], 1)
    return {
        "pixel_auroc": float(np.trapezoid(tpr, fpr)),
        "pixel_ap": float(np.sum(np.diff(tpr) * precision)),
        "aupro": _area_to(fpr, overlap, AUPRO_LIMIT),
    }


def _area_to(fpr: NDArray[np.float64], height: NDArray[np.float64], limit: float) -> float:
    """The area under a curve from 0 to ``limit``, over ``limit``."""
    inside = fpr <= limit
    x = np.append(fpr[inside], limit)
    y = np.append(height[inside], np.interp(limit, fpr, height))
    return float(np.trapezoid(y, x) / limit)


def all_measures(rows: list[dict[str, Any]], counts: PixelCounts) -> dict[str, Any]:
    """Every measure of parts with known truth: rows of ``label``, ``score``, ``failed``."""
    labels = np.array([row["label"] for row in rows], int)
    scores = np.array([row["score"] for row in rows], float)
    failed = np.array([row["failed"] for row in rows], bool)
    measures: dict[str, Any] = image_measures(labels, scores, failed)
    if counts.regions:
        measures |= pixel_measures(counts)
    kinds: dict[str, list[bool]] = {}
    for row in rows:
        if row["label"] and row["kind"]:
            for kind in row["kind"].split("+"):
                kinds.setdefault(kind, []).append(row["failed"])
    if kinds:
        measures["kinds"] = {
            kind: {"parts": len(found), "detection_rate": float(np.mean(found))}
            for kind, found in sorted(kinds.items())
        }
    return measures
