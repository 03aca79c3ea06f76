"""Planting many defects on a photograph, and what is computed from the found and the missed ones."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import norm

from pixal.defects import load_kind
from pixal.errors import ConfigError, InputError
from pixal.tasks.photographs.sensitivity.curves import fit_curves, group_contrasts
from pixal.tasks.photographs.sensitivity.measuring import ScoredDefect, Scores
from pixal.tasks.photographs.sensitivity.plan import SMALL, Budget, plan_photographs
from pixal.tasks.photographs.sensitivity.planting import _neighbourhood
from pixal.tasks.photographs.sensitivity.results import TypeSensitivity
from pixal.validation.detection_probability import fit_detection_curve
from pixal.validation.local_detection import local_shift, resolution

PART = np.zeros((120, 200), bool)
PART[10:110, 20:180] = True
IMAGE = np.random.default_rng(0).integers(0, 255, (120, 200, 3), np.uint8)


def scored(kind: str, size: float, drawn: float, peak: float, contrast: float | None = None) -> ScoredDefect:
    return ScoredDefect(kind, size, drawn if contrast is None else contrast, drawn, 5.0, 6.0, "a.png", peak)


def test_every_defect_is_planned_once_and_apart_from_the_others() -> None:
    budget = Budget(kinds=("scratch", "spot", "bite"), line_sizes=(1, 2), patch_sizes=(3, 6), defects=5)
    plan = plan_photographs(PART, IMAGE, budget, parts=4, gap=10, seed=3, most=6)
    assert not plan.left_out
    defects = [defect for photograph in plan.photographs for defect in photograph.defects]
    assert len(defects) == len(set(defects)) == 5 * 2 * (6 + 6 + 3)
    for photograph in plan.photographs:
        assert len(photograph.defects) <= 6
        for i, first in enumerate(photograph.defects):
            for second in photograph.defects[:i]:
                reach = sum(load_kind(defect.kind).reach * defect.size for defect in (first, second))
                assert np.hypot(*np.subtract(first.place, second.place)) >= reach + 10
    assert [photograph.number for photograph in plan.photographs] == list(range(len(plan.photographs)))
    assert sorted(photograph.part for photograph in plan.photographs if not photograph.defects) == [0, 1, 2, 3]
    counts = np.bincount([photograph.part for photograph in plan.photographs])
    assert counts.max() - counts.min() <= 1
    assert plan == plan_photographs(PART, IMAGE, budget, parts=4, gap=10, seed=3, most=6)
    assert plan != plan_photographs(PART, IMAGE, budget, parts=4, gap=10, seed=4, most=6)


def test_kinds_and_sizes_without_a_place_are_named() -> None:
    plan = plan_photographs(PART, IMAGE, Budget(kinds=("spot",), sizes=(3, 150)), parts=2, gap=5, seed=0)
    assert {defect.size for photograph in plan.photographs for defect in photograph.defects} == {3}
    assert [text.split(" has ")[0] for text in plan.left_out] == ["spot of 150 pixels"]
    with pytest.raises(InputError, match="no defect can be planted on this part: bite of 2 pixels has no place"):
        plan_photographs(np.ones_like(PART), IMAGE, Budget(kinds=("bite",)), parts=2, gap=5, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kinds": ("spott",)}, "the nearest is spot"),
        ({"sizes": (0.0,)}, "must be above 0"),
        ({"contrasts": (0.0,)}, "at least -1, and not 0"),
        ({"contrasts": ()}, "at least -1, and not 0"),
        ({"defects": 0}, "at least 1 is needed"),
    ],
)
def test_a_bad_budget_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises((InputError, ConfigError), match=message):
        Budget(**options)


def test_a_change_of_colour_is_not_planted_on_grey_photographs() -> None:
    assert "colour" in SMALL.all_kinds(is_grey=False)
    assert "colour" not in SMALL.all_kinds(is_grey=True)


@pytest.mark.parametrize("offset", [(0.0, 0.0), (-60.0, 10.0), (300.0, 0.0)])
def test_a_neighbourhood_is_every_input_pixel_near_the_defect(offset: tuple[float, float]) -> None:
    mask = np.zeros((100, 140), bool)
    cv2.line(image := np.zeros(mask.shape, np.uint8), (40, 30), (90, 52), 1, 2)
    mask |= image > 0
    to_input = np.array([[0.5, 0.02, offset[0]], [-0.01, 0.5, offset[1]], [0, 0, 1]])
    shape, margin = (50, 60, 3), 4
    found = _neighbourhood(mask, to_input, shape, margin)
    y, x = np.nonzero(mask)
    moved = np.rint((np.stack([x, y, np.ones(len(x))], -1) @ to_input.T)[:, :2])
    rows, columns = np.mgrid[:50, :60]
    distances = np.hypot(columns[..., None] - moved[:, 0], rows[..., None] - moved[:, 1]).min(-1)
    values = np.random.default_rng(1).random((50, 60)).astype(np.float32)
    near = np.zeros((50, 60), bool)
    height, width = found.pixels.shape
    near[found.top : found.top + height, found.left : found.left + width] = found.pixels
    assert near[distances <= margin - 1].all()
    assert not near[distances > margin + 1].any()
    assert found.peak(values) == (values[near].max() if near.any() else 0)


def test_defects_are_grouped_by_the_contrast_as_drawn() -> None:
    defects = [
        scored("spot", 2, -0.21, 1),
        scored("spot", 2, -0.11, 1, contrast=-0.2),  # could not be drawn darker
        scored("spot", 2, 0.19, 1),
        scored("blur", 2, 0.13, 1, contrast=0.4),
        scored("blur", 2, 0.06, 1, contrast=0.4),  # fainter than the lowest level
    ]
    groups = group_contrasts(defects, [0.1, 0.2, 0.4])
    assert groups == {("blur", 0.1): [3], ("spot", -0.2): [0], ("spot", -0.1): [1], ("spot", 0.2): [2]}


def test_curves_have_the_sizes_that_are_found() -> None:
    rng = np.random.default_rng(2)
    sizes = np.repeat([1.0, 2, 4, 8], 40)
    peaks = np.where(rng.random(len(sizes)) < expit(3 * np.log(sizes / 3)), 2.0, 0.5)
    defects = [scored("spot", size, -0.2, peak) for size, peak in zip(sizes, peaks, strict=True)]
    defects += [scored("stain", size, 0.2, 0.5) for size in sizes]
    defects += [scored("dent", 3, 0.2, 2.0)] * 19  # too few
    groups = group_contrasts(defects, [0.2])
    spot, stain = fit_curves(defects, groups, threshold=1.0)
    assert (spot.kind, spot.contrast, spot.drawn) == ("spot", -0.2, pytest.approx(-0.2))
    assert spot.a90 == pytest.approx(3 * np.exp(logit(0.9) / 3), rel=0.25)
    assert spot.a90_95 is not None
    assert spot.a90 is not None
    assert 8 >= spot.a90_95 > spot.a90
    assert float(spot.a90_shifted(0.0) or 0) == pytest.approx(spot.a90)
    assert spot.a90_shifted(-20.0) is None  # larger than all planted sizes
    assert (stain.a90, stain.a90_95, stain.a90_shifted(0.0)) == (None, None, None)
    higher = fit_curves(defects, groups, threshold=3.0)[0]
    assert higher.a90 is None


@pytest.mark.parametrize(("failed", "is_reported"), [(0, False), (1, False), (2, True)])
def test_held_out_parts_that_fail_without_a_defect_are_reported(failed: int, is_reported: bool) -> None:
    clean = [2.0] * failed + [0.5] * (10 - failed)
    state: Any = None  # not used without curves
    found = TypeSensitivity("front", Scores([], [], clean), (), {0.01: 1.0}, Budget(), state)
    text = f"Caution: {failed} of 10 held-out good parts fail without a planted defect, more than the 1 %"
    assert [sentence.startswith(text) for sentence in found.sentences] == [True] * is_reported


def test_a_place_where_defects_are_missed_is_found_by_the_map() -> None:
    rng = np.random.default_rng(5)
    places = rng.uniform(0, 400, (2500, 2))
    logits = rng.uniform(-3, 3, 2500)
    is_hidden = np.hypot(*(places - (300, 100)).T) < 60
    found = rng.random(2500) < expit(logits - 3 * is_hidden)
    sigma = resolution(400 * 400, 2500)
    assert sigma == pytest.approx(7.8, abs=0.1)
    points = np.array([[300.0, 100.0], [100, 300], [200, 200], [2000, 2000]])
    shifts = local_shift(logits, found, places, points, 2 * sigma)
    assert shifts[0] < -1.5
    assert np.abs(shifts[1:3]).max() < 1
    assert shifts[3] == 0  # no defects are near


def test_a_local_shift_maximises_its_penalised_likelihood() -> None:
    rng = np.random.default_rng(6)
    places, logits, found = rng.uniform(0, 50, (60, 2)), rng.normal(0, 2, 60), rng.random(60) < 0.4
    points = rng.uniform(0, 50, (3, 2))
    shifts = local_shift(logits, found, places, points, 9.0)
    trials = np.linspace(-6, 6, 24001)
    for point, shift in zip(points, shifts, strict=True):
        weights = np.exp(-((places - point) ** 2).sum(1) / (2 * 81.0))
        value = -(trials**2) / 8
        for weight, level, is_found in zip(weights, logits, found, strict=True):
            value += weight * np.log(expit((level + trials) * (1 if is_found else -1)))
        assert shift == pytest.approx(trials[value.argmax()], abs=1e-3)


def test_the_band_is_that_of_the_likelihood_ratio() -> None:
    """At its ends, the best curve through them has a deviance of 1.96 squared."""
    rng = np.random.default_rng(7)
    sizes = np.repeat([1, 1.5, 2, 3, 4, 6], 20)
    curve = fit_detection_curve(sizes, rng.random(len(sizes)) < expit(4 * np.log(sizes / 2)))
    at = np.array([0.7, 2.0, 5.0])
    low, high = curve.band(at)
    for size, ends in zip(at, zip(low, high, strict=True), strict=True):
        for end in ends:
            assert curve._deviance(float(np.log(size)), float(logit(end))) == pytest.approx(norm.ppf(0.975) ** 2, 1e-3)
