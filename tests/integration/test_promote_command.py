"""``pixal train --candidate`` and ``pixal promote``: the comparison, the change of models, and kills in the middle."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Killed, kill_at, lot_config, lot_parts, write_configs, write_marks

import pixal
from pixal import cli
from pixal.calibration.maps import above, calibrated_maps, part_scores
from pixal.errors import InputError, ModelError
from pixal.inputs import InputSet
from pixal.io.records import read_record
from pixal.tasks.photographs.learning.candidate import candidate_config
from pixal.tasks.photographs.learning.model_scores import ModelScores
from pixal.tasks.photographs.learning.promotion import earlier_models
from pixal.tasks.photographs.training.stored import load_trained
from pixal.tasks.photographs.training.training_data import find_training_data

CANDIDATE = Path("out/Part/learning/candidate/front")
PLANTED: dict[str, Any] = {"kinds": ["scratch"], "sizes": [3], "defects": 4}


@pytest.fixture(scope="module")
def with_candidate(validated_lot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a candidate: good parts of the batch are marked, and two defective ones. Read only."""
    folder = tmp_path_factory.mktemp("promote") / "work"
    shutil.copytree(validated_lot, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_marks(dict.fromkeys(lot_parts(0), "false alarm") | dict.fromkeys(lot_parts(1)[:2], "confirmed"))
        pixal.accept("marks.csv", config=lot_config())
        pixal.train(candidate=True, config=lot_config(), quiet=True)
    return folder


@pytest.fixture
def work(with_candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the working directory."""
    shutil.copytree(with_candidate, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def model_name() -> str:
    """The hash of the model in use, whose files are all verified."""
    return load_trained(lot_config(), "front").record.record_sha256


def rows() -> dict[str, dict[str, str]]:
    with (CANDIDATE / "promotion.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def test_a_candidate_knows_the_accepted_parts_and_leaves_the_model_in_use(work: Path) -> None:
    inputs = {path: InputSet.load(path / "out.npz") for path in (Path("out/Part/front"), CANDIDATE)}
    before, after = inputs.values()
    assert (len(before), len(after)) == (7, 10)
    np.testing.assert_array_equal(after.data[:7], before.data)
    accepted = read_record(CANDIDATE / "metadata/model_training.yaml")["accepted"]["front"]
    assert accepted["good_parts"] | {"sha256": ""} == {"version": 1, "sha256": "", "parts": 3}
    assert accepted["known_defects"] | {"sha256": ""} == {"version": 1, "sha256": "", "parts": 2}
    assert read_record(Path("out/Part/front/metadata/model_training.yaml"))["accepted"] == {}
    calibration = load_trained(candidate_config(lot_config()), "front").calibrations["front"]
    assert (len(calibration.scores), len(calibration.selected_scores)) == (7, 3)  # false alarms set no threshold
    status = pixal.status(config=lot_config())
    assert "3 good parts (3 of them new to the model), 2 known defects" in status.summary()
    assert status.next.command == "pixal promote front --check"  # type: ignore[attr-defined]
    pixal.accept(undo=True, config=lot_config())
    with pytest.raises(InputError, match="would be the same as the model in use"):
        pixal.train(candidate=True, config=lot_config(), quiet=True)


def test_parts_that_were_trained_on_have_the_score_of_a_model_without_them(work: Path) -> None:
    """The scores follow those of models that are fitted without each part; only the variance differs a little."""
    model = load_trained(candidate_config(lot_config()), "front")
    data = find_training_data(CANDIDATE, candidate_config(lot_config()))[0]
    held_out = ModelScores("front", model, data, lot_config())._trained_on
    family, calibration = model.load_anomaly_model(), model.calibrations["front"]
    weights = np.array(list(model.record.error_weights.values()), np.float32)
    naive, stored = [], []
    for row in range(10):
        refitted = type(family)(family.spec)
        refitted.fit(data.inputs, np.setdiff1d(np.arange(10), [row]), data.masks)
        error = above(refitted.error(data.inputs, np.array([row])), calibration.center)
        maps = calibrated_maps(error, calibration.variance, data.masks[0], weights, model.record.map_smoothing)
        naive.append(float(part_scores(maps)[0]))
        stored.append(held_out[str(data.records("front")[row].sha256)])
    assert np.corrcoef(naive, stored)[0, 1] > 0.9
    assert max(abs(np.roll(stored, 1) - stored)) > 0.1


def test_the_comparison_says_part_by_part_what_changes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = pixal.promote(check=True, **PLANTED, config=lot_config(), quiet=True)
    found, record = rows(), read_record(CANDIDATE / "metadata/promotion.yaml")
    assert len(found) == 6
    for name in lot_parts(0):
        assert found[name]["mark"] == "false alarm"
        assert found[name]["held_out"] == "candidate"
        assert found[name]["change"] in ("no false alarm any more", "new false alarm", "false alarm", "passes")
    for row in found.values():
        for model in ("in_use", "candidate"):
            failed = float(row[f"score_{model}"]) > float(row[f"threshold_{model}"])
            assert row[f"verdict_{model}"] == ("fail" if failed else "pass")
    known = record["types"]["front"]["known_defects"]["candidate"]
    assert known["known"] == 2
    assert "known defects the model misses" in trial.summary()
    assert record["types"]["front"]["planted"]["defects"] == 8
    page = (CANDIDATE / "promotion.html").read_text()
    assert record["recommendation"]["sentence"] in page
    assert all(f"front/{name}" in page for name in lot_parts(0))


def test_promote_and_back_lose_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_configs(work, "model_training: {model: gaussian}\n")
    first = model_name()
    candidate = load_trained(candidate_config(lot_config()), "front").record.record_sha256
    pixal.promote(["front"], force=True, **PLANTED, config=lot_config(), quiet=True)
    assert model_name() == candidate
    assert find_training_data(None, lot_config())[0].sha256 == load_trained(lot_config(), "front").record.input_sha256
    pixal.detect(config=lot_config(), quiet=True)
    text = Path("validate/Part/results.json").read_text()
    assert candidate in text
    assert "Of 2 known defects the model misses" in text
    assert cli.main(["promote", "--list"]) == 0
    assert "10 good parts" in capsys.readouterr().out.splitlines()[1]
    pixal.promote(back=True, config=lot_config())
    assert model_name() == first
    pixal.promote(["front"], back=earlier_models("front", lot_config())[0], config=lot_config())
    assert model_name() == candidate
    with pytest.raises(InputError, match="no earlier model nonsense"):
        pixal.promote(["front"], back="nonsense", config=lot_config())
    with pytest.raises(ModelError, match="no candidate"):
        pixal.promote(config=lot_config())
    replaced = [entry["model"] for entry in read_record(Path("out/Part/front/promotions.yaml"))["promotions"]]
    assert len(replaced) == 3
    assert sorted(p.name for p in Path("out/Part/front/accepted/good_parts").iterdir())


@pytest.mark.parametrize(("function", "call"), [("replace", 1), ("replace", 3), ("rename", 1), ("rename", 20)])
def test_a_kill_in_the_middle_leaves_one_whole_model(work: Path, function: str, call: int) -> None:
    first = model_name()
    candidate = load_trained(candidate_config(lot_config()), "front").record.record_sha256
    pixal.promote(["front"], check=True, **PLANTED, config=lot_config(), quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        kill_at(patch, function, call)
        with pytest.raises(Killed):
            pixal.promote(["front"], force=True, **PLANTED, config=lot_config(), quiet=True)
    if model_name() == first:  # killed before anything was moved
        pixal.promote(["front"], force=True, **PLANTED, config=lot_config(), quiet=True)
    assert model_name() == candidate
    name = earlier_models("front", lot_config())[0]
    kept = read_record(Path(f"out/Part/learning/earlier/{name}/front/metadata/model_training.yaml"))
    assert kept["record_sha256"] == first
    pixal.promote(["front"], back=True, config=lot_config())
    assert model_name() == first
