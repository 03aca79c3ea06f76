"""``pixal compare``: candidates see the same parts and the same defects; a better one is found; it resumes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
from helpers import NO_FIGURES, PATHS, config_in
from numpy.typing import NDArray

import pixal
from pixal import cli
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.io.records import read_record
from pixal.registry import MODELS
from pixal.synthetic import write_batch
from pixal.tasks.photographs.comparison import choice
from pixal.tasks.photographs.comparison.cost import measured_memory
from pixal.tasks.photographs.sensitivity.measuring import TypeMeasurement
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tracking import Tracker
from pixal.train_model.family import Rows
from pixal.train_model.gaussian import Gaussian

OPTIONS: dict[str, Any] = {"kinds": ["spot", "scratch"], "sizes": [2, 6], "contrasts": [-0.5], "defects": 12}
COMPONENT = Path("out/Part")
RECORD = COMPONENT / "front/metadata/comparison.yaml"
BLURRED = "gaussian,map_smoothing=6"


def config(*overrides: str) -> PhotographConfig:
    settings = ("model_training.calibration_folds=3", "model_training.model=gaussian", "execution.workers=1")
    return config_in(Path(), *NO_FIGURES, *settings, *overrides)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with six prepared photographs of 320 x 180 pixels. Read only."""
    folder = tmp_path_factory.mktemp("compare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_batch(folder, component="Part", types=("front",), train=6, good=0, bad=0, frame_size=(320, 180))
        pixal.preprocess("train/Part", config=config(), quiet=True)
    return folder


@pytest.fixture
def work(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that directory, as the working directory."""
    shutil.copytree(prepared, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def rows() -> dict[str, dict[str, Any]]:
    return {row["candidate"]: row for row in read_record(RECORD)["candidates"]}


@pytest.mark.slow
def test_a_worse_candidate_is_found_and_an_equal_one_is_not_called_different(
    work: Path, tracked_runs: list[Tracker]
) -> None:
    same = "gaussian,n_epochs=5"  # the family has no epochs
    candidates = ["gaussian", BLURRED, same]
    result = pixal.compare(candidates=candidates, **OPTIONS, config=config(), quiet=True)
    found, record = rows(), read_record(RECORD)
    assert list(found) == candidates
    assert (record["baseline"], record["parts"], record["planted"]) == ("gaussian", 6, 48)
    assert found[BLURRED]["verdict"] == "worse"
    assert found[BLURRED]["difference_high"] < 0
    assert found[same]["verdict"] == "no difference"
    assert (found[same]["difference"], found[same]["p_value"], found[same]["auroc_difference"]) == (0, 1, 0)
    for row in found.values():
        kinds = row["found_by_kind"]
        assert sum(kind["planted"] for kind in kinds.values()) == 48
        assert sum(kind["found"] for kind in kinds.values()) == round(48 * row["detection_rate"])
        assert row["seconds_per_part"] > 0
    summary = result.summary()
    assert f"{BLURRED} finds fewer than gaussian" in summary
    assert f"{same} and gaussian: no difference is shown" in summary
    with RECORD.with_suffix(".csv").open(newline="") as file:
        assert [row["candidate"] for row in csv.DictReader(file)] == candidates
    assert (COMPONENT / "front/figures/comparison.png").is_file()
    assert not (COMPONENT / "front/model").exists(), "the model of the component is not touched"
    (tracker,) = tracked_runs  # the trainings of the candidates are no runs of their own
    assert "front/gaussian/detection_rate" in {metric.name for metric in tracker.metrics}


def test_all_candidates_see_the_same_defects_on_the_same_parts(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = []
    outcomes = TypeMeasurement.outcomes

    def recorded(self: TypeMeasurement, *arguments: Any, **options: Any) -> Any:
        plans.append((self.plan, [(part.image, part.fold) for part in self.parts]))
        return outcomes(self, *arguments, **options)

    monkeypatch.setattr(TypeMeasurement, "outcomes", recorded)
    candidates = ["gaussian,map_smoothing=3", "gaussian,pool_size=1,edge_margin=8"]
    pixal.compare(candidates=candidates, **OPTIONS, config=config(), quiet=True)
    assert len(plans) == 2
    assert plans[0] == plans[1]


@pytest.mark.slow
def test_what_is_done_is_kept(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome, scored = TypeMeasurement._outcome, []

    def counted(self: TypeMeasurement, *arguments: Any) -> Any:
        scored.append(1)
        if len(scored) == 12:
            raise KeyboardInterrupt
        return outcome(self, *arguments)

    monkeypatch.setattr(TypeMeasurement, "_outcome", counted)
    with pytest.raises(KeyboardInterrupt):
        pixal.compare(candidates=["gaussian", BLURRED], **OPTIONS, config=config(), quiet=True)
    models = {path: path.stat().st_mtime_ns for path in COMPONENT.glob("comparison/*/front/model/*.npz")}
    assert models
    pixal.compare(candidates=["gaussian", BLURRED], **OPTIONS, config=config(), quiet=True)
    assert {path: path.stat().st_mtime_ns for path in models} == models
    first, count = rows(), len(scored)
    peaks = load_arrays(COMPONENT / "comparison/gaussian/front/metadata/planted.npz")["peaks"]
    assert len(peaks) == 48
    third = "gaussian,model_options={}"
    pixal.compare(candidates=["gaussian", BLURRED, third], **OPTIONS, config=config(), quiet=True)
    assert len(scored) - count <= count / 2, "only the third candidate is paired"
    assert rows()["gaussian"] == first["gaussian"]
    pixal.compare(candidates=["gaussian", BLURRED], **OPTIONS, config=config(), force=True, quiet=True)
    assert {name: row["detection_rate"] for name, row in rows().items()} == {
        name: row["detection_rate"] for name, row in first.items()
    }


def test_a_candidate_that_cannot_be_trained_is_left_out(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "configs").mkdir()
    (work / "configs/paths.yaml").write_text(PATHS)
    words = ["compare", "-q", "--set", "model_training.model=gaussian", "--kinds", "spot", "--sizes", "4", "--defects"]
    words += ["3", "--candidate", "gaussian", "--candidate", "gaussian,map_smoothing=2"]
    assert cli.main([*words, "--candidate", "gaussian,model_options.nothing=1"]) == 3
    printed = capsys.readouterr()
    assert "front: 6 planted defects on 6 held-out good parts" in printed.out
    assert "pixal: not processed: gaussian,model_options.nothing=1:" in printed.err
    assert len(read_record(RECORD)["left_out"]) == 1


def test_a_single_candidate_is_refused(work: Path) -> None:
    with pytest.raises(ConfigError, match="name at least two"):
        pixal.compare(candidates=["gaussian"], config=config(), quiet=True)


def test_one_model_for_all_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path, component="Part", types=("back", "front"), train=4, good=0, bad=0, frame_size=(320, 180))
    settings = config("model_training.one_hot_encoding=True")
    pixal.preprocess("train/Part", config=settings, quiet=True)
    pixal.compare(
        candidates=["gaussian", "gaussian,channels=[LAB_L]"],
        kinds=["spot"],
        sizes=[8],
        contrasts=[-0.5],
        defects=5,
        config=settings,
        quiet=True,
    )
    for name in ("back", "front"):
        assert read_record(COMPONENT / name / "metadata/comparison.yaml")["parts"] == 4


class Weak(Gaussian):
    """A family that finds little: its errors are blurred."""

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        return np.stack([cv2.blur(error, (25, 25)) for error in super().error(inputs, rows)])


def test_train_chooses_the_family_that_finds_more(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast("dict[str, str]", MODELS.builtin), "weak", f"{__name__}:Weak")
    monkeypatch.setattr(choice, "FAMILIES", {"weak": 1.0, "gaussian": 1.0})
    monkeypatch.setattr(choice, "BUDGET", choice.BUDGET.with_options(["spot"], [2, 6], [-0.5, 0.5], 10))
    settings = config("model_training.model=auto")
    pixal.train(config=settings, quiet=True)
    trained = read_record(COMPONENT / "front/metadata/model_training.yaml")
    assert (trained["model"], trained["model_name"]) == ("gaussian", "pixal_gaussian")
    record = read_record(RECORD)
    assert record["choice"]["family"] == "gaussian"
    assert record["choice"]["reasons"][0].startswith("gaussian finds more than weak")
    pixal.train(config=config(), quiet=True)
    same = read_record(COMPONENT / "front/metadata/model_training.yaml")
    assert same["fingerprint"] == trained["fingerprint"], "the model is the one that the family gives by itself"
    monkeypatch.setattr(choice, "_choose", lambda *_, **__: pytest.fail("it was chosen before"))
    pixal.train(config=config("model_training.model=auto", "model_training.budget_s=1"), resume=True, quiet=True)


def test_the_growth_of_memory_is_measured() -> None:
    with measured_memory() as memory:
        block = bytearray(400_000_000)
        block[::4096] = bytes(len(block[::4096]))
        del block
    # The system takes back other memory of the process at any time: 20 MB were seen.
    assert memory.gb is None or 0.2 < memory.gb < 0.6
