"""The claim "found in 90 % of cases, with 95 % confidence" is true for 95 % of simulated data sets."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from tries import tries

from pixal.validation.detection_probability import fit_detection_curve

SIZES = np.repeat(np.geomspace(1, 16, 7), 20)
DATA_SETS = tries(150, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("slope", [2.0, 4.0])
def test_the_bound_covers_the_true_size_in_95_percent_of_data_sets(slope: float) -> None:
    generator = np.random.default_rng(5)
    true_a90 = 4 * 9 ** (1 / slope)
    bounds, above = [], 0
    for _ in range(DATA_SETS):
        curve = fit_detection_curve(SIZES, generator.random(len(SIZES)) < expit(slope * np.log(SIZES / 4)))
        bounds.append(np.inf if curve.a90_95 is None else curve.a90_95)
        above += curve.a90 is not None and curve.a90 > true_a90
    spread = 3 * np.sqrt(0.95 * 0.05 / DATA_SETS)  # three standard deviations
    assert 0.95 - spread <= np.mean(np.array(bounds) >= true_a90) <= 0.955 + spread
    assert abs(above / DATA_SETS - 0.5) < 0.05 + 1.5 / np.sqrt(DATA_SETS)
    assert np.median(bounds) < 2 * true_a90
