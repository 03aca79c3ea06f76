"""Odd training parts: found where one is far above the others, and hardly ever where none is."""

from __future__ import annotations

import numpy as np
import pytest

from pixal.calibration.odd_parts import find_odd_parts


@pytest.mark.parametrize("count", [10, 16, 40, 98])
def test_a_part_far_above_all_others_is_odd(count: int) -> None:
    scores = np.random.default_rng(count).gumbel(10, 1, count)
    scores[3] = scores.max() + 30
    np.testing.assert_array_equal(np.flatnonzero(find_odd_parts(scores)), [3])


def test_two_of_forty_parts_are_odd_but_not_three() -> None:
    scores = np.random.default_rng(0).gumbel(10, 1, 40)
    scores[[5, 9]] = scores.max() + np.array([30.0, 31.0])
    np.testing.assert_array_equal(np.flatnonzero(find_odd_parts(scores)), [5, 9])
    scores[20] = scores.max() - 0.5
    assert not find_odd_parts(scores).any()


@pytest.mark.parametrize("count", [1, 9, 99, 400])
def test_few_parts_tell_too_little_and_many_need_no_tail(count: int) -> None:
    scores = np.linspace(1, 2, count)
    scores[0] = 100
    assert not find_odd_parts(scores).any()


def test_equal_scores_hold_no_odd_part() -> None:
    assert not find_odd_parts(np.full(40, 2.0)).any()


@pytest.mark.parametrize("count", [16, 38])
def test_of_exponential_scores_as_many_have_an_odd_part_as_the_level_says(count: int) -> None:
    scores = np.random.default_rng(1).exponential(size=(4000, count))
    found = np.mean([find_odd_parts(row).any() for row in scores])
    assert found == pytest.approx(0.02, abs=4 * np.sqrt(0.02 * 0.98 / 4000))


def test_the_unit_of_scores_does_not_matter() -> None:
    for seed in range(200):
        scores = np.random.default_rng(seed).exponential(size=24)
        np.testing.assert_array_equal(find_odd_parts(scores), find_odd_parts(7 * scores + 3))


def slow_find_odd_parts(scores: list[float]) -> set[int]:
    """As ``find_odd_parts``, score by score."""
    order = sorted(range(len(scores)), key=lambda row: -scores[row])
    gaps = []  # below the j-th largest score, times j, down to the middle of all scores
    for j in range(1, len(scores) // 2 + 1):
        gaps.append(j * (scores[order[j - 1]] - scores[order[j]]))
    odd: set[int] = set()
    for count in range(1, max(1, len(scores) // 20) + 1):
        below = gaps[count:]
        if sum(below) > 0 and (1 + gaps[count - 1] / sum(below)) ** -len(below) < 0.02:
            odd = set(order[:count])
    return odd


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e3])
def test_odd_parts_are_those_of_a_slow_search(unit: float) -> None:
    generator = np.random.default_rng(11)
    found = 0
    for trial in range(300):
        scores = generator.exponential(size=int(generator.integers(10, 99)))
        scores[: trial % 4] += generator.uniform(0, 20)
        expected = slow_find_odd_parts((unit * scores).tolist())
        assert set(np.flatnonzero(find_odd_parts(unit * scores)).tolist()) == expected
        found += bool(expected)
    assert 25 < found < 250
