"""Calibration against direct computation, thresholds against simulation and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, gumbel_r

from pixal.calibration.calibration import (
    Calibration,
    calibrate,
    calibrate_by_texture,
    calibrate_scores,
    held_out_maps,
)
from pixal.calibration.maps import above, calibrated_maps, part_scores, raw_maps
from pixal.calibration.settings import Threshold
from pixal.calibration.single_image import shift_far, shift_near
from pixal.calibration.spread import ErrorMoments, error_variance
from pixal.calibration.thresholds import choose_threshold, fit_gumbel, p_values, set_threshold
from pixal.errors import ConfigError

AUTO = Threshold()


def kernel(sigma: float) -> np.ndarray:
    """Return a Gaussian kernel wide enough that its ends do not matter."""
    reach = int(np.ceil(6 * sigma))
    values = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return values / values.sum()


def slow_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the Gaussian blur, computed pixel by pixel, with zeros outside the image."""
    line = kernel(sigma)
    reach = len(line) // 2
    out = np.zeros(image.shape)
    for y, x in np.ndindex(*image.shape):
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if 0 <= y + dy < image.shape[0] and 0 <= x + dx < image.shape[1]:
                    out[y, x] += image[y + dy, x + dx] * line[dy + reach] * line[dx + reach]
    return out


def ellipse(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return ((y - height / 2) / (height / 2.6)) ** 2 + ((x - width / 2) / (width / 2.4)) ** 2 < 1


def test_error_variance_is_the_largest_blurred_square_near_a_pixel_plus_a_floor() -> None:
    generator = np.random.default_rng(0)
    mask = ellipse(17, 22)
    squared = (generator.random((17, 22, 2)) ** 4).astype(np.float32)
    actual = error_variance(squared, mask)
    for channel in range(2):
        blurred = slow_blur(squared[..., channel] * mask, 1.0) / np.maximum(slow_blur(mask.astype(float), 1.0), 1e-6)
        blurred *= mask
        largest = np.array(
            [[blurred[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7].max() for x in range(22)] for y in range(17)]
        )
        expected = largest + 0.1 * np.median(largest[mask]) + 1e-7
        np.testing.assert_allclose(actual[mask][:, channel], expected[mask], rtol=0.01)


def test_pixels_outside_the_part_do_not_change_its_variance() -> None:
    mask = ellipse(12, 12)
    squared = np.full((12, 12, 1), 0.01, np.float32)
    loud = np.where(mask[..., None], squared, 5.0).astype(np.float32)
    np.testing.assert_array_equal(error_variance(loud, mask), error_variance(squared, mask))
    # A constant stays constant up to the edge; the floor adds a tenth.
    np.testing.assert_allclose(error_variance(squared, mask)[mask], 0.011, rtol=1e-3)


@pytest.mark.parametrize("mask", [np.zeros((6, 7), bool), np.ones((6, 7), bool)], ids=["no pixel", "every pixel"])
def test_the_variance_is_never_zero(mask: np.ndarray) -> None:
    actual = error_variance(np.zeros((6, 7, 2), np.float32), mask)
    assert actual.shape == (6, 7, 2)
    assert (actual >= 1e-7 * 0.999).all()


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_calibrated_maps_are_the_root_mean_square_of_error_over_deviation(smoothing: float) -> None:
    generator = np.random.default_rng(1)
    mask = ellipse(9, 10)
    errors = generator.standard_normal((2, 9, 10, 3)).astype(np.float32)
    variance = (0.5 + generator.random((9, 10, 3))).astype(np.float32)
    weights = np.array([1.0, 0.0, 3.0], np.float32)
    actual = calibrated_maps(errors, variance, mask, weights, smoothing)
    for n in range(2):
        squares = np.zeros(mask.shape)
        for y, x in np.argwhere(mask):
            squares[y, x] = sum(weights[c] / 4 * errors[n, y, x, c] ** 2 / variance[y, x, c] for c in range(3))
        expected = np.sqrt(slow_blur(squares, smoothing) if smoothing else squares) * mask
        np.testing.assert_allclose(actual[n], expected, rtol=0.01, atol=1e-3)
        assert part_scores(actual)[n] == pytest.approx(expected.max(), rel=0.01)
    assert not actual[:, ~mask].any()


def test_good_parts_have_maps_around_one() -> None:
    """Errors divided by their standard deviation have a mean square of 1."""
    generator = np.random.default_rng(2)
    mask = np.ones((30, 30), bool)
    variance = np.full((30, 30, 4), 0.04, np.float32)
    errors = (0.2 * generator.standard_normal((20, 30, 30, 4))).astype(np.float32)
    maps = calibrated_maps(errors, variance, mask, np.ones(4, np.float32), 0)
    assert np.mean(maps**2) == pytest.approx(1, rel=0.02)


def test_raw_maps_are_the_weighted_mean_of_the_loss() -> None:
    generator = np.random.default_rng(3)
    mask = ellipse(8, 8)
    losses = generator.random((2, 8, 8, 2)).astype(np.float32)
    weights = np.array([1.0, 3.0], np.float32)
    expected = (losses[..., 0] + 3 * losses[..., 1]) / 4 * mask
    np.testing.assert_allclose(raw_maps(losses, mask, weights, 0), expected, rtol=1e-5)
    blurred = np.stack([slow_blur(values, 1.0) for values in expected]) * mask
    np.testing.assert_allclose(raw_maps(losses, mask, weights, 1.0), blurred, rtol=0.02, atol=1e-3)


def test_the_score_of_a_part_uses_the_variance_of_the_other_folds() -> None:
    generator = np.random.default_rng(8)
    mask = ellipse(8, 9)
    errors = generator.standard_normal((5, 8, 9, 2)).astype(np.float32)
    errors[3] *= 4
    folds = [np.array([0, 3]), np.array([1, 4]), np.array([2])]
    weights = np.array([1.0, 2.0], np.float32)
    actual = calibrate(errors, folds, mask=mask, weights=weights, smoothing=0.5)
    expected = []
    for fold in folds:
        others = np.setdiff1d(np.arange(5), fold)
        variance = error_variance(np.mean(errors[others] ** 2, axis=0), mask)
        expected += [calibrated_maps(errors[[row]], variance, mask, weights, 0.5).max() for row in fold]
    np.testing.assert_allclose(actual.scores, expected, rtol=1e-4)
    np.testing.assert_allclose(actual.variance, error_variance(np.mean(errors**2, axis=0), mask), rtol=1e-5)
    assert actual.scores[1] == actual.scores.max()


def test_a_distance_counts_as_far_as_it_exceeds_the_mean_of_the_other_folds() -> None:
    """Good parts have some distance at every pixel; a deviation is measured from its mean over the other folds."""
    generator = np.random.default_rng(8)
    mask = ellipse(8, 9)
    distances = (10 + generator.standard_normal((6, 8, 9, 1))).astype(np.float32)
    distances[4, 3, 4] += 30
    folds = [np.array([0, 3]), np.array([1, 4]), np.array([2, 5])]
    settings = {"mask": mask, "weights": np.ones(1, np.float32), "smoothing": 0.5}
    actual = calibrate(distances, folds, **settings, distances=True)
    expected = []
    for fold in folds:
        others = distances[np.setdiff1d(np.arange(6), fold)]
        variance = error_variance(others.var(axis=0, ddof=1), mask)
        deviations = np.maximum(distances[fold] - others.mean(axis=0), 0)
        expected += list(calibrated_maps(deviations, variance, **settings).max((1, 2)))
    np.testing.assert_allclose(actual.scores, expected, rtol=1e-3)
    np.testing.assert_allclose(actual.variance, error_variance(distances.var(axis=0, ddof=1), mask), rtol=1e-3)
    np.testing.assert_allclose(actual.center, distances.mean(axis=0), rtol=1e-5)
    assert actual.scores[3] == actual.scores.max()
    # A distance below that of good parts is no deviation.
    near = above(np.zeros((1, 8, 9, 1), np.float32), actual.center)
    assert not calibrated_maps(near, actual.variance, **settings).any()
    assert calibrate(distances, folds, **settings).center is None


def test_in_a_single_fold_the_score_of_a_part_uses_the_variance_of_the_others() -> None:
    errors = np.random.default_rng(9).standard_normal((5, 6, 6, 1)).astype(np.float32)
    mask = np.ones((6, 6), bool)
    rows = np.array([0, 2, 3])
    actual = calibrate(errors, [rows], mask=mask, weights=np.ones(1, np.float32), smoothing=0)
    np.testing.assert_allclose(actual.variance, error_variance((errors[rows] ** 2).mean(0), mask), rtol=1e-5)
    expected = []
    for row in rows:
        variance = error_variance((errors[rows[rows != row]] ** 2).mean(0), mask)
        expected.append(calibrated_maps(errors[[row]], variance, mask, np.ones(1, np.float32), 0).max())
    np.testing.assert_allclose(actual.scores, expected, rtol=1e-5)


@pytest.mark.parametrize("folds", [[np.array([0]), np.array([1])], [np.array([0, 1])], [np.array([1])]])
def test_the_scores_of_two_parts_use_the_variance_of_a_wider_neighbourhood(folds: list[np.ndarray]) -> None:
    """The two errors have opposite signs, so the variance of one part would hide the error of the other."""
    generator = np.random.default_rng(10)
    errors = generator.normal(0, 0.01, (1, 50, 60, 1)).astype(np.float32)
    errors[0, 20:24, 30:34] = 0.2
    errors = np.concatenate([errors, -errors])
    mask = np.ones((50, 60), bool)
    actual = calibrate(errors, folds, mask=mask, weights=np.ones(1, np.float32), smoothing=1)
    narrow = calibrated_maps(errors, actual.variance, mask, np.ones(1, np.float32), 1).max((1, 2))
    assert (actual.scores > 3 * narrow.max()).all()
    assert actual.scores[0] == pytest.approx(actual.scores[-1], rel=1e-5)
    np.testing.assert_allclose(actual.variance, error_variance(errors[1] ** 2, mask), rtol=1e-4)


def textured(seed: int = 0) -> np.ndarray:
    """Return a part with an edge, mostly smooth, and noisy at one end."""
    image = np.full((40, 60, 2), 0.4, np.float32)
    image[:, 42:] += 0.3 * np.random.default_rng(seed).random((40, 18, 2), np.float32)
    image[10:30, 10:20] += 0.3
    return image


def by_texture(image: np.ndarray, mask: np.ndarray) -> Calibration:
    """Calibrate a model whose reconstruction is always ``image``."""
    near, far = shift_near(image, mask) - image, shift_far(image, mask) - image
    return calibrate_by_texture(near, far, mask=mask, weights=np.ones(2, np.float32), smoothing=1.0)


def test_one_part_is_calibrated_with_shifted_copies_of_it() -> None:
    image, mask, weights = textured(), np.zeros((40, 60), bool), np.ones(2, np.float32)
    mask[3:-3, 4:-4] = True
    actual = by_texture(image, mask)
    assert actual.stand_ins
    assert len(actual.scores) == 8
    # The variance is larger at the edge and at the noisy end than in the smooth area.
    smooth, edge, noisy = actual.variance[6, 30], actual.variance[20, 10], actual.variance[20, 50]
    assert (edge > 3 * smooth).all()
    assert (noisy > 1.3 * smooth).all()
    # Pixels outside the part are ignored.
    changed_background = np.where(mask[..., None], image, 9.0).astype(np.float32)
    again = by_texture(changed_background, mask)
    np.testing.assert_allclose(again.variance[mask], actual.variance[mask], rtol=1e-4)
    np.testing.assert_allclose(again.scores, actual.scores, rtol=1e-4)

    threshold, method = choose_threshold(actual, 0.01, AUTO)
    assert method == "texture"
    assert threshold > actual.scores.max()

    def score(part: np.ndarray) -> float:
        return float(calibrated_maps((part - image)[None], actual.variance, mask, weights, 1.0).max())

    shifted = image.copy()
    shifted[:, 1:] = image[:, :-1]
    assert score(shifted) < threshold  # misaligned by one pixel
    assert score(image + np.float32(0.01)) < threshold  # a little brighter
    stained = image.copy()
    stained[18:22, 28:34] += 0.3
    assert score(stained) > threshold


@pytest.mark.parametrize(("shift", "distance"), [(shift_near, 0.5), (shift_far, 2.0)])
def test_a_part_is_shifted_in_eight_directions(shift: Any, distance: float) -> None:
    y, x = np.mgrid[0:12, 0:16].astype(np.float32)
    image = np.stack([0.02 * x, 0.03 * y], axis=-1)
    mask = np.ones((12, 16), bool)
    mask[:, :4] = False
    image[~mask] = 7  # nothing from outside moves in
    copies = shift(image, mask)
    assert copies.shape == (8, 12, 16, 2)
    rows, inside, edge = slice(3, -3), slice(8, -3), 4
    for index, copy in enumerate(copies):
        dx, dy = distance * np.cos(index * np.pi / 4), distance * np.sin(index * np.pi / 4)
        moved = image - np.array([0.02 * dx, 0.03 * dy], np.float32)
        np.testing.assert_allclose(copy[rows, inside], moved[rows, inside], atol=2e-3)  # OpenCV: 1/32 pixel
        share = np.clip(1 - dx, 0, 1)  # of a pixel at the edge that the shifted part covers
        expected = moved if share > 0.5 else image
        np.testing.assert_allclose(copy[rows, edge, 1], expected[rows, edge, 1], atol=2e-3)
    np.testing.assert_array_equal(copies[:, rows, :2], 7)
    if distance == 0.5:  # a pixel outside of which the shifted part covers one half
        np.testing.assert_array_equal(copies[4, rows, 3], 7)


def test_thresholds_from_a_single_part() -> None:
    actual = by_texture(textured(), np.ones((40, 60), bool))
    for rate in (0.5, 0.1, 0.001):
        threshold, method = choose_threshold(actual, rate, AUTO)
        assert (threshold, method) == choose_threshold(actual, rate, Threshold(method="tail"))
        new = np.geomspace(0.5, 50, 300)
        np.testing.assert_array_equal(p_values(new, actual.scores, method) <= rate, new > threshold)
    assert choose_threshold(actual, 0.01, Threshold(method="fixed", value=3.5)) == (3.5, "fixed")
    sigma = Threshold(method="sigma", value=2)
    assert choose_threshold(actual, 0.01, sigma) == set_threshold(actual.scores, 0.01, sigma)
    with pytest.raises(ConfigError, match=r"needs 4 .* there are 0"):
        choose_threshold(actual, 0.2, Threshold(method="conformal"))
    held_out = Calibration(actual.variance, actual.scores)
    assert choose_threshold(held_out, 0.01, AUTO) == set_threshold(actual.scores, 0.01, AUTO)


def test_no_parts_give_no_maps() -> None:
    none = np.zeros((0, 4, 4, 1), np.float32)
    assert calibrated_maps(none, np.ones((4, 4, 1), np.float32), np.ones((4, 4), bool), np.ones(1), 1.0).shape == (
        0,
        4,
        4,
    )


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (399, 0.01), (99, 0.05), (20, 0.05), (399, 0.0025)])
@pytest.mark.parametrize("draw", ["lognormal", "standard_cauchy"])
def test_conformal_keeps_the_false_alarm_rate_whatever_the_distribution(count: int, rate: float, draw: str) -> None:
    """Simulation: at most a share ``rate`` of new parts, exchangeable with the good parts, are above the threshold."""
    generator = np.random.default_rng(count)
    trials = 4000
    scores = np.abs(getattr(generator, draw)(size=(trials, count + 1))) + 1e-6
    alarms = sum(row[-1] > set_threshold(row[:-1], rate, AUTO)[0] for row in scores)
    assert set_threshold(scores[0, :-1], rate, AUTO)[1] == "conformal"
    exact = np.floor(rate * (count + 1) + 1e-9) / (count + 1)  # for exchangeable, continuous scores
    low, high = binom.interval(1 - 1e-4, trials, exact)
    assert low <= alarms <= high
    assert exact <= rate + 1e-12


@pytest.mark.parametrize("held_out", range(1, 400, 7))
def test_conformal_is_used_with_enough_parts(held_out: int) -> None:
    rate = 1 / (held_out + 1)
    scores = np.linspace(1, 2, held_out)
    assert set_threshold(scores, rate, AUTO) == (scores.max(), "conformal")
    if held_out > 1:
        assert set_threshold(scores, rate * 0.99, AUTO)[1] == "conformal+tail"


@pytest.mark.parametrize(
    ("rate", "needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.001, 999), (0.02, 49), (0.0025, 399)]
)
def test_conformal_with_too_few_parts_says_how_many_it_needs(rate: float, needed: int) -> None:
    settings = Threshold(method="conformal")
    with pytest.raises(ConfigError, match=f"needs {needed} .* there are {needed - 1}"):
        set_threshold(np.linspace(1, 2, needed - 1), rate, settings)
    assert set_threshold(np.linspace(1, 2, needed), rate, settings) == (2.0, "conformal")


def test_tail_is_the_quantile_of_the_gumbel_distribution_of_the_scores() -> None:
    generator = np.random.default_rng(4)
    scores = gumbel_r.rvs(1.2, 0.15, size=(40, 60), random_state=generator)
    settings = Threshold(method="tail")
    actual = [set_threshold(row, 0.01, settings)[0] for row in scores]
    truth = gumbel_r.isf(0.01, 1.2, 0.15)
    assert np.median(actual) == pytest.approx(truth, abs=0.05)
    assert max(abs(np.array(actual) - truth)) < 0.5
    row = scores[0]
    location, scale = gumbel_r.fit(row)
    scale = max(scale, row.std(ddof=1) * np.sqrt(6) / np.pi)
    assert actual[0] == pytest.approx(gumbel_r.isf(0.01, location, scale), abs=1e-6)


def test_a_lower_rate_never_gives_a_lower_threshold() -> None:
    rates = np.geomspace(0.5, 1e-4, 60)
    for seed in range(20):
        scores = np.exp(np.random.default_rng(seed).standard_t(3, 24) / 3)
        thresholds = [set_threshold(scores, rate, AUTO)[0] for rate in rates]
        assert (np.diff(thresholds) >= 0).all()
        for rate, threshold in zip(rates, thresholds, strict=True):
            new = np.append(np.geomspace(0.5, 50, 300), [scores.max(), scores.min()])
            p = p_values(new, scores, set_threshold(scores, rate, AUTO)[1])
            np.testing.assert_array_equal(p <= rate + 1e-12, new > threshold)


def test_a_few_high_scores_raise_the_tail() -> None:
    bulk = np.exp(np.random.default_rng(5).normal(0, 0.01, 30))
    settings = Threshold(method="tail")
    tight = set_threshold(bulk, 0.01, settings)[0]
    wide = set_threshold(np.append(bulk, [2.0, 2.2]), 0.01, settings)[0]
    assert tight < 1.2
    assert wide > 1.5


def test_sigma_and_fixed() -> None:
    scores = np.array([1.0, 2.0, 4.0, 3.0])
    logs = np.log(scores)
    actual = set_threshold(scores, 0.01, Threshold(method="sigma", value=3))
    assert actual == (pytest.approx(np.exp(logs.mean() + 3 * logs.std(ddof=1))), "sigma")
    assert set_threshold(scores, 0.01, Threshold(method="fixed", value=7.5)) == (7.5, "fixed")


@pytest.mark.parametrize("method", ["conformal", "tail"])
@pytest.mark.parametrize("rate", [0.01, 0.02, 0.05, 0.1, 0.3])
def test_a_part_fails_exactly_when_its_p_value_is_at_most_the_rate(method: str, rate: float) -> None:
    generator = np.random.default_rng(6)
    good = np.round(np.exp(generator.normal(1, 0.2, 120)), 2)  # rounded, so that there are ties
    threshold, _ = set_threshold(good, rate, Threshold(method=method))
    new = np.concatenate([good, np.exp(generator.normal(1, 0.4, 500))])
    if method == "conformal":
        new = np.append(new, threshold)
    p = p_values(new, good, method)
    np.testing.assert_array_equal(p <= rate + 1e-12, new > threshold)
    assert ((p > 0) & (p <= 1)).all()


def test_p_values_count_the_part_itself() -> None:
    good = np.array([1.0, 2.0, 2.0, 3.0])
    np.testing.assert_allclose(p_values(np.array([0.5, 2.0, 2.5, 3.0]), good, "conformal"), [1, 0.8, 0.4, 0.4])
    np.testing.assert_allclose(p_values(np.array([2.5]), good, "sigma"), [0.4])


def test_the_p_value_of_a_score_does_not_depend_on_the_rate() -> None:
    generator = np.random.default_rng(8)
    good = np.exp(generator.normal(1, 0.2, 24))
    new = np.concatenate([good, np.exp(generator.normal(1, 0.6, 200))])
    rates = (0.01, 0.04, 0.05, 0.3)
    methods = {set_threshold(good, rate, AUTO)[1] for rate in rates}
    assert methods == {"conformal", "conformal+tail"}
    first, *others = (p_values(new, good, set_threshold(good, rate, AUTO)[1]) for rate in rates)
    for other in others:
        np.testing.assert_array_equal(other, first)
    assert (first[new > good.max()] < 1 / 25).any()


@pytest.mark.slow
def test_conformal_p_values_of_good_parts_are_valid() -> None:
    generator = np.random.default_rng(7)
    p = np.array([p_values(row[:1], row[1:], "conformal")[0] for row in generator.random((3000, 50))])
    for level in (0.02, 0.1, 0.5):
        assert np.mean(p <= level) <= level + 4 * np.sqrt(level * (1 - level) / 3000)


@pytest.mark.parametrize("good", [[1.3, 1.5], [1.3, 1.3], [0.0, 0.0], [2.0], [0.0, 1.0, 1.0]])
@pytest.mark.parametrize("method", ["auto", "tail", "sigma"])
def test_few_or_equal_scores_give_a_finite_threshold_that_they_pass(good: list[float], method: str) -> None:
    scores = np.array(good)
    settings = Threshold(method=method, value=3 if method == "sigma" else None)
    threshold, used = set_threshold(scores, 0.01, settings)
    assert np.isfinite(threshold)
    assert threshold >= scores.max() * 0.999
    p = p_values(np.array([0.0, 1.0, 100.0]), scores, used)
    assert np.isfinite(p).all()
    assert (np.diff(p) <= 0).all()


@pytest.mark.parametrize("count", [2, 4, 50])
def test_equal_scores_have_a_tail_of_a_quarter_of_their_mean_divided_by_their_number(count: int) -> None:
    rate = 0.01
    threshold, method = set_threshold(np.full(count, 2.0), rate, Threshold(method="tail"))
    assert method == "tail"
    assert threshold == pytest.approx(2 - 0.25 / count * 2 * np.log(-np.log(1 - rate)))


def test_two_parts_share_the_variance_of_a_wide_neighbourhood() -> None:
    """A blur of 16 input pixels, whose edges a part of 60 x 60 pixels shows."""
    errors = np.random.default_rng(5).normal(0, 0.1, (2, 60, 60, 1)).astype(np.float32)
    errors[0, 20:24, 20:24] = 1
    mask, weights = np.ones((60, 60), bool), np.ones(1, np.float32)
    actual = calibrate(errors, [np.array([0]), np.array([1])], mask=mask, weights=weights, smoothing=1.0)
    variance = error_variance((errors**2).mean(0), mask, sigma=16.0)
    np.testing.assert_allclose(actual.scores, part_scores(calibrated_maps(errors, variance, mask, weights, 1.0)), 1e-5)
    assert actual.center is None


def test_errors_are_signed_unless_they_are_said_to_be_distances() -> None:
    image, mask = textured(), np.ones((40, 60), bool)
    near, far = (np.abs(shift(image, mask) - image) for shift in (shift_near, shift_far))
    options = {"mask": mask, "weights": np.ones(2, np.float32), "smoothing": 1.0}
    assert calibrate_by_texture(near, far, **options).center is None
    assert calibrate_by_texture(near, far, **options, distances=True).center is not None


def test_parts_without_any_error_have_the_lowest_variance() -> None:
    nothing = np.zeros((5, 6, 2), np.float32)
    for mask in (np.ones((5, 6), bool), np.zeros((5, 6), bool)):
        np.testing.assert_allclose(error_variance(nothing, mask), np.full(nothing.shape, 1e-7), rtol=1e-6)


def test_a_threshold_may_be_small() -> None:
    scores = Calibration(np.ones((1, 1, 1), np.float32), np.linspace(1, 2, 20))
    assert choose_threshold(scores, 0.01, Threshold(method="fixed", value=1e-3)) == (1e-3, "fixed")


@pytest.mark.parametrize(
    "content", [{"method": "sigma"}, {"method": "fixed"}, {"value": 3}, {"method": "tail", "value": 3}]
)
def test_a_threshold_has_a_value_if_its_method_needs_one(content: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"needs a value|only, not by"):
        Threshold.model_validate(content)


@given(st.lists(st.tuples(st.floats(0.1, 9), st.booleans()), min_size=1, max_size=12))
def test_scores_of_selected_parts_are_kept_apart_and_found_again(parts: list[tuple[float, bool]]) -> None:
    scores = np.array([score for score, _ in parts])
    is_selected = np.array([selected for _, selected in parts])
    calibration = Calibration(np.ones((1, 1, 1), np.float32), scores, losses=scores / 2).without(is_selected)
    np.testing.assert_array_equal(calibration.all_scores, scores)
    calibration.check((1, 1, 1))
    if is_selected.all():
        assert not len(calibration.selected)
    else:
        np.testing.assert_array_equal(calibration.scores, scores[~is_selected])
        np.testing.assert_array_equal(calibration.losses, scores[~is_selected] / 2)


def test_a_calibration_stays_as_it_is_if_no_scores_would_be_left_or_removed() -> None:
    scores, variance = np.array([1.0, 2.0, 3.0]), np.ones((1, 1, 1), np.float32)
    calibration, stand_ins = Calibration(variance, scores), Calibration(variance, scores, stand_ins=True)
    assert calibration.without(np.zeros(3, bool)) is calibration
    assert calibration.without(np.ones(3, bool)) is calibration
    assert stand_ins.without(np.array([True, False, False])) is stand_ins
    assert calibration.without(np.array([True, False, False])) is not calibration


@pytest.mark.parametrize(("selected", "scores"), [([1], []), ([], [2.0]), ([4], [2.0]), ([-1], [2.0])])
def test_selected_parts_that_do_not_belong_to_the_scores_are_refused(selected: list[int], scores: list[float]) -> None:
    calibration = Calibration(
        np.ones((1, 1, 1), np.float32),
        np.array([1.0, 2.0, 3.0]),
        selected=np.array(selected, np.intp),
        selected_scores=np.array(scores),
    )
    with pytest.raises(ValueError, match="selected parts"):
        calibration.check((1, 1, 1))


def test_errors_in_units_of_good_parts_are_scored_without_a_variance() -> None:
    errors = np.random.default_rng(0).gamma(2, 1, (5, 12, 14, 2)).astype(np.float32)
    mask, weights, rows = ellipse(12, 14), np.array([3.0, 1.0], np.float32), np.array([3, 0, 4])
    calibration = calibrate_scores(errors, rows, mask=mask, weights=weights, smoothing=0.8)
    expected = [
        np.sqrt((slow_blur((0.75 * error[..., 0] ** 2 + 0.25 * error[..., 1] ** 2) * mask, 0.8) * mask).max())
        for error in errors[rows]
    ]
    np.testing.assert_allclose(calibration.scores, expected, rtol=1e-4)
    np.testing.assert_array_equal(calibration.variance, np.ones((12, 14, 2)))


def test_maps_of_held_out_parts_are_those_of_signed_errors_by_default() -> None:
    errors = np.random.default_rng(1).normal(2, 1, (4, 9, 9, 1)).astype(np.float32)
    mask, folds = np.ones((9, 9), bool), [np.array([0, 1]), np.array([2, 3])]
    options = {"mask": mask, "weights": np.ones(1, np.float32), "smoothing": 1.0}
    total = {distances: ErrorMoments(errors, np.arange(4), distances) for distances in (False, True)}
    default, signed, distances = (
        np.array(list(held_out_maps(errors, folds, moments, **options, **more)))
        for moments, more in (
            (total[False], {}),
            (total[False], {"distances": False}),
            (total[True], {"distances": True}),
        )
    )
    np.testing.assert_array_equal(default, signed)
    assert not np.allclose(default, distances)


@pytest.mark.parametrize("count", [3, 24, 500])
@pytest.mark.parametrize("unit", [1e-6, 1.0, 3.5, 1e6])
def test_the_fitted_tail_is_that_of_scipy(count: int, unit: float) -> None:
    values = unit * np.random.default_rng(count).gumbel(5, 0.7, count)
    np.testing.assert_allclose(fit_gumbel(values), gumbel_r.fit(values), rtol=1e-9)


def test_the_tail_of_two_scores_has_the_scale_of_their_sample_deviation() -> None:
    scores = np.array([0.1, 9.9])
    scale = 9.8 / np.sqrt(2) * np.sqrt(6) / np.pi  # the deviation with ddof=1, above the scale of largest likelihood
    assert fit_gumbel(scores)[1] < scale
    location = fit_gumbel(scores)[0]
    expected = location - scale * np.log(-np.log1p(-0.01))
    assert set_threshold(scores, 0.01, Threshold(method="tail"))[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_moments_of_distances_are_their_mean_and_sample_variance(count: int) -> None:
    errors = np.random.default_rng(count).gamma(2, size=(count + 2, 3, 4, 2)).astype(np.float32)
    rows = np.arange(count)
    rest = ErrorMoments(errors, np.arange(count + 2), distances=True) - ErrorMoments(
        errors, np.arange(count, count + 2), distances=True
    )
    for moments in (ErrorMoments(errors, rows, distances=True), rest):
        assert moments.center is not None
        np.testing.assert_allclose(moments.center, errors[rows].mean(0), rtol=1e-4, atol=1e-5)
        variance = errors[rows].var(0, ddof=1) if count > 1 else np.zeros(errors.shape[1:])
        np.testing.assert_allclose(moments.variance, variance, rtol=1e-3, atol=1e-4)


def test_sigma_of_two_scores_is_that_of_their_sample() -> None:
    scores = np.array([1.0, np.e**2])  # logarithms 0 and 2: mean 1, sample deviation sqrt(2)
    actual = set_threshold(scores, 0.01, Threshold(method="sigma", value=3))[0]
    assert actual == pytest.approx(np.exp(1 + 3 * np.sqrt(2)), rel=1e-12)
