"""``pixal sensitivity``: planted defects are scored by models that did not see their parts; it resumes and repeats."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import NO_FIGURES, config_in

import pixal
from pixal import cli
from pixal.errors import ModelError
from pixal.io.arrays import load_arrays
from pixal.io.records import read_record
from pixal.synthetic import write_batch
from pixal.tasks.photographs.sensitivity import run as run_module
from pixal.tasks.photographs.sensitivity.measuring import TypeMeasurement
from pixal.tasks.photographs.sensitivity.plan import Budget
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tracking import Tracker

OPTIONS: dict[str, Any] = {"kinds": ["spot", "scratch"], "sizes": [1, 3, 8], "contrasts": [-0.5], "defects": 10}
METADATA, FIGURES = Path("out/Part/front/metadata"), Path("out/Part/front/figures")


def config(*overrides: str) -> PhotographConfig:
    settings = ("model_training.calibration_folds=3", "model_training.model=gaussian", "execution.workers=1")
    return config_in(Path(), *NO_FIGURES, *settings, *overrides)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a model of nine photographs of 320 x 180 pixels. Read only."""
    folder = tmp_path_factory.mktemp("sensitivity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_batch(folder, component="Part", types=("front",), train=9, good=1, bad=1, frame_size=(320, 180))
        pixal.preprocess("train/Part", config=config(), quiet=True)
        pixal.train(config=config(), quiet=True)
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that directory, as the working directory."""
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def record() -> dict[str, Any]:
    return read_record(METADATA / "sensitivity.yaml")


def curves(rate: float = 0.01) -> dict[tuple[str, float], Any]:
    return {(c["kind"], c["contrast"]): c for c in record()["curves"] if c["false_alarm_rate"] == rate}


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != "created"}


def test_large_defects_are_found_and_small_ones_are_not(work: Path, tracked_runs: list[Tracker]) -> None:
    result = pixal.sensitivity(**OPTIONS, rates=[0.3], config=config(), quiet=True)
    found = record()
    spot = curves()["spot", -0.5]
    assert 0 <= found["failed_without_defect"] <= 9
    assert (found["parts"], found["planted"], found["thresholds"].keys()) == (9, 60, {"0.01", "0.3"})
    assert spot["planted"] == [10, 10, 10]
    assert spot["found"][0] <= 4
    assert spot["found"][-1] >= 9
    assert sum(curves(0.3)["spot", -0.5]["found"]) >= sum(spot["found"])
    sentence = next(text for text in found["sentences"] if text.startswith("spot"))
    assert "50 % darker than what lies beneath, found in 9 of 10 cases from" in sentence
    assert sentence in result.summary()
    rows = (METADATA / "sensitivity.csv").read_text().splitlines()
    assert len(rows) == 61
    sizes = load_arrays(METADATA / "sensitivity_map.npz")["smallest_size"]
    assert sizes.shape == (180, 320)
    assert np.isnan(sizes[0, 0])  # outside the part
    assert np.isinf(sizes).any()  # the edge, which is never compared
    assert not (METADATA / "sensitivity.journal").exists()
    (tracker,) = tracked_runs
    names = {metric.name for metric in tracker.metrics}
    assert any(name.startswith("front/a90_95/spot") for name in names)
    assert {file.path.name for file in tracker.artifacts} >= {"sensitivity.yaml", "sensitivity.png"}


def test_an_interrupted_run_resumes_and_the_result_is_the_same(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixal.sensitivity(**OPTIONS, config=config(), quiet=True)
    whole, table = without_times(record()), (METADATA / "sensitivity.csv").read_bytes()
    scored: list[int] = []
    outcome: Callable[..., Any] = TypeMeasurement._outcome

    def counted(self: TypeMeasurement, *arguments: Any) -> Any:
        if len(scored) == 5:
            raise KeyboardInterrupt
        scored.append(1)
        return outcome(self, *arguments)

    monkeypatch.setattr(TypeMeasurement, "_outcome", counted)
    with pytest.raises(KeyboardInterrupt):
        pixal.sensitivity(**OPTIONS, config=config(), force=True, quiet=True)
    assert not (METADATA / "sensitivity.yaml").exists()
    again: list[int] = []

    def counted_again(self: TypeMeasurement, *arguments: Any) -> Any:
        again.append(1)
        return outcome(self, *arguments)

    monkeypatch.setattr(TypeMeasurement, "_outcome", counted_again)
    pixal.sensitivity(**OPTIONS, config=config("execution.workers=2"), quiet=True)
    assert len(again) == whole["photographs"] - 5
    assert without_times(record()) == whole
    assert (METADATA / "sensitivity.csv").read_bytes() == table
    pixal.sensitivity(**OPTIONS, config=config(), quiet=True)
    assert len(again) == whole["photographs"] - 5, "what is complete is not measured again"


def test_one_model_for_all_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_batch(tmp_path, component="Part", types=("back", "front"), train=4, good=0, bad=0, frame_size=(320, 180))
    settings = config("model_training.one_hot_encoding=True")
    pixal.preprocess("train/Part", config=settings, quiet=True)
    pixal.train(config=settings, quiet=True)
    pixal.sensitivity(kinds=["spot"], sizes=[2, 12], contrasts=[-0.6], config=settings, quiet=True)
    for name in ("back", "front"):
        found = read_record(Path(f"out/Part/{name}/metadata/sensitivity.yaml"))
        (curve,) = found["curves"]
        assert found["parts"] == 4
        assert curve["found"][1] > curve["found"][0]


def test_train_measures_on_a_small_budget_and_validate_reports_it(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Budget(kinds=("spot",), sizes=(2, 8), contrasts=(-0.5,), folds=1)
    monkeypatch.setitem(run_module.AFTER_TRAINING, "auto", small)
    pixal.train(config=config("validation.sensitivity=auto"), quiet=True)
    assert record()["parts"] == 3  # of the first fold
    results = pixal.validate("production/Part", config=config(), quiet=True)
    report = (work / "validate/Part/report.html").read_text()
    assert len(results.parts) == 2
    for sentence in record()["sentences"]:
        assert sentence in report
    pixal.train(config=config("model_training.seed=7"), quiet=True)
    assert not (METADATA / "sensitivity.yaml").exists(), "the results of a model that is replaced are removed"
    assert not (FIGURES / "sensitivity_map.png").exists()


def test_train_stores_a_model_whose_sensitivity_cannot_be_measured(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in Path("out/Part/front/preprocessed_images/background_removed").glob("*.png"):
        path.unlink()
    pixal.train(config=config("model_training.seed=8", "validation.sensitivity=auto"), quiet=True)
    assert "front: the sensitivity to planted defects was not measured" in caplog.text
    assert "run preprocess again" in caplog.text


def test_other_data_than_those_of_the_model_are_refused(work: Path) -> None:
    pixal.preprocess("train/Part", config=config("preprocessing.preprocessor.pool_size=3"), quiet=True)
    with pytest.raises(ModelError, match="front was trained on other photographs; run train again"):
        pixal.sensitivity(**OPTIONS, config=config(), quiet=True)


def test_the_command_prints_one_sentence_per_kind(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "configs").mkdir()
    (work / "configs/paths.yaml").write_text(
        "component_model_path: {component: Part, base: ./out}\n"
        "component_validate_path: {component: Part, base: ./validate}\n"
    )
    words = ["sensitivity", "-q", "--kinds", "spot", "--sizes", "2", "9", "--contrasts", "-0.5"]
    assert cli.main([*words, "--set", "model_training.model=gaussian"]) == 0
    assert "spot (size: diameter at half of the contrast): 50 % darker" in capsys.readouterr().out
    assert cli.main([*words, "--rates", "2"]) == 2
    assert "false-alarm rate 2: it must be above 0 and below 1" in capsys.readouterr().err
