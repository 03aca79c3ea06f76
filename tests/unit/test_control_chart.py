"""The control chart of failure rates: closed forms, and samples that are planted outside its limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixal.validation.control_chart import p_chart


def test_the_limits_are_those_of_the_text_book() -> None:
    """Two samples of 50 with 4 and 16 failures: p = 0.2, limits 0.2 ± 3 sqrt(0.16 / 50)."""
    chart = p_chart([4, 16], [50, 50])
    assert chart.centre == pytest.approx(0.2)
    assert chart.upper == pytest.approx([0.2 + 3 * math.sqrt(0.0032)] * 2)
    assert chart.lower == pytest.approx([0.2 - 3 * math.sqrt(0.0032)] * 2)
    assert chart.outside.tolist() == [0, 0]


def test_a_sample_that_differs_is_outside_and_larger_samples_have_closer_limits() -> None:
    chart = p_chart([2, 1, 30, 3, 0], [100, 50, 100, 100, 0])
    assert chart.outside.tolist() == [0, 0, 1, 0, 0]
    assert chart.upper[1] > chart.upper[0]
    assert np.isnan(chart.rates[4])
    assert p_chart([50, 49, 5, 48], [50, 50, 50, 50]).outside.tolist() == [1, 1, -1, 1]


def test_equal_rates_are_inside_and_bad_counts_are_refused() -> None:
    assert p_chart([0, 0], [5, 9]).outside.tolist() == [0, 0]
    assert p_chart([7, 3], [7, 3]).outside.tolist() == [0, 0]
    with pytest.raises(ValueError, match="between 0 and inspected"):
        p_chart([2], [1])
    with pytest.raises(ValueError, match="shape"):
        p_chart([2, 1], [3])


@given(st.lists(st.integers(0, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=1))
def test_as_one_by_one(samples: list[tuple[int, int]]) -> None:
    chart = p_chart([failed for failed, _ in samples], [size for _, size in samples])
    total = sum(size for _, size in samples)
    for index, (failed, size) in enumerate(samples):
        if not size:
            assert chart.outside[index] == 0
            continue
        p = sum(failed for failed, _ in samples) / total
        width = 3 * math.sqrt(p * (1 - p) / size)
        assert chart.lower[index] == pytest.approx(max(p - width, 0))
        assert chart.upper[index] == pytest.approx(min(p + width, 1))
        rate = failed / size
        if abs(abs(rate - p) - width) > 1e-9:
            assert chart.outside[index] == (rate > p + width) - (rate < p - width)
