"""A numeric ``loss_cut`` above all good parts is a warning; scores and calibrations that are no numbers are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from specifications import specification

from pixal.calibration.calibration import Calibration
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import choose_threshold
from pixal.errors import ConfigError
from pixal.validation.loss_cut import log_losses, loss_cut_warning, part_losses

SHAPE = (4, 5, 3)
LOSSES = np.array([0.01, 0.02, 0.1])


def calibration(scores: object = (1.0, 2.0), variance: float = 0.1) -> Calibration:
    return Calibration(np.full(SHAPE, variance, np.float32), np.array(scores, np.float64))


@pytest.mark.parametrize(("cut", "log"), [(0.7, False), (0.101, False), (0.7, True), (-0.99, True)])
def test_a_cut_above_all_good_parts_is_a_warning_with_their_range(cut: float, log: bool) -> None:
    warning = loss_cut_warning(cut, LOSSES, log_loss=log)
    assert warning is not None
    assert f"loss_cut {cut:g} is above all" in warning
    assert ("-2 to -1" if log else "0.01 to 0.1") in warning
    assert ("decimal logarithm" in warning) == log


@pytest.mark.parametrize(("cut", "log"), [(0.1, False), (0.05, False), (-1.0, True), (-3, True), ("auto", False)])
def test_a_cut_that_some_good_part_reached_is_no_warning(cut: float, log: bool) -> None:
    assert loss_cut_warning(cut, LOSSES, log_loss=log) is None  # type: ignore[arg-type]
    assert loss_cut_warning(0.7, np.zeros(0), log_loss=log) is None


def test_losses_are_the_largest_weighted_squares_of_the_part() -> None:
    errors = np.random.default_rng(0).normal(0, 0.1, (3, *SHAPE)).astype(np.float32)
    mask, weights = np.ones(SHAPE[:2], bool), np.array([1, 2, 1], np.float32)
    mask[0] = False
    options = {"mask": mask, "weights": weights, "smoothing": 0.0}
    expected = ((errors**2) @ (weights / 4))[:, mask].max(1)
    for name in ("mse", "masked_mse"):
        found = part_losses(errors, np.array([2, 0]), specification(SHAPE, loss_function=name), **options)
        np.testing.assert_allclose(found, expected[[2, 0]], rtol=1e-6)
    distances = specification(SHAPE, gives_distance=True)
    found = part_losses(np.abs(errors[..., :1]), np.array([1]), distances, **options | {"weights": weights[:1]})
    np.testing.assert_allclose(found, [np.abs(errors[1, ..., 0])[mask].max()], rtol=1e-6)


def test_the_logarithm_of_no_loss_is_a_number() -> None:
    np.testing.assert_allclose(log_losses(np.array([0.0, 1e-13, 1e-12, 0.01, 10])), [-12, -12, -12, -2, 1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_calibration_that_is_no_number_is_refused(bad: float) -> None:
    calibration().check(SHAPE)
    for broken in (calibration((1.0, bad)), calibration(variance=bad)):
        with pytest.raises(ValueError, match=r"not finite|negative"):
            broken.check(SHAPE)


def test_each_array_of_a_calibration_is_checked_by_its_name() -> None:
    whole = replace(calibration(), center=np.ones(SHAPE, np.float32), losses=np.array([0.1, 0.2]))
    whole.check(SHAPE)
    replace(whole, scores=np.array([0.0, 2.0])).check(SHAPE)  # one good part may have the score 0
    short = np.ones((1, *SHAPE[1:]), np.float32)
    part = whole.variance.copy()
    part[0, 0, 0] = 0
    for change, said in (
        ({"variance": short}, r"the variance of good parts is float32 of shape \(1, 5, 3\), not \(4, 5, 3\)"),
        ({"variance": part}, "the variance of good parts is 0 at some pixels"),
        ({"center": short}, "the mean distance of good parts is float32 of shape"),
        ({"center": -np.ones(SHAPE, np.float32)}, "the mean distance of good parts holds negative"),
        ({"losses": np.array([0.1])}, r"the losses of good parts is float64 of shape \(1,\), not \(2,\)"),
        ({"losses": np.array([0.1, np.nan])}, "the losses of good parts holds values that are not finite"),
        ({"scores": np.zeros(0)}, r"the scores of good parts is float64 of shape \(0,\), not \(1,\)"),
        ({"scores": np.array([1, 2])}, "the scores of good parts is int64"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(whole, **change).check(SHAPE)  # type: ignore[arg-type]
    replace(whole, scores=np.array([1.0]), losses=np.zeros(0)).check(SHAPE)


def test_zero_calibrations_are_refused() -> None:
    with pytest.raises(ValueError, match="variance of good parts is 0"):
        calibration(variance=0).check(SHAPE)
    with pytest.raises(ValueError, match="score of every good part is 0"):
        calibration((0.0, 0.0)).check(SHAPE)
    with pytest.raises(ValueError, match="of shape"):
        calibration().check((4, 5, 2))


@pytest.mark.parametrize(
    ("scores", "settings"), [((1.0, 2.0), Threshold(method="sigma", value=1e6)), ((0.0,) * 9 + (1.0,), Threshold())]
)
def test_an_infinite_or_zero_threshold_is_refused(scores: tuple[float, ...], settings: Threshold) -> None:
    with pytest.raises(ConfigError, match=r"gives a threshold of (inf|0)\b"):
        choose_threshold(calibration(scores), 0.5, settings)
