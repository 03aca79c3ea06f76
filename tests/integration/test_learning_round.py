"""One round of learning: validate, mark by truth, accept, train, compare, promote, on parts that vary."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.learning_rounds import run_marked, run_rounds

from pixal.io.records import read_record


@pytest.mark.slow
def test_a_round_gives_fewer_false_alarms_and_no_more_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On parts that are never marked. ``tests/benchmarks/learning_rounds.py`` measures three larger rounds."""
    monkeypatch.chdir(tmp_path)
    planted = {"kinds": ["scratch"], "sizes": [3.0], "defects": 4}
    before, after = run_rounds(tmp_path, rounds=1, train=8, good=12, bad=5, test=12, size=(320, 180), **planted)
    assert after["marks"]["false alarm"] >= 2
    assert "Promote the candidate" in after["trial"]
    assert after["false alarms"][0] < before["false alarms"][0]
    assert after["missed"][0] <= before["missed"][0]
    record = read_record(tmp_path / "out/Part/front/metadata/model_training.yaml")
    assert record["accepted"]["front"]["good_parts"]["version"] == 1
    assert record["n_images"] == 8 + record["accepted"]["front"]["good_parts"]["parts"]


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
