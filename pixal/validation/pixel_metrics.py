"""Measures of pixels against true masks, of any number of maps in little memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

_VALUES = 0x7C01  # non-negative float16 values, infinity included: their bit patterns, in increasing order
AUPRO_LIMIT = 0.3
AUPIMO_RANGE = (1e-5, 1e-4)

Counts = NDArray[np.int64]
Values = tuple[NDArray[np.uint16], NDArray[np.int32]]
"""What a part's defects hold: the different values, as bit patterns, and how many pixels have each."""


@dataclass
class PixelCounts:
    """Exact counts of pixel values, for measures of any number of maps.

    Maps are float16; a non-negative float16 has one of 31,745 bit patterns, which order as the values do, so counting
    patterns loses nothing. positive, negative: pixels on and off defects. overlap: the sum over true regions of the
    share of the region that has each value. good: the sum over maps without a defect (there are ``good_maps``) of the
    share of the map that has each value. parts: the values on the defects of each other map, a few kilobytes each.
    """

    positive: Counts = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    negative: Counts = field(default_factory=lambda: np.zeros(_VALUES, np.int64))
    overlap: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_VALUES, np.float64))
    regions: int = 0
    good: NDArray[np.float64] = field(default_factory=lambda: np.zeros(_VALUES, np.float64))
    good_maps: int = 0
    parts: tuple[Values, ...] = ()

    def add(self, anomaly_map: NDArray[np.float16], mask: NDArray[np.bool_]) -> None:
        """Count one map (H, W) with its true defect pixels (H, W). Raises ValueError for values below 0, or NaN."""
        patterns = np.ascontiguousarray(anomaly_map, np.float16).view(np.uint16).ravel()
        every = np.bincount(patterns, minlength=_VALUES)
        if len(every) > _VALUES:
            raise ValueError("an anomaly map holds NaN, or values below 0")
        inside = np.flatnonzero(mask)
        if not len(inside):
            self.negative += every
            self.good += every / patterns.size
            self.good_maps += 1
            return
        values = patterns[inside]
        on = np.bincount(values, minlength=_VALUES)
        self.positive += on
        self.negative += every - on
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        region = labels.ravel()[inside]
        self.overlap += np.bincount(values, 1 / np.bincount(region)[region], _VALUES)
        self.regions += count - 1
        held = np.flatnonzero(on)
        self.parts = (*self.parts, (held.astype(np.uint16), on[held].astype(np.int32)))

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.positive + other.positive,
            self.negative + other.negative,
            self.overlap + other.overlap,
            self.regions + other.regions,
            self.good + other.good,
            self.good_maps + other.good_maps,
            self.parts + other.parts,
        )


def pixel_measures(counts: PixelCounts) -> dict[str, float | None]:
    """Pixel AUROC and average precision, AUPRO up to a false-positive rate of 0.3 (Bergmann et al. 2021), and AUPIMO.

    None where there is nothing to compare: no defect, nothing beside the defects, or (AUPIMO) no good map.
    """
    aupimo = part_aupimo(counts)
    measures: dict[str, float | None] = dict.fromkeys(("pixel_auroc", "pixel_ap", "aupro"))
    measures["aupimo"] = float(aupimo.mean()) if len(aupimo) else None
    if not counts.regions or not counts.negative.any():
        return measures
    true, false = _at_or_above(counts.positive), _at_or_above(counts.negative)
    overlap = _at_or_above(counts.overlap) / counts.regions
    tpr, fpr = true / true[-1], false / false[-1]
    precision = true[1:] / np.maximum(true[1:] + false[1:], 1)
    return measures | {
        "pixel_auroc": float(np.trapezoid(tpr, fpr)),
        "pixel_ap": float(np.sum(np.diff(tpr) * precision)),
        "aupro": _area_to(fpr, overlap, AUPRO_LIMIT),
    }


def part_aupimo(counts: PixelCounts) -> NDArray[np.float64]:
    """AUPIMO of each map with defects (n,), in [0, 1]; empty without a good map (Bertoldo et al. 2024).

    The area under the share of the map's defect pixels that a threshold finds, over the decimal logarithm of the
    share of false positives that it costs on good maps (their mean), from 1e-5 to 1e-4, over the length of that range.
    """
    if not counts.good_maps:
        return np.zeros(0)
    low, high = np.log10(AUPIMO_RANGE)
    cost = np.maximum(_at_or_above(counts.good)[:0:-1] / counts.good_maps, AUPIMO_RANGE[0])
    # A pixel is found at all rates from that which its own value costs as a threshold: its share of the range.
    share = 1 - (np.minimum(np.log10(cost), high) - low) / (high - low)
    return np.array([np.average(share[values], weights=number) for values, number in counts.parts])


def _at_or_above(counts: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums of ``counts`` (v,) of all values from the highest down: (v + 1,), the first 0, the last that of all."""
    return np.concatenate([[0.0], np.cumsum(counts[::-1])])


def _area_to(fpr: NDArray[np.float64], height: NDArray[np.float64], limit: float) -> float:
    """The area under a curve from 0 to ``limit``, over ``limit``."""
    inside = fpr <= limit
    x = np.append(fpr[inside], limit)
    y = np.append(height[inside], np.interp(limit, fpr, height))
    return float(np.trapezoid(y, x) / limit)
