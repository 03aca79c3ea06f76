"""Places where defects recur: how they are found, what they gain, and what they cost."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.calibration.maps import part_scores
from pixal.calibration.recurrence import FEWEST, only_at, places_in, raise_places, recurring_places
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import choose_threshold

SHAPE = (40, 60)
MASK = np.ones(SHAPE, bool)
PLACES = recurring_places([[(20, 10, 5, 5)]] * FEWEST, MASK)


def noise(count: int, seed: int) -> NDArray[np.float32]:
    """Maps of good parts: root mean squares of smooth noise."""
    values = np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)
    return np.stack([np.sqrt(cv2.GaussianBlur(value**2, (0, 0), 1.0)) for value in values])


def raised(maps: NDArray[np.float32], places: NDArray[np.int32] = PLACES, rate: float = 0.05) -> Calibration:
    calibration = Calibration(np.ones((*SHAPE, 1), np.float32), part_scores(maps))
    return raise_places(calibration, places, maps, rate, Threshold())


@pytest.mark.parametrize("seed", range(5))
def test_places_are_those_that_a_slow_count_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < 0.9
    known = [[tuple(rng.integers([-5, -5, 1, 1], [60, 40, 25, 20]).tolist()) for _ in range(2)] for _ in range(7)]
    expected = np.zeros(SHAPE, bool)
    for y, x in np.ndindex(SHAPE):
        parts = sum(any(a <= x < a + w and b <= y < b + h for a, b, w, h in boxes) for boxes in known)
        expected[y, x] = mask[y, x] and parts >= FEWEST
    places = recurring_places(known, mask)
    assert np.array_equal(places > 0, expected)
    assert len(np.unique(places[expected])) == places.max()


def test_several_boxes_of_one_part_count_once() -> None:
    assert not recurring_places([[(5, 5, 9, 9)] * FEWEST], MASK).any()


def test_scores_are_the_largest_values_of_the_raised_maps() -> None:
    maps = noise(30, 0)
    calibration = raised(maps)
    assert calibration.gain is not None
    assert np.array_equal(calibration.gain > 1, PLACES > 0)
    assert calibration.scores == pytest.approx(part_scores(maps * calibration.gain), rel=1e-6)
    assert np.array_equal(places_in(calibration.gain) > 0, PLACES > 0)
    assert (only_at(calibration.gain, np.zeros_like(PLACES)) == 1).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_faint_defects_at_the_place_are_found_and_good_parts_do_not_fail_more_often(seed: int) -> None:
    maps, new, rate = noise(60, seed), noise(1500, seed + 100), 0.05
    before, after = Calibration(np.ones((*SHAPE, 1), np.float32), part_scores(maps)), raised(maps)
    assert after.gain is not None
    faint = 0.95 * choose_threshold(before, rate, Threshold())[0]
    failed, found = [], []
    for calibration in (before, after):
        gain = np.ones(SHAPE, np.float32) if calibration.gain is None else calibration.gain
        threshold, _ = choose_threshold(calibration, rate, Threshold())
        defective = new.copy()
        defective[:, 12, 22] = np.maximum(defective[:, 12, 22], faint)
        failed.append((part_scores(new * gain) > threshold).mean())
        found.append((part_scores(defective * gain) > threshold).mean())
    assert failed[1] < failed[0] + 0.015
    assert found[0] < 0.2
    assert found[1] > 0.95


def test_false_alarms_that_were_accepted_count_at_their_place_and_nowhere_else() -> None:
    maps = noise(30, 4)
    maps[3] *= 5
    is_selected = np.arange(30) == 3
    plain = Calibration(np.ones((*SHAPE, 1), np.float32), part_scores(maps))
    without = plain.without(is_selected)
    calibration = raise_places(without, PLACES, maps, 0.05, Threshold())
    assert calibration.gain is not None
    assert (calibration.gain == 1).all()
    assert np.array_equal(calibration.scores, without.scores)
    maps[3, PLACES > 0] /= 5
    calibration = raise_places(without, PLACES, maps, 0.05, Threshold())
    assert calibration.gain is not None
    assert calibration.gain.max() > 1
    assert calibration.scores == pytest.approx(part_scores(maps[~is_selected] * calibration.gain), rel=1e-6)
    assert calibration.all_scores[3] == pytest.approx(float((maps[3] * calibration.gain).max()), rel=1e-6)


def test_without_places_nothing_changes() -> None:
    calibration = raised(noise(10, 5), np.zeros_like(PLACES))
    assert calibration.gain is None


@pytest.mark.parametrize("gain", [np.full(SHAPE, 0.1, np.float32), np.full(SHAPE, np.nan, np.float32)])
def test_a_gain_that_hides_defects_is_refused(gain: NDArray[np.float32]) -> None:
    calibration = Calibration(np.ones((*SHAPE, 1), np.float32), np.array([1.0, 2.0]), gain=gain)
    with pytest.raises(ValueError, match="gain"):
        calibration.check((*SHAPE, 1))
