"""Tracking, with a real MLflow store."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixal.config import load_config
from pixal.mlflow_utils import Tracker, tracked_run
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters

pytestmark = pytest.mark.usefixtures("tracking_on")


def config_named(experiment: str) -> PhotographConfig:
    shipped = load_config()
    return PhotographConfig(PhotographParameters(experimentName=experiment), shipped.paths, shipped.source)


@pytest.fixture(scope="module")
def store(tracking_on: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with one tracked run. MLflow needs seconds to create its store."""
    folder = tmp_path_factory.mktemp("tracked")
    (folder / "out").mkdir()
    (folder / "out" / "model.keras").write_text("weights")
    (folder / "out" / "loss.png").write_text("figure")
    (folder / "metadata").mkdir()
    (folder / "metadata" / "model_training.yaml").write_text("seed: 1\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with tracked_run(config_named("Flex"), "front", "train") as tracker:
            for epoch in range(1, 1203):
                tracker.log_metric("loss", 1 / epoch, epoch)
            tracker.log_metric("nan", float("nan"))
            tracker.log_metric("inf", float("-inf"))
            tracker.log_metric("numpy", np.float32(0.5))
            tracker.log_params({"model_training": {"seed": 1, "loss_function": "mse"}, "experimentName": "Flex"})
            tracker.log_params({f"p{n}": n for n in range(120)})
            tracker.log_artifacts(
                {
                    "model": [Path("out/model.keras")],
                    "figures": [Path("out/loss.png")],
                    "metadata": [Path("metadata/model_training.yaml")],
                }
            )
    finally:
        os.chdir(before)
    return folder


def runs_in(folder: Path, experiment: str, database: str = "mlflow.db") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / database}")
    actual = client.get_experiment_by_name(experiment)
    return [] if actual is None else list(client.search_runs([actual.experiment_id]))


def test_a_run_is_in_the_store_of_the_working_directory(store: Path) -> None:
    from mlflow import MlflowClient

    (run,) = runs_in(store, "Flex")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "train front"
    assert run.data.tags["pixal.command"] == "train"
    assert run.data.params["model_training.seed"] == "1"
    assert run.data.params["model_training.loss_function"] == "mse"
    assert len(run.data.params) == 123
    assert run.data.metrics == {"loss": pytest.approx(1 / 1202), "numpy": 0.5}
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    history = sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "loss"))
    assert history == [(epoch, pytest.approx(1 / epoch)) for epoch in range(1, 1203)]


def test_the_files_of_a_run_are_in_mlruns(store: Path) -> None:
    (run,) = runs_in(store, "Flex")
    assert run.info.artifact_uri.startswith((store / "mlruns").resolve().as_uri())
    root = next(path for path in (store / "mlruns").rglob("model.keras")).parent.parent
    kept = {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert kept == {
        "model/model.keras": "weights",
        "figures/loss.png": "figure",
        "metadata/model_training.yaml": "seed: 1\n",
    }


def test_a_second_run_is_added_to_the_experiment(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    for experiment in ("Twice", "Twice", "Other"):
        with tracked_run(config_named(experiment), "front", "validate") as tracker:
            tracker.log_metric("image_auroc", 0.5)
    assert len(runs_in(store, "Twice")) == 2
    assert len(runs_in(store, "Other")) == 1


def test_the_duration_of_a_run_is_that_of_its_block(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    before = time.time() * 1000
    with tracked_run(config_named("Long"), "front", "train") as tracker:
        assert before - 1 <= tracker.start_time <= time.time() * 1000
        tracker.start_time -= 60_000  # a minute of work
    (run,) = runs_in(store, "Long")
    assert run.info.start_time == tracker.start_time
    assert run.info.end_time - run.info.start_time >= 60_000


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_that_fails_has_its_status_and_metrics(
    store: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], status: str
) -> None:
    monkeypatch.chdir(store)

    def interrupted() -> None:
        with tracked_run(config_named(status), "front", "train") as tracker:
            tracker.log_metric("loss", 0.25, 1)
            raise error

    with pytest.raises(error):
        interrupted()
    (run,) = runs_in(store, status)
    assert run.info.status == status
    assert run.data.metrics == {"loss": 0.25}


def test_the_tracking_uri_of_the_environment_is_used(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(store / "mlflow.db", tmp_path / "elsewhere.db")  # faster than a new one
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    with tracked_run(config_named("Elsewhere"), "front", "train"):
        pass
    assert [run.info.status for run in runs_in(tmp_path, "Elsewhere", "elsewhere.db")] == ["FINISHED"]
    assert not (tmp_path / "mlflow.db").exists()


def test_a_store_that_cannot_be_opened_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    done = []
    with caplog.at_level(logging.WARNING, logger="pixal"), tracked_run(config_named("X"), "front", "train"):
        done.append(True)
    assert done == [True]
    assert "not in MLflow" in caplog.text
    with pytest.raises(ZeroDivisionError), tracked_run(config_named("X"), "front", "train"):
        raise ZeroDivisionError  # the error of the block is raised, not that of the store


def test_a_missing_artifact_causes_a_warning_and_the_rest_is_stored(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(store)
    with (
        caplog.at_level(logging.WARNING, logger="pixal"),
        tracked_run(config_named("Gone"), "front", "train") as tracker,
    ):
        tracker.log_metric("loss", 0.5)
        tracker.log_params({"seed": 1})
        tracker.log_artifacts({"model": [Path("out/gone.keras")]})
    assert "not in MLflow" in caplog.text
    (run,) = runs_in(store, "Gone")
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.params == {"seed": "1"}


@pytest.mark.parametrize("value", ["off", "OFF"])
def test_the_switch_turns_tracking_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIXAL_TRACKING", value)
    with tracked_run(config_named("Off"), "front", "train") as tracker:
        tracker.log_metric("loss", 0.5)
    assert tracker.status == "FINISHED"
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_skipped() -> None:
    tracker = Tracker("Flex", "front", "train")
    for value in (1.0, float("nan"), float("inf"), -2.0):
        tracker.log_metric("x", value, 3)
    assert tracker.metrics == [("x", 1.0, 3), ("x", -2.0, 3)]
