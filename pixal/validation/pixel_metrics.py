"""Measures of pixels against true masks, exact for any number of anomaly maps and in little memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

_N_PATTERNS = 0x7C01  # bit patterns of the non-negative float16 values, infinity included
AUPRO_LIMIT = 0.3
NEAR_PART = 15.0  # pixels of the photograph
AUPIMO_RANGE = (1e-5, 1e-4)


@dataclass(frozen=True)
class DefectValues:
    """The anomaly values on the defects of one part.

    Attributes:
        patterns: (K,), the bit patterns of the K distinct values, in increasing order.
        counts: (K,), the number of pixels with each value.
    """

    patterns: NDArray[np.uint16]
    counts: NDArray[np.int32]


@dataclass
class PixelCounts:
    """Exact histograms of the values of any number of anomaly maps.

    Maps are float16. A non-negative float16 has one of V = 31,745 bit patterns, and the patterns have the same order as
    the values. So counting patterns loses nothing.

    Attributes:
        positive: (V,), the number of pixels on defects.
        negative: (V,), the number of pixels outside defects.
        near: (V,), the number of those that are ``near_part``.
        overlap: (V,), the sum over true regions of the share of the region's pixels.
        regions: The number of true regions.
        good: (V,), the sum over maps without a defect of the share of the map's pixels.
        good_maps: The number of maps without a defect.
        parts: The values on the defects of each other map, a few kilobytes per map.
    """

    positive: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_N_PATTERNS, np.int64))
    negative: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_N_PATTERNS, np.int64))
    near: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_N_PATTERNS, np.int64))
    overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_N_PATTERNS, np.float64))
    regions: int = 0
    good: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_N_PATTERNS, np.float64))
    good_maps: int = 0
    parts: tuple[DefectValues, ...] = ()

    def add(
        self, anomaly_map: NDArray[np.float16], mask: NDArray[np.bool_], near: NDArray[np.bool_] | None = None
    ) -> None:
        """Count the pixels of one map.

        Args:
            anomaly_map: (H, W), at least 0.
            mask: (H, W), the true defect pixels.
            near: (H, W), the pixels near the part, see ``near_part``; None: all.

        Raises:
            ValueError: The map holds NaN or values below 0.
        """
        patterns = np.ascontiguousarray(anomaly_map, np.float16).view(np.uint16).ravel()
        all_counts = np.bincount(patterns, minlength=_N_PATTERNS)
        if len(all_counts) > _N_PATTERNS:
            raise ValueError("an anomaly map holds NaN, or values below 0")
        near_negative = ~mask if near is None else near & ~mask
        self.near += np.bincount(patterns[near_negative.ravel()], minlength=_N_PATTERNS)
        on_defect = np.flatnonzero(mask)
        if not len(on_defect):
            self.negative += all_counts
            self.good += all_counts / patterns.size
            self.good_maps += 1
            return
        defect_patterns = patterns[on_defect]
        defect_counts = np.bincount(defect_patterns, minlength=_N_PATTERNS)
        self.positive += defect_counts
        self.negative += all_counts - defect_counts
        n_labels, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        region = labels.ravel()[on_defect]
        self.overlap += np.bincount(defect_patterns, 1 / np.bincount(region)[region], _N_PATTERNS)
        self.regions += n_labels - 1  # label 0 is the background
        distinct = np.flatnonzero(defect_counts)
        values = DefectValues(distinct.astype(np.uint16), defect_counts[distinct].astype(np.int32))
        self.parts = (*self.parts, values)

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.positive + other.positive,
            self.negative + other.negative,
            self.near + other.near,
            self.overlap + other.overlap,
            self.regions + other.regions,
            self.good + other.good,
            self.good_maps + other.good_maps,
            self.parts + other.parts,
        )


@dataclass(frozen=True)
class PixelMeasures:
    """Measures of pixels. A measure is None if there is nothing to compare.

    Attributes:
        pixel_auroc: Area under the ROC curve, in [0, 1]; None without pixels on and outside defects.
        pixel_ap: Average precision, in [0, 1]; None in the same cases.
        aupro: Area under the per-region overlap curve up to a false-positive rate of 0.3, divided by 0.3 (Bergmann et
            al. 2021); None in the same cases.
        aupro_near_part: The same, with the false-positive rate of the pixels near the part; None without such pixels.
        aupimo: The mean of ``part_aupimo`` over the parts with defects; None without a good map.
    """

    pixel_auroc: float | None
    pixel_ap: float | None
    aupro: float | None
    aupro_near_part: float | None
    aupimo: float | None


def near_part(part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels on a part, and those at most ``NEAR_PART`` pixels from it.

    Far from the part an anomaly map is 0. The more background a photograph shows, the lower is its false-positive
    rate, and the better the measures of its pixels; near the part this does not count.

    Args:
        part: (H, W), the pixels of the part.
    """
    if not part.any():
        return np.zeros_like(part)
    distances = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distances <= NEAR_PART)


def compute_pixel_measures(counts: PixelCounts) -> PixelMeasures:
    """Return the measures of the pixels that were counted."""
    aupimo = part_aupimo(counts)
    mean_aupimo = float(aupimo.mean()) if len(aupimo) else None
    if not counts.regions or not counts.negative.any():
        return PixelMeasures(None, None, None, None, mean_aupimo)
    true_positives, false_positives = _sum_from_highest(counts.positive), _sum_from_highest(counts.negative)
    false_near = _sum_from_highest(counts.near)
    overlap = _sum_from_highest(counts.overlap) / counts.regions
    tpr, fpr = true_positives / true_positives[-1], false_positives / false_positives[-1]
    precision = true_positives[1:] / np.maximum(true_positives[1:] + false_positives[1:], 1)
    return PixelMeasures(
        pixel_auroc=float(np.trapezoid(tpr, fpr)),
        pixel_ap=float(np.sum(np.diff(tpr) * precision)),
        aupro=_normalized_area(fpr, overlap, AUPRO_LIMIT),
        aupro_near_part=_normalized_area(false_near / false_near[-1], overlap, AUPRO_LIMIT) if false_near[-1] else None,
        aupimo=mean_aupimo,
    )


def part_aupimo(counts: PixelCounts) -> NDArray[np.float64]:
    """Return the AUPIMO of each map with defects (Bertoldo et al. 2024).

    AUPIMO is the area under a curve. Its y axis is the share of the map's defect pixels above a threshold. Its x axis
    is the decimal logarithm of the false-positive rate of that threshold, averaged over the good maps, from 1e-5 to
    1e-4. The area is divided by the length of that range.

    Returns:
        (N,), in [0, 1], one value per map with defects; empty without a good map.
    """
    if not counts.good_maps:
        return np.zeros(0)
    low, high = np.log10(AUPIMO_RANGE)
    rate = np.maximum(_sum_from_highest(counts.good)[:0:-1] / counts.good_maps, AUPIMO_RANGE[0])
    # A pixel is above the threshold at all rates from the rate of its own value: that share of the range.
    share = 1 - (np.minimum(np.log10(rate), high) - low) / (high - low)
    return np.array([np.average(share[part.patterns], weights=part.counts) for part in counts.parts])


def _sum_from_highest(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the cumulative sums of ``counts`` (V,) from the highest value down: (V + 1,), starting with 0."""
    return np.concatenate([[0.0], np.cumsum(counts[::-1])])


def _normalized_area(x: NDArray[np.float64], y: NDArray[np.float64], limit: float) -> float:
    """Return the area under the curve ``y`` of ``x`` from 0 to ``limit``, divided by ``limit``."""
    below = x <= limit
    inner_x = np.append(x[below], limit)
    inner_y = np.append(y[below], np.interp(limit, x, y))
    return float(np.trapezoid(inner_y, inner_x) / limit)
