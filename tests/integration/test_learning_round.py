"""Rounds of learning: validate, mark by truth, accept, train, compare, promote, on parts that vary."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.learning_rounds import PROMOTED, ROUNDS, run_marked, run_rounds

from pixal.io.records import read_record
from pixal.validation.intervals import rate_interval


@pytest.mark.slow
def test_three_rounds_give_fewer_false_alarms_and_fewer_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On parts that are never marked. ``tests/benchmarks/learning_rounds.py`` adds up several seeds, with intervals."""
    monkeypatch.chdir(tmp_path)
    results = run_rounds(tmp_path, seed=0, **ROUNDS)
    assert all("Promote the candidate" in result["trial"] for result in results[1:])
    assert all(PROMOTED in result["trial"] for result in results[1:])
    for what in ("false alarms", "missed"):
        counts = [result[what][0] for result in results]
        assert counts == sorted(counts, reverse=True)
        assert len(set(counts)) == 4  # fewer in each round
        assert counts[-1] <= 0.7 * counts[0]
    (_, high), (low, _) = (rate_interval(*results[index]["false alarms"]) for index in (-1, 0))
    assert high < low  # the 95 % intervals before and after do not overlap
    record = read_record(tmp_path / "out/Part/front/metadata/model_training.yaml")
    assert record["accepted"]["front"]["good_parts"]["version"] == 3
    assert record["n_images"] == 10 + record["accepted"]["front"]["good_parts"]["parts"]


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
