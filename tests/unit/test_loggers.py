"""Loggers without MLflow, and which of them a run gets."""

from __future__ import annotations

import csv
import logging
import struct
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pixal.config import load_config
from pixal.errors import ConfigError
from pixal.tracking import EpochLog, TrackedDataset, Tracker, loggers, tracked_run, untracked
from pixal.tracking.loggers import RunLogger, logger_names
from pixal.tracking.run import TrackedMetric
from pixal.train_model.history import History

pytestmark = pytest.mark.usefixtures("tracking_on")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Let these packages be missing."""
    for module in ("pixal.tracking.loggers", "pixal.extras"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None if name in packages else object())


@pytest.mark.parametrize(
    ("setting", "missing", "expected"),
    [
        ("tracking=on", (), ["mlflow"]),
        ("tracking=on", ("mlflow",), []),
        ("tracking=off", (), []),
        ("tracking.loggers=off", (), []),
        ("tracking.loggers=csv", ("mlflow",), ["csv"]),
        ("tracking.loggers=[mlflow, csv, auto, csv]", (), ["mlflow", "csv"]),
        ("tracking.loggers=[tensorboard]", (), ["tensorboard"]),
    ],
)
def test_the_settings_choose_the_loggers(
    setting: str, missing: tuple[str, ...], expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, *missing)
    assert logger_names(load_config(None, [setting]).tracking) == expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("tracking.loggers=mlflow", "tracking.loggers: mlflow needs MLflow, .*pixal.tracking"),
        ("tracking.loggers=tensorboard", "tracking.loggers: tensorboard needs TensorBoard, .*pixal.tensorboard"),
        ("tracking.register=True", "tracking.register needs MLflow, .*pixal.tracking"),
    ],
)
def test_a_logger_that_is_not_installed_is_an_error_before_the_work(
    setting: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "mlflow", "tensorboard")
    worked = []
    with pytest.raises(ConfigError, match=expected), tracked_run(load_config(None, [setting]), "front", "train"):
        worked.append(1)
    assert not worked


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("tracking=5", "5 is neither off nor a section"),
        ("tracking.loggers=[cvs]", "'cvs' is not one of auto, mlflow, csv, tensorboard; the nearest is csv"),
        ("tracking={loggers: csv, register: true}", "register needs mlflow among the loggers"),
    ],
)
def test_bad_settings(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [setting])


def test_without_mlflow_nothing_is_written_and_mlflow_is_not_imported() -> None:
    code = """if True:
        import sys
        sys.modules["mlflow"] = None  # as if it was not installed
        from pixal.config import load_config
        from pixal.tracking import tracked_run
        with tracked_run(load_config(None, ["tracking=off"]), "front", "train") as run:
            run.log_metric("loss", 0.5, 1)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(Path().iterdir()) == []


def test_a_csv_file_can_be_read_while_the_run_goes_on() -> None:
    with tracked_run(load_config(None, ["tracking.loggers=csv"]), "front", "train", component="Flex") as run:
        run.log_metric("loss", 0.5, 1, time=1_000)
        run.log_metric("loss", 0.25, 2, time=2_500)
        (folder,) = Path("runs").iterdir()
        with (folder / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        run.log_dataset(TrackedDataset("Flex front", "0123", "out.npz", "training", {"good parts": 9}))
        run.log_artifacts({"figures": [Path("loss.png")]})
    assert folder.name.startswith("train_Flex_front_2")
    assert [(row["metric"], row["step"], row["value"]) for row in rows] == [("loss", "1", "0.5"), ("loss", "2", "0.25")]
    assert [datetime.fromisoformat(row["time"]).timestamp() for row in rows] == [1.0, 2.5]
    content = yaml.safe_load((folder / "run.yaml").read_text())
    assert (content["name"], content["status"]) == ("train Flex front", "FINISHED")
    assert content["params"]["model_training.n_epochs"] == "300"
    assert content["datasets"][0]["digest"] == "0123"
    assert content["files"] == ["loss.png"]
    assert content["tags"]["pixal.component"] == "Flex"


def test_two_runs_have_two_folders() -> None:
    for _ in range(2):
        with tracked_run(load_config(None, ["tracking.loggers=csv"]), "front (1)/x", "train"):
            pass
    assert len(list(Path("runs").iterdir())) == 2


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_folder_that_cannot_be_written_is_one_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    Path("runs").write_text("a file")
    with tracked_run(load_config(None, [f"tracking.loggers={name}"]), "front", "train") as run:
        run.log_metric("loss", 0.5, 1)
        run.log_metric("loss", 0.25, 2)
    assert run.status == "FINISHED"
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_tensorboard_reads_the_scalars() -> None:
    from tensorboard.compat.proto.event_pb2 import Event

    with tracked_run(load_config(None, ["tracking.loggers=tensorboard"]), "front", "train") as run:
        run.log_metric("loss", 0.5, 7, time=1_500)
    (path,) = Path("runs").glob("*/events.out.tfevents.*")
    data, events = path.read_bytes(), []
    while data:  # each record: its length and a checksum, the event and a checksum
        (length,) = struct.unpack("<Q", data[:8])
        events.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    assert events[0].file_version == "brain.Event:2"
    values = {value.tag: (event, value) for event in events for value in event.summary.value}
    event, loss = values["loss"]
    assert (loss.simple_value, event.step, event.wall_time) == (0.5, 7, 1.5)
    assert b"|model_training.n_epochs|300|" in values["settings"][1].tensor.string_val[0]


class Recorder(RunLogger):
    """Keeps the metrics that it gets."""

    def __init__(self) -> None:
        self.metrics: list[TrackedMetric] = []

    def log_metrics(self, metrics: Sequence[TrackedMetric]) -> None:
        self.metrics += metrics


def test_steps_of_a_tracked_run_are_not_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr(loggers, "open_loggers", lambda *_, **__: [recorder])
    monkeypatch.setattr("pixal.tracking.tracker.open_loggers", lambda *_, **__: [recorder])
    with untracked(), tracked_run(load_config(), "front", "train") as run:
        run.log_metric("loss", 0.5, 1)
    assert recorder.metrics == []


def history(losses: list[float], times: list[float], **curves: Any) -> History:
    return History(loss=losses, learning_rate=[0.1] * len(losses), times=times, **curves)


def test_epochs_are_logged_once_with_their_own_times() -> None:
    recorder = Recorder()
    tracker = Tracker("PIXAL", "front", "train", loggers=[recorder])
    log = EpochLog(tracker)
    log("fold_1", history([4.0], [1.0], validation_loss=[5.0]))
    assert recorder.metrics == [("fold_1/loss", 4.0, 1, 1_000), ("fold_1/val_loss", 5.0, 1, 1_000)]
    folds = [
        history([4.0, 3.0], [1.0, 2.0], validation_loss=[5.0, 4.0]),
        history([4.0], [3.0], validation_loss=[7.0]),
    ]
    log("fold_1", folds[0])
    log("fold_2", folds[1])
    log("", history([2.0], [4.0]))
    log.finish(history([2.0, 1.0], [4.0, 5.5]), folds)
    found = {(metric.name, metric.step): (metric.value, metric.time) for metric in recorder.metrics}
    assert len(found) == len(recorder.metrics)
    assert found["fold_1/loss", 2] == (3.0, 2_000)
    assert found["loss", 2] == (1.0, 5_500)
    assert found["learning_rate", 1] == (0.1, 4_000)
    assert found["val_loss", 1] == (6.0, 3_000)  # the mean, when the last fold had it
    assert found["val_loss", 2] == (4.0, 2_000)
    assert ("fold_1/learning_rate", 1) not in found


def test_epochs_of_a_fit_that_goes_on_after_an_interruption_have_their_times() -> None:
    tracker = Tracker("PIXAL", "front", "train")
    log = EpochLog(tracker)
    log("", history([2.0, 1.0], [1.0, 9.0]))  # the first epoch is from the checkpoint
    assert [(metric.step, metric.time) for metric in tracker.metrics if metric.name == "loss"] == [
        (1, 1_000),
        (2, 9_000),
    ]
