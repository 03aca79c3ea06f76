"""Places where defects recur. Few pixels need a lower threshold than a whole part for the same rate of false alarms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import choose_threshold, set_threshold

FEWEST = 3
"""Number of parts with a known defect at a place that make it one where defects recur."""

Box = tuple[int, int, int, int]
"""x, y, width and height in pixels of the model's input."""

Places = NDArray[np.int32]
"""(H, W): the number of the place that a pixel belongs to, from 1; 0: no place."""


def recurring_places(known: Iterable[Sequence[Box]], mask: NDArray[np.bool_]) -> Places:
    """Find the places where the known defects of at least ``FEWEST`` parts lie, each connected area being one place.

    Args:
        known: The boxes around the defects of each part.
        mask: The pixels of the part, (H, W).
    """
    count = np.zeros(mask.shape, np.int32)
    for boxes in known:
        covered = np.zeros(mask.shape, bool)
        for x, y, width, height in boxes:
            covered[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)] = True
        count += covered
    found = (count >= FEWEST) & mask
    return np.asarray(cv2.connectedComponents(found.astype(np.uint8))[1], np.int32)


def raise_places(
    calibration: Calibration,
    places: Places,
    maps: Iterable[NDArray[np.float32]],
    rate: float,
    settings: Threshold,
) -> Calibration:
    """Raise the anomaly map at places where defects recur, and calibrate the scores anew.

    The threshold on a score is high because a part has many pixels, each of which may be high by chance. A place has
    few. The map is multiplied there by the threshold of the whole part, divided by that of the place alone at the share
    ``rate / (1 + number of places)``. So a good part exceeds the threshold at a place as rarely as that. The threshold
    then comes from the scores of the raised maps, so that the requested rate still holds. Good parts that were chosen
    for their high scores count at the places: what was a false alarm there must not be raised.

    Args:
        calibration: The calibration without places that are raised.
        places: The places. Without any, nothing changes.
        maps: The map (H, W) of each held-out good part, in the order of ``calibration.all_scores``; multiplied by the
            gain of the calibration, if there is one.
        rate: The false-alarm rate, in (0, 1).
        settings: How the threshold is set.
    """
    count = int(places.max(initial=0))
    if calibration.stand_ins or not count:
        return calibration
    local = np.array([[values[places == place].max() for place in range(1, count + 1)] for values in maps], np.float64)
    threshold, _ = choose_threshold(calibration, rate, settings)
    of_places = [set_threshold(scores, rate / (1 + count), Threshold())[0] for scores in local.T]
    gains = np.array([max(1.0, threshold / of_place) if of_place > 0 else 1.0 for of_place in of_places])
    gain = np.concatenate([[1.0], gains]).astype(np.float32)[places]
    if calibration.gain is not None:
        gain *= calibration.gain
    scores = np.maximum(calibration.all_scores, (local * gains).max(1))
    return replace(
        calibration,
        gain=gain,
        scores=np.delete(scores, calibration.selected),
        selected_scores=scores[calibration.selected],
    )


def places_in(gain: NDArray[np.float32]) -> Places:
    """The places where a gain (H, W) raises the map."""
    return np.asarray(cv2.connectedComponents((gain > 1).astype(np.uint8))[1], np.int32)


def only_at(gain: NDArray[np.float32], places: Places) -> NDArray[np.float32]:
    """The gain (H, W) where it raises these places, or lowers any; 1 elsewhere."""
    return np.where((places > 0) | (gain < 1), gain, np.float32(1))
