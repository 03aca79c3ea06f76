"""Drift is found and named, other quantities are not, and false findings are as rare as the level says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu, ttest_ind

from pixal.report.document import DriftFinding
from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions
from pixal.tasks.photographs.verdicts.drift import Sample, _share_in_order, find_drift, holm
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts

LEVEL = 0.001


def sample(seed: int, count: int, *, failed: int = 0, score: float = 1.0, **gains: float) -> Sample:
    """Return photographs of one part with ordinary scatter; ``gains`` multiply the conditions."""
    random = np.random.default_rng(seed)
    exposure = random.uniform(0.9, 1.1, count)
    conditions = {
        **{name: level * exposure * random.uniform(0.97, 1.03, count) for name, level in zip(RGB, LEVELS, strict=True)},
        "sharpness": random.normal(1.9, 0.12, count),
        "inlier_ratio": random.normal(0.93, 0.01, count),
        "ssim": random.normal(0.95, 0.01, count),
    }
    values = np.stack([conditions[name] * gains.get(name, 1.0) for name in CONDITIONS], axis=-1)
    return Sample(Conditions(values, count + failed), score * random.lognormal(-1, 0.25, count))


RGB, LEVELS = ("red", "green", "blue"), (0.4, 0.5, 0.1)


def actual(training: Sample, batch: Sample, level: float = LEVEL) -> dict[str, DriftFinding]:
    findings = find_drift({"front": (training, batch)}, level)
    return {finding.quantity: finding for finding in findings}


DRIFTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "darker": ({"red": 0.8, "green": 0.8, "blue": 0.8}, "brightness", "darker"),
    "brighter": ({"red": 1.2, "green": 1.2, "blue": 1.2}, "brightness", "brighter"),
    "warmer": ({"red": 1.08, "blue": 0.92}, "warmth", "warmer"),
    "cooler": ({"red": 0.92, "blue": 1.08}, "warmth", "cooler"),
    "softer": ({"sharpness": 0.7, "ssim": 0.85}, "sharpness", "softer"),
    "sharper": ({"sharpness": 1.3}, "sharpness", "sharper"),
    "fewer matches": ({"inlier_ratio": 0.8}, "inlier_ratio", "worse"),
    "unlike": ({"ssim": 0.85}, "ssim", "less like"),
    "higher scores": ({"score": 2.0}, "score", "higher"),
    "lower scores": ({"score": 0.5}, "score", "lower"),
    "not aligned": ({"failed": 15}, "unprocessed", "could not be processed"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_drift_is_found_in_its_quantity_only(drift: str) -> None:
    planted, quantity, word = DRIFTS[drift]
    findings = actual(sample(1, 30), sample(2, 25, **planted))
    assert list(findings) == [quantity]
    finding = findings[quantity]
    assert word in finding.message
    assert finding.p_value <= LEVEL
    assert finding.advice


def test_a_green_colour_cast_is_a_tint() -> None:
    findings = actual(sample(1, 30), sample(2, 25, red=0.93, green=1.06, blue=0.93))
    assert list(findings) == ["tint"]
    assert "greener" in findings["tint"].message


def test_the_message_gives_the_numbers() -> None:
    training, batch = sample(1, 40), sample(1, 40, red=0.85, green=0.85, blue=0.85)
    finding = actual(training, batch)["brightness"]
    level = float(np.median(training.conditions.values[:, :3].mean(axis=1)))
    assert (finding.training, finding.batch) == (pytest.approx(level), pytest.approx(0.85 * level))
    assert finding.message == (
        f"Light: 15% darker (mean level {0.85 * level * 255:.0f} of 255, in training {level * 255:.0f})"
    )


def test_false_findings_are_as_rare_as_the_level_says() -> None:
    """With several types, and with many and few photographs."""
    level, batches = 0.2, 80
    for good, new in ((12, 9), (5, 2), (3, 1)):
        flagged = 0
        for seed in range(batches):
            both = [sample(1000 + 4 * seed + i, good if i % 2 == 0 else new) for i in range(4)]
            flagged += bool(find_drift({"a": (both[0], both[1]), "b": (both[2], both[3])}, level))
        assert flagged <= binom.ppf(0.999, batches, level), (good, new)


def test_a_small_difference_is_not_reported_however_significant() -> None:
    small = {"red": 0.97, "green": 0.97, "blue": 0.97, "sharpness": 0.95, "ssim": 0.99, "inlier_ratio": 0.99}
    assert not actual(sample(1, 4000), sample(2, 4000, score=1.1, **small))


def test_a_shift_within_the_scatter_of_training_is_not_reported() -> None:
    wide = sample(1, 4000)
    values = wide.conditions.values * np.random.default_rng(3).lognormal(0, 0.5, (4000, 1))
    training = Sample(Conditions(values, 4000), wide.scores)
    batch = Sample(Conditions(np.roll(values, 5, axis=0) * [0.9, 0.9, 0.9, 1, 1, 1], 4000), wide.scores)
    assert "brightness" not in actual(training, batch)


def test_better_alignment_is_not_reported() -> None:
    assert not actual(sample(1, 30, inlier_ratio=0.8, ssim=0.8), sample(2, 30))
    assert not actual(sample(1, 30, failed=20), sample(2, 30))


def test_a_single_photograph_is_compared_with_the_prediction_interval_of_training() -> None:
    training, near, far = sample(1, 40), sample(2, 1), sample(2, 1, red=0.4, green=0.4, blue=0.4)
    assert not actual(training, near)
    finding = actual(training, far)["brightness"]
    assert finding.test == "interval"
    own, other = (np.log(one.conditions.values[:, :3].mean(axis=1)) for one in (far, training))
    # With one photograph, the pooled spread of the two-sample t-test is that of training. There are eight tests.
    assert finding.p_value == pytest.approx(8 * ttest_ind(own, other).pvalue)
    assert actual(training, sample(2, 30, red=0.4, green=0.4, blue=0.4))["brightness"].test == "rank"


def test_one_training_photograph_has_no_scatter_to_compare_with() -> None:
    assert not actual(sample(1, 1), sample(2, 50, red=0.1, sharpness=0.1, score=9.0))


def test_two_training_photographs_that_agree_by_chance_have_a_minimum_scatter() -> None:
    pair = sample(1, 1)
    twice = Sample(Conditions(np.repeat(pair.conditions.values, 2, axis=0), 2), np.repeat(pair.scores, 2))
    assert not actual(twice, sample(3, 1, sharpness=0.8))


def test_unknown_or_missing_values_are_not_compared() -> None:
    unknown = Sample(Conditions(np.full((20, len(CONDITIONS)), np.nan), 0), np.zeros(0))
    assert not actual(unknown, sample(2, 20))
    assert not actual(sample(1, 20), unknown)
    assert not find_drift({}, LEVEL)
    nothing = actual(sample(1, 20), Sample(Conditions(np.zeros((0, len(CONDITIONS))), 12), np.zeros(0)))
    assert list(nothing) == ["unprocessed"]  # no photograph at all could be aligned


def test_equal_photographs_do_not_drift() -> None:
    same = Sample(Conditions(np.full((20, len(CONDITIONS)), 0.5), 20), np.full(20, 0.5))
    assert not actual(same, same)


def test_holm_is_the_step_down_procedure() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        p_values = random.uniform(0, 0.2, 7).round(2).tolist()
        corrected = holm(p_values)
        for level in (0.01, 0.05, 0.2, 0.5):
            rejected = set()
            for step, index in enumerate(sorted(range(7), key=lambda i: p_values[i])):
                if p_values[index] * (7 - step) > level:
                    break
                rejected.add(index)
            assert {i for i in range(7) if corrected[i] <= level} == rejected


def test_noise_in_a_dark_channel_is_no_colour_drift() -> None:
    """With half the light, noise that is cut off at 0 is a larger part of a dark channel."""
    training = sample(1, 30, blue=0.2)
    darker = sample(2, 25, red=0.5, green=0.5, blue=0.1 * 1.3)
    assert list(actual(training, darker)) == ["brightness"]


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"raw": True}, False), ({"stand_ins": True}, False)])
def test_scores_of_passing_parts_are_compared_if_training_has_scores(changes: dict[str, bool], known: bool) -> None:
    """Many defective parts are no drift. Raw losses, and scores from a single good part, are not compared."""
    training, batch = sample(1, 3).conditions, sample(2, 4).conditions
    verdicts: Any = SimpleNamespace(
        name="front",
        calibration=SimpleNamespace(scores=np.array([1.0, 1.5, 9.0]), stand_ins=changes.get("stand_ins", False)),
        cut=SimpleNamespace(threshold=2.0, raw=changes.get("raw", False)),
        parts=[
            SimpleNamespace(score=score, verdict=verdict)
            for score, verdict in ((1.2, "pass"), (7.0, "fail"), (None, "error"))
        ],
        model=SimpleNamespace(conditions={"front": training}),
        conditions=batch,
    )
    other, own = TypeVerdicts.drift_samples(verdicts)
    assert (other.conditions, own.conditions) == (training, batch)
    assert other.scores.tolist() == ([1.0, 1.5] if known else [])
    assert own.scores.tolist() == ([1.2] if known else [])


def test_the_share_of_pairs_in_order_is_the_statistic_of_mann_and_whitney() -> None:
    random = np.random.default_rng(0)
    for count in (1, 5, 40):
        training, batch = random.integers(0, 9, 12).astype(float), random.integers(2, 12, count).astype(float)
        expected = mannwhitneyu(batch, training).statistic / (12 * count)
        assert _share_in_order(training, batch) == pytest.approx(expected)
