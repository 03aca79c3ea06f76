"""Which family ``model_training.model: auto`` chooses, and when it stops trying others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import make_config
from pydantic import ValidationError

from pixal.config.schema import ModelTraining
from pixal.config.section import result_settings
from pixal.tasks.photographs.comparison import choice
from pixal.tasks.photographs.comparison.cost import Cost
from pixal.tasks.photographs.comparison.results import TypeComparison
from pixal.tasks.photographs.comparison.scoring import CandidateScores
from pixal.tasks.photographs.sensitivity.plan import Budget, plan_photographs

PART = np.ones((60, 90), bool)
PLAN = plan_photographs(
    PART, np.zeros((60, 90, 3), np.uint8), Budget(kinds=("spot",), sizes=(2, 3), defects=30), parts=12, gap=2, seed=0
)
COUNT = sum(len(photograph.defects) for photograph in PLAN.photographs)


def comparison(name: str, shifts: dict[str, float], scale: float = 1.0) -> TypeComparison:
    """Families whose peaks are those of one draw, shifted by a number each."""
    rng = np.random.default_rng(0)
    peaks, good = rng.normal(1, 0.5, COUNT), rng.normal(0, 0.1, 12)
    return TypeComparison(
        name,
        0.01,
        {
            family: CandidateScores(PLAN, scale * (peaks + shift), scale * good, scale, Cost(1.0, None, 0.1))
            for family, shift in shifts.items()
        },
    )


def test_a_better_family_wins_and_a_tie_goes_to_the_cheaper_one() -> None:
    reasons: list[str] = []
    shifts = {"gaussian": 0.0, "padim": 0.4, "autoencoder": 0.401, "combined": 0.1}
    assert choice._best([comparison("front", shifts)], reasons) == "padim"
    assert [reason.split(" (")[0].split(",")[0] for reason in reasons] == [
        "padim finds more than gaussian",
        "autoencoder and padim: no difference is shown",
        "combined finds fewer than padim",
    ]


def test_the_defects_of_all_types_count_together() -> None:
    front = comparison("front", {"gaussian": 0.0, "padim": -0.03})
    back = comparison("back", {"gaussian": 0.0, "padim": 0.6}, scale=100.0)
    assert choice._best([front, back], []) == "padim"
    assert choice._best([front], []) == "gaussian"


def test_a_family_that_would_exceed_the_budget_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = choice._Clock(100.0)
    now[0] = 500.0
    assert clock.problem("gaussian") is None, "the first family is always tried"
    now[0] = 0.0
    with clock.timing("gaussian"):
        now[0] += 12.0
    assert clock.problem("padim") is None
    with clock.timing("padim"):
        now[0] += 60.0  # 20 s per unit, more than expected
    problem = clock.problem("autoencoder")
    assert problem is not None
    assert problem.startswith("it would take about 80 s, and 72 of 100 s are used")


def test_other_settings_stay_as_they_are() -> None:
    config = make_config(Path(), model_training={"model": "gaussian"})
    assert choice.with_chosen_family(None, config, resume=False, quiet=True) is config


def test_the_budget_changes_no_result() -> None:
    assert result_settings(ModelTraining(budget_s=5)) == result_settings(ModelTraining())


def test_auto_takes_no_options_of_a_family() -> None:
    assert ModelTraining(model="auto").model_options == {}
    with pytest.raises(ValidationError, match="options belong to one model family"):
        ModelTraining(model="auto", model_options={"output": "gaussian"})
