"""Where accepted false alarms recur the map is lowered: there, as far as they show, and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.calibration.calibration import LOWEST_GAIN, Calibration
from pixal.calibration.maps import part_scores
from pixal.calibration.recurrence import FEWEST as FEWEST_MISSED
from pixal.calibration.recurrence import only_at, places_in, raise_places, recurring_places
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import choose_threshold
from pixal.calibration.tolerance import FEWEST, Tolerance, lower_places

SHAPE = (30, 50)
RATE = 0.05
PRINT = np.s_[10:14, 20:26]
ODD = np.arange(40) < 6  # rows of the false alarms


def maps_of(seed: int, count: int = 40, odd: NDArray[np.bool_] = ODD, height: float = 4.0) -> NDArray[np.float32]:
    """Maps of good parts, some of which have a print at one place."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, *SHAPE)).astype(np.float32)
    maps = np.stack([np.sqrt(cv2.GaussianBlur(value**2, (0, 0), 1.0)) for value in values])
    for row in np.flatnonzero(odd):
        maps[(row, *PRINT)] = height * rng.uniform(0.8, 1.0)
    return maps


def lowered(maps: NDArray[np.float32], odd: NDArray[np.bool_] = ODD) -> tuple[Calibration, NDArray[np.float32]]:
    plain = Calibration(np.ones((*SHAPE, 1), np.float32), part_scores(maps))
    made, given = lower_places(plain, odd, odd, lambda: maps, RATE, Threshold())
    return made, np.stack(list(given()))


def test_new_parts_with_the_variation_pass_and_others_score_as_before() -> None:
    made, _ = lowered(maps_of(0))
    assert made.gain is not None
    threshold, _ = choose_threshold(made.without(ODD), RATE, Threshold())
    new = maps_of(1, 200, np.arange(200) < 100)
    before, after = part_scores(new), part_scores(new * made.gain)
    assert (before[:100] > threshold).all()
    assert (after[:100] > threshold).mean() < 0.1
    assert (after[100:] == before[100:]).mean() > 0.9
    far = np.ones(SHAPE, bool)
    far[6:18, 16:30] = False
    assert (made.gain[far] == 1).mean() > 0.97  # noise of two false alarms is rarely as high at the same place
    assert made.gain[PRINT].max() < 0.9


def test_a_defect_at_the_place_is_found_if_it_is_higher_than_the_variation() -> None:
    made, _ = lowered(maps_of(0))
    assert made.gain is not None
    threshold, _ = choose_threshold(made.without(ODD), RATE, Threshold())
    part = maps_of(2, 1, np.zeros(1, bool))
    part[(0, *PRINT)] = 4.0 * 1.4
    assert part_scores(part * made.gain)[0] > threshold


def test_a_false_alarm_is_scored_as_if_it_were_not_known() -> None:
    """It is compared with a calculation that leaves it out, and then with the slow maximum over the others."""
    maps = maps_of(3)
    made, given = lowered(maps)
    threshold, _ = choose_threshold(made.without(ODD), RATE, Threshold())
    limit = choose_threshold(Calibration(made.variance, part_scores(maps)).without(ODD), RATE, Threshold())[0]
    grown = np.stack([cv2.dilate(values, np.ones((5, 5), np.uint8)) for values in maps])
    for row in range(6):
        others = [other for other in range(6) if other != row]
        count, highest = (grown[others] > limit).sum(0), grown[others].max(0)
        gain = np.where(count >= FEWEST, np.clip(0.8 * limit / highest, LOWEST_GAIN, 1), 1)
        np.testing.assert_allclose(given[row], maps[row] * gain, rtol=1e-5)
    assert made.scores == pytest.approx(part_scores(given), rel=1e-6)
    assert threshold == pytest.approx(limit, rel=0.1)


def test_a_single_false_alarm_changes_nothing() -> None:
    odd = np.arange(40) < FEWEST - 1
    maps = maps_of(4, odd=odd)
    made, given = lowered(maps, odd)
    assert made.gain is None
    np.testing.assert_array_equal(given, maps)
    apart = maps_of(4, odd=np.zeros(40, bool))
    for row in range(4):  # each elsewhere
        apart[row, 5 + 6 * row, 5 + 10 * row] = 6.0
    assert lowered(apart, np.arange(40) < 4)[0].gain is None


def test_the_map_is_never_lowered_to_nothing() -> None:
    made, _ = lowered(maps_of(5, height=100.0))
    assert made.gain is not None
    assert made.gain.min() == pytest.approx(LOWEST_GAIN)
    made.check((*SHAPE, 1))
    assert Tolerance.measure([], 1.0) is None


def test_lowered_and_raised_places_go_together() -> None:
    missed = recurring_places([[(40, 20, 4, 4)]] * FEWEST_MISSED, np.ones(SHAPE, bool))
    low, given = lowered(maps_of(6))
    both = raise_places(low.without(ODD), missed, given, RATE, Threshold())
    assert both.gain is not None
    assert low.gain is not None
    np.testing.assert_array_equal(both.gain < 1, low.gain < 1)
    np.testing.assert_array_equal(places_in(both.gain) > 0, missed > 0)
    without = only_at(both.gain, np.zeros_like(missed))  # what false alarms say stays
    np.testing.assert_array_equal(without, np.minimum(both.gain, 1))


def test_accepted_parts_that_passed_with_the_same_variation_do_not_keep_the_map_high() -> None:
    """The model before had its map lowered at the place, so they passed, and were accepted like all good parts."""
    passed = (np.arange(40) >= 6) & (np.arange(40) < 12)
    maps = maps_of(7, odd=ODD | passed)
    plain = Calibration(np.ones((*SHAPE, 1), np.float32), part_scores(maps))
    made, _ = lower_places(plain, ODD, ODD | passed, lambda: maps, RATE, Threshold())
    as_others, _ = lower_places(plain, ODD, ODD, lambda: maps, RATE, Threshold())
    assert as_others.gain is None  # compared with them, the false alarms are not high
    assert choose_threshold(made, RATE, Threshold())[0] < 0.6 * choose_threshold(as_others, RATE, Threshold())[0]
