"""Rounds of learning: validate, mark by truth, accept, train, compare, promote, on parts that vary."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from benchmarks.learning_rounds import PROMOTED, ROUNDS, SEEDS, run_marked, run_rounds

from pixal.io.records import read_record
from pixal.validation.intervals import rate_interval


@pytest.mark.slow
def test_three_rounds_give_fewer_false_alarms_and_fewer_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of three rounds, on parts that are never marked, added up over two seeds.

    ``tests/benchmarks/learning_rounds.py`` measures more seeds, with intervals.
    """
    runs = []
    for seed in SEEDS:
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        runs.append(run_rounds(folder, seed=seed, **ROUNDS))
        record = read_record(folder / "out/Part/front/metadata/model_training.yaml")
        assert record["accepted"]["front"]["good_parts"]["version"] == 3
        assert record["n_images"] == 10 + record["accepted"]["front"]["good_parts"]["parts"]
    promoted = [PROMOTED in result["trial"] for results in runs for result in results[1:]]
    assert sum(promoted) >= len(promoted) - 1
    totals = {
        what: [sum(result[what][0] for result in results) for results in zip(*runs, strict=True)]
        for what in ("false alarms", "missed")
    }
    for counts in totals.values():
        assert all(after < before for before, after in pairwise(counts))
    alarms, parts = totals["false alarms"], sum(results[0]["false alarms"][1] for results in runs)
    assert rate_interval(alarms[-1], parts)[1] < rate_interval(alarms[0], parts)[0]  # their 95 % intervals are apart
    assert totals["missed"][-1] <= 0.8 * totals["missed"][0]


@pytest.mark.slow
def test_ten_marked_defects_raise_detection_of_their_kind_on_new_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faint stain recurs at one place. No more good parts fail, and elsewhere nothing changes."""
    monkeypatch.chdir(tmp_path)
    before, after = run_marked(tmp_path, train=12, marked=10, test=12, size=(400, 225), seed=7)
    assert after["recurring"][0] <= before["recurring"][0] / 2
    assert after["false alarms"][0] <= before["false alarms"][0]
    assert after["elsewhere"][0] <= before["elsewhere"][0] + 1
    record = read_record(tmp_path / "out/Part/front/metadata/model_training.yaml")
    assert record["accepted"]["front"]["known_defects"]["parts"] >= 10
    assert list(record["known_places"]) == ["front"]
