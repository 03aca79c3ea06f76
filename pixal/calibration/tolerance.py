"""Places that good parts may look odd at, as false alarms that were accepted show. There the anomaly map is lowered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import LOWEST_GAIN, Calibration
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import choose_threshold

FEWEST = 2
"""Number of accepted false alarms at a place that lower the map there."""

Map = NDArray[np.float32]
"""(H, W)."""

_SHARE = 0.8  # of the threshold: what the highest of the accepted false alarms is lowered to
_REACH = 5  # side of the square, in input pixels, within which a variation may lie elsewhere on the next part


@dataclass(frozen=True)
class Tolerance:
    """What accepted false alarms show at each pixel.

    Attributes:
        limit: A threshold. Above it, a false alarm counts at a pixel.
        count: (H, W), how many do.
        highest: (H, W), the highest of their maps.
        second: (H, W), the second highest.
        owner: (H, W), the row of the part with the highest.
    """

    limit: float
    count: NDArray[np.int32]
    highest: Map
    second: Map
    owner: NDArray[np.int32]

    @classmethod
    def measure(cls, false_alarms: Iterable[tuple[int, Map]], limit: float) -> Tolerance | None:
        """Measure the maps of accepted false alarms, each with its row; None without any."""
        found: Tolerance | None = None
        for row, values in false_alarms:
            grown = _grown(values)
            if found is None:
                zeros = np.zeros_like(grown)
                found = cls(limit, np.zeros(grown.shape, np.int32), zeros, zeros, np.full(grown.shape, -1, np.int32))
            is_highest = grown > found.highest
            found = cls(
                limit,
                found.count + (grown > limit),
                np.maximum(grown, found.highest),
                np.where(is_highest, found.highest, np.maximum(grown, found.second)),
                np.where(is_highest, np.int32(row), found.owner),
            )
        return found

    @property
    def gain(self) -> Map:
        """What maps are multiplied by, (H, W)."""
        return self._gain(self.count, self.highest)

    def gain_without(self, row: int, values: Map) -> Map:
        """The same as if one of the false alarms, with this map, were not known."""
        return self._gain(
            self.count - (_grown(values) > self.limit), np.where(self.owner == row, self.second, self.highest)
        )

    def _gain(self, count: NDArray[np.int32], highest: Map) -> Map:
        lowered = np.clip(_SHARE * self.limit / np.maximum(highest, 1e-12), LOWEST_GAIN, 1)
        return np.where(count >= FEWEST, lowered, 1).astype(np.float32)


def lower_places(
    calibration: Calibration,
    is_false_alarm: NDArray[np.bool_],
    is_accepted: NDArray[np.bool_],
    maps: Callable[[], Iterable[Map]],
    rate: float,
    settings: Threshold,
) -> tuple[Calibration, Callable[[], Iterable[Map]]]:
    """Lower the anomaly map where at least ``FEWEST`` accepted false alarms are high, and calibrate the scores anew.

    A harmless variation on a few parts widens the spread of the errors only in part: a print on the share p of the
    parts remains 1 / sqrt(p) standard deviations high. So the map is multiplied where it recurs, such that the highest
    of the accepted ones is ``_SHARE`` of the threshold of the good parts that were not accepted from a batch: among the
    accepted ones are parts with the same variation that passed, because an earlier model had its map lowered already.
    Elsewhere nothing changes. A defect at such a place must be higher than the variation to be found.

    Args:
        calibration: The calibration of all held-out good parts, none of them left out.
        is_false_alarm: (N,), which parts are false alarms that were accepted.
        is_accepted: (N,), which parts were accepted. If all were, they are all compared with.
        maps: Returns the maps (H, W) of the N parts, in the order of the scores.
        rate: The false-alarm rate, in (0, 1).
        settings: How the threshold is set.

    Returns:
        The calibration, and what returns the lowered maps. The map of a false alarm is lowered by the others only.
    """
    if calibration.stand_ins or is_false_alarm.sum() < FEWEST:
        return calibration, maps
    threshold, _ = choose_threshold(calibration.without(is_accepted), rate, settings)
    chosen = ((row, values) for row, values in enumerate(maps()) if is_false_alarm[row])
    tolerance = Tolerance.measure(chosen, threshold)
    if tolerance is None or not (tolerance.gain < 1).any():
        return calibration, maps
    gain, known = tolerance.gain, tolerance

    def lowered() -> Iterator[Map]:
        for row, values in enumerate(maps()):
            yield values * (known.gain_without(row, values) if is_false_alarm[row] else gain)

    scores = np.array([values.max() for values in lowered()], np.float64)
    return replace(calibration, scores=scores, gain=gain), lowered


def _grown(values: Map) -> Map:
    """The largest value in the neighbourhood of each pixel."""
    return np.asarray(cv2.dilate(values, np.ones((_REACH, _REACH), np.uint8)), np.float32)
