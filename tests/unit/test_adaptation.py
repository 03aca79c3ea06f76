"""The adapted false-alarm rate: what it is after each part, and what it makes of a shift."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pixal.calibration.adaptation import adapt_rate
from pixal.config import load_config
from pixal.tasks.photographs.settings import photograph_config
from pixal.tasks.photographs.verdicts import adaptation
from pixal.tasks.photographs.verdicts.history import up_to_date


def test_parts_that_passed_raise_the_rate_and_false_alarms_lower_it() -> None:
    assert adapt_rate(0.01, []) == 0.01
    assert adapt_rate(0.01, [False]) == pytest.approx(0.01 + 0.002 * 0.01)
    assert adapt_rate(0.01, [True]) == pytest.approx(0.01 - 0.002 * 0.99)


def test_as_many_false_alarms_as_requested_leave_the_rate_as_it_is() -> None:
    failed = np.tile([True] + [False] * 19, 10)
    assert adapt_rate(0.05, failed.tolist()) == pytest.approx(0.05)


def test_the_rate_has_bounds() -> None:
    assert adapt_rate(0.02, [True] * 100) == pytest.approx(0.002)
    assert adapt_rate(0.02, [False] * 100_000) == pytest.approx(0.06)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_requested_share_of_parts_fails_after_a_shift(seed: int) -> None:
    requested, p_values = 0.05, np.random.default_rng(seed).random(1500) ** 1.5  # 0.136 of them are below 0.05
    failed: list[bool] = []
    for p_value in p_values:
        failed.append(bool(p_value < adapt_rate(requested, failed)))
    assert np.mean(p_values < requested) > 0.12
    assert np.mean(failed[300:]) == pytest.approx(requested, abs=0.02)


def test_the_history_is_brought_up_to_date_once_for_all_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = photograph_config(load_config(overrides=["validation.adapt=True"]))
    config.paths.resolve("component_validate_path").mkdir(parents=True)
    updates: list[Any] = []

    def counted(paths: Any) -> Any:
        updates.append(paths)
        return up_to_date(paths)

    monkeypatch.setattr(adaptation, "up_to_date", counted)
    rates = adaptation.RateAdapter(config, "lot")
    model: Any = SimpleNamespace(record=SimpleNamespace(record_sha256="0" * 64))
    found = [rates.adapt(name, model) for name in ("front", "back")]
    assert [(each.rate, each.problem) for each in found if each is not None] == [(0.01, "")] * 2
    assert len(updates) == 1
