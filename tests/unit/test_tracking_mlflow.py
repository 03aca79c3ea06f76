"""Tracking, with a real MLflow store."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from threading import Condition, Event, Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from senders import SenderThread, finish_sending, sending_in_threads

from pixal.config import load_config
from pixal.io import ownership
from pixal.io.files import file_hash, write_bytes
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters
from pixal.tasks.photographs.verdicts.results import RESULT_COLUMNS
from pixal.tracking import (
    COMPONENT_TAG,
    TrackedDataset,
    TrackedModel,
    Tracker,
    mlflow_logger,
    mlflow_sender,
    sender,
    tracked_run,
    tracker,
    waiting_runs,
)
from pixal.tracking.environment import time_limit
from pixal.tracking.mlflow_store import make_local_store
from pixal.tracking.waiting_runs import RunFile, RunStart

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
        with sending_in_threads(), tracked_run(config_named("Flex"), "front", "train") as tracker:
            for epoch in range(1, 1203):
                tracker.log_metric("loss", 1 / epoch, epoch)
            tracker.log_metric("nan", float("nan"))
            tracker.log_metric("inf", float("-inf"))
            tracker.log_metric("numpy", np.float32(0.5))
            tracker.log_params({"model_training": {"seed": 1}, "more": {"seed": 2}})
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
    assert run.info.run_name == f"train {load_config().paths.component} front"
    assert run.data.tags["pixal.command"] == "train"
    assert run.data.params["model_training.seed"] == "42"  # that of the settings, which came first
    assert run.data.params["more.seed"] == "2"
    assert {"preprocessing.alignment.knn_ratio", "validation.false_alarm_rate", "plotting.plot_loss"} <= {
        *run.data.params
    }
    assert run.data.params["execution.backend"] == "threads"
    assert run.data.params["experimentName"] == "Flex"
    assert {f"p{n}" for n in range(120)} <= {*run.data.params}
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
        time.sleep(0.05)
    (run,) = runs_in(store, "Long")
    assert run.info.start_time == tracker.start_time
    assert run.info.end_time == tracker.end_time
    assert run.info.end_time - run.info.start_time >= 50


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
        tracker.log_artifacts({"model": [Path("out/gone.keras")]})
    assert "not in MLflow" in caplog.text
    (run,) = runs_in(store, "Gone")
    assert run.data.metrics == {"loss": 0.5}


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
        tracker.log_metric("x", value, 3, time=7)
    assert tracker.metrics == [("x", 1.0, 3, 7), ("x", -2.0, 3, 7)]


@pytest.fixture(autouse=True)
def senders(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[SenderThread]]:
    """The senders of the test, which end before the working directory is another one."""
    with sending_in_threads() as started:
        yield started


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def slow_server() -> Iterator[str]:
    """A server that sends a byte from time to time, which no read timeout of a client ends."""
    ended = Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not ended.wait(0.2):
                self.wfile.write(b" ")

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


def tracked(experiment: str, *files: Path, wait: bool = True) -> None:
    with tracked_run(config_named(experiment), "front", "train") as tracker:
        tracker.log_metric("loss", 0.5, 1)
        tracker.log_params({"seed": 1})
        tracker.log_artifacts({"model": files})
    if wait:
        finish_sending()


@pytest.mark.parametrize(
    ("store", "setting", "limit"),
    [
        (None, None, 60),
        (None, "240", 240),
        ("http://127.0.0.1", None, 10),
        ("http://127.0.0.1", "2.5", 2.5),
        ("http://127.0.0.1", "two", 10),
        (None, "two", 60),
        (None, "-1", 0.1),
    ],
)
def test_the_time_limit(monkeypatch: pytest.MonkeyPatch, store: str | None, setting: str | None, limit: float) -> None:
    for name, value in (("MLFLOW_TRACKING_URI", store), ("PIXAL_TRACKING_TIMEOUT", setting)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert time_limit() == limit


@pytest.mark.parametrize("server", ["silent_server", "slow_server"])
def test_a_server_that_does_not_answer_holds_the_process_once_for_a_limited_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
    server: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue(server))
    monkeypatch.setenv("PIXAL_TRACKING_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    limits: list[float] = []
    wait_for = Condition.wait_for
    monkeypatch.setattr(
        Condition, "wait_for", lambda self, done, limit=None: (limits.append(limit), wait_for(self, done, limit))[1]
    )
    for _ in range(3):
        tracked("Silent", wait=False)
    assert [limit for limit in limits if limit is not None] == [1.0, 0.0, 0.0]
    assert len(list((tmp_path / "mlflow_unsent").glob("*.jsonl"))) == 3
    messages = [message for message in caplog.messages if "not in MLflow" in message]
    assert len(messages) == 3
    assert "did not answer within 1 s; it is kept in mlflow_unsent" in messages[0]


@pytest.mark.slow
def test_a_process_with_a_silent_server_ends_within_seconds(silent_server: str, tmp_path: Path) -> None:
    code = """if True:
        import time
        from pixal.config import load_config
        from pixal.tracking import tracked_run
        start = time.monotonic()
        for number in range(12):
            with tracked_run(load_config(), f"type {number}", "train"):
                pass
        print(time.monotonic() - start)
    """
    settings = {"MLFLOW_TRACKING_URI": silent_server, "PIXAL_TRACKING": "on", "PIXAL_TRACKING_TIMEOUT": "4"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 4 <= float(done.stdout) < 40  # 4 s for all runs; 48 s if each waited. The rest is for a loaded machine
    assert time.monotonic() - start < 120  # with the import of MLflow, and its end
    assert len(list((tmp_path / "mlflow_unsent").glob("*.jsonl"))) == 12


def test_a_kept_run_is_sent_when_the_store_can_be_written(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ownership.claim(Path("out"))
    kept, changed = Path("out/kept.txt"), Path("out/changed.txt")
    for path in (kept, changed):
        write_bytes(path, b"of this run")
    Path("mlflow.db").write_bytes(b"not a database" * 100)
    tracked("Later", kept, changed)
    assert len(list(Path("mlflow_unsent").glob("*.jsonl"))) == 1
    assert Path("mlflow.db").read_bytes() == b"not a database" * 100
    changed.write_text("of a later run, which replaced it")
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    tracked("Now")
    (run,) = runs_in(tmp_path, "Later")
    assert (run.info.status, run.data.metrics, run.data.params["seed"]) == ("FINISHED", {"loss": 0.5}, "1")
    assert run.info.run_name == f"train {load_config().paths.component} front"
    assert [path.name for path in Path("mlruns").rglob("*.txt")] == ["kept.txt"]
    assert not Path("mlflow_unsent").exists()
    assert len(runs_in(tmp_path, "Now")) == 1


def test_a_kept_run_sends_no_file_that_pixal_did_not_write(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone who can write to the working directory can name files in ``mlflow_unsent``."""
    monkeypatch.chdir(tmp_path)
    ownership.claim(Path("out"))
    secret, link, beside = tmp_path / "secret.txt", Path("out/link.txt"), Path("out/beside.txt")
    for path in (secret, beside):
        path.write_text("of the user")
    write_bytes(link, b"of this run")
    link.unlink()
    link.symlink_to(secret)  # under a name that is PIXAL's
    Path("mlflow.db").write_bytes(b"not a database" * 100)
    tracked("Strange", secret, link, beside, Path("out/../secret.txt"))
    (kept,) = Path("mlflow_unsent").glob("*.jsonl")
    assert kept.read_text().count('"size"') == 4
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    monkeypatch.setattr(sender, "_senders", {})  # another process
    tracked("Now")
    assert len(runs_in(tmp_path, "Strange")) == 1
    assert list(Path("mlruns").rglob("*.txt")) == []


LAUNCH = sender.launch


def deferred(experiment: str) -> None:
    with tracked_run(config_named(experiment), "front", "validate", deferred=True) as tracker:
        tracker.log_metric("parts", 1)


@pytest.mark.slow
def test_a_deferred_run_is_sent_by_another_process(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    (tmp_path / "pixal").mkdir()
    (tmp_path / "pixal/__init__.py").write_text("raise SystemExit('not PIXAL')")  # of the user
    monkeypatch.setattr(tracker, "_defers", True)
    started = []
    monkeypatch.setattr(sender, "launch", lambda **options: started.append(LAUNCH(**options)))
    deferred("Deferred")
    assert started.pop().wait(240) == 0
    assert not Path("mlflow_unsent").exists()
    (run,) = runs_in(tmp_path, "Deferred")
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"parts": 1})
    assert not caplog.records


@pytest.mark.parametrize("fault", ["kept", "started"])
def test_a_run_that_cannot_be_deferred_is_a_warning(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    if fault == "kept":
        Path("mlflow_unsent").write_text("a file")

    def fail(**_: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(tracker, "_defers", True)
    monkeypatch.setattr(sender, "launch", fail)
    deferred("Deferred")
    (record,) = caplog.records
    expected = {
        "kept": "cannot be written to mlflow_unsent",
        "started": "no more processes; it is kept in mlflow_unsent",
    }
    assert expected[fault] in record.getMessage()


def test_a_run_is_not_deferred_after_one_that_was_not_sent(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a problem of the store is reported by the second run."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    monkeypatch.setattr(tracker, "_defers", True)
    started: list[int] = []
    monkeypatch.setattr("pixal.tracking.mlflow_logger.send_later", lambda: started.append(1))
    deferred("First")
    assert started == [1]
    assert runs_in(tmp_path, "First") == []
    with waiting_runs.sending():  # another process is at it, and comes to the new one, too
        deferred("Second")
    assert started == [1, 1]
    deferred("Third")
    finish_sending()
    assert started == [1, 1]
    assert [len(runs_in(tmp_path, name)) for name in ("First", "Second", "Third")] == [1, 1, 1]
    assert not Path("mlflow_unsent").exists()


def test_a_run_of_which_a_part_was_sent_is_not_stored_twice(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    log_batch = MlflowClient.log_batch

    def fails(client: Any, run_id: str, metrics: Any = (), **options: Any) -> None:
        if metrics:
            raise ConnectionError("cut off")
        log_batch(client, run_id, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", fails)
    tracked("Cut")
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    (run,) = runs_in(tmp_path, "Cut")
    assert run.data.metrics == {}
    tracked("Other")
    (run,) = runs_in(tmp_path, "Cut")
    assert run.data.metrics == {"loss": 0.5}


def test_a_damaged_store_is_left_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    data = bytearray((store / "mlflow.db").read_bytes())
    data[4096 : len(data) // 2] = bytes(len(data) // 2 - 4096)
    Path("mlflow.db").write_bytes(data)
    tracked("Damaged")
    assert "mlflow.db is damaged" in caplog.text
    assert Path("mlflow.db").read_bytes() == data
    assert len(list(Path("mlflow_unsent").glob("*.jsonl"))) == 1


@pytest.mark.parametrize("missing", ["everything", "tables", "version"])
def test_a_store_that_was_not_made_completely_is_made_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("mlflow.db") as database:
        if missing != "everything":
            database.execute("CREATE TABLE runs (run_uuid TEXT)")
            database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        if missing == "version":
            with sqlite3.connect(store / "mlflow.db") as whole:
                for (statement,) in whole.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall():
                    database.execute(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
    database.close()
    Path("mlflow.db").touch()
    tracked("Again")
    assert "is incomplete and contains no runs" in caplog.text
    assert len(runs_in(tmp_path, "Again")) == 1
    assert len(list(tmp_path.glob("mlflow_unfinished_*.db"))) == 1
    assert not list(tmp_path.glob(".*"))


def test_a_store_that_is_made_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.tracking import sqlalchemy_store

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", killed)
    with pytest.raises(KeyboardInterrupt):
        make_local_store(tmp_path / "mlflow.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"id": "x"}', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_kept_run_is_left_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    Path("mlflow_unsent").mkdir()
    Path("mlflow_unsent/x.jsonl").write_bytes(content)
    tracked("Odd")
    assert "x.jsonl is not a run that can be sent" in caplog.text
    assert Path("mlflow_unsent/x.jsonl").read_bytes() == content
    assert len(runs_in(tmp_path, "Odd")) == 1


@pytest.mark.parametrize("type_name", ["front (1)", "a=b;c", "Prüfling", "x:y", "x" * 300])
def test_mlflow_accepts_the_metrics_of_any_type(type_name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    tracker = Tracker("Part", type_name, "validate")
    tracker.log_metric(f"{type_name}/parts", 3)
    _validate_metric_name(tracker.metrics[0].name)
    assert len(tracker.metrics[0].name) <= 250


def test_a_run_is_named_after_command_component_and_object() -> None:
    names = []
    for command, name, tags in (
        ("train", "front", {COMPONENT_TAG: "Flex"}),
        ("train", "Flex", {COMPONENT_TAG: "Flex"}),
        ("benchmark", "mvtec", {}),
    ):
        names.append(Tracker("PIXAL", name, command, tags=tags).run_name)
    assert names == ["train Flex front", "train Flex", "benchmark mvtec"]


def test_a_data_set_is_stored_with_its_digest(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store)
    data = TrackedDataset("Flex front", "0123456789abcdef", "out/Flex/front/out.npz", "training", {"good parts": 24})
    with tracked_run(config_named("Data"), "front", "train") as tracker:
        tracker.log_dataset(data)
    (run,) = runs_in(store, "Data")
    (found,) = run.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("Flex front", "0123456789abcdef")
    assert json.loads(found.dataset.source) == {"uri": "out/Flex/front/out.npz"}
    assert json.loads(found.dataset.profile) == {"good parts": 24}
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]


def test_an_epoch_is_in_the_store_while_the_run_goes_on(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    seen = []
    with tracked_run(config_named("Live"), "front", "train") as run:
        for epoch in (1, 2):
            run.log_metric("loss", 1 / epoch, epoch, time=run.start_time + 1000 * epoch)
            seen.append(wait_for_metric("Live", "loss", 1 / epoch))
    assert [(found.info.status, found.info.run_name) for found in seen] == [("RUNNING", run.run_name)] * 2
    (found,) = runs_in(tmp_path, "Live")
    assert found.info.status == "FINISHED"
    from mlflow import MlflowClient

    history = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").get_metric_history(found.info.run_id, "loss")
    assert [point.timestamp - run.start_time for point in history] == [1000, 2000]


def wait_for_metric(experiment: str, name: str, value: float) -> Any:
    """The run of an experiment, when a metric has this value."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for run in runs_in(Path.cwd(), experiment):
            if run.data.metrics.get(name) == pytest.approx(value):
                return run
        time.sleep(0.02)
    pytest.fail("the metric is not in the store")


def test_a_run_whose_process_was_killed_ends(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, senders: list[SenderThread]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    with tracked_run(config_named("Killed"), "front", "train") as run:
        run.log_metric("loss", 0.25, 1)
        run.loggers.clear()  # nobody ends it
    senders[0].stdin.close()  # as the end of a process does
    senders[0].thread.join(60)
    (run,) = runs_in(tmp_path, "Killed")
    assert (run.info.status, run.data.metrics) == ("KILLED", {"loss": 0.25})
    assert not Path("mlflow_unsent").exists()


def test_a_store_that_comes_back_gets_the_whole_run(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow.db").write_bytes(b"not a database" * 100)
    with tracked_run(config_named("Back"), "front", "train") as run:
        run.log_metric("loss", 0.5, 1)
        time.sleep(0.2)  # it was tried and has failed
        shutil.copyfile(store / "mlflow.db", "mlflow.db")
    (found,) = runs_in(tmp_path, "Back")
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 0.5})
    assert "not in MLflow" not in caplog.text


def test_a_sender_that_has_ended_is_started_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, senders: list[SenderThread]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    monkeypatch.setattr(mlflow_sender.waiting_runs, "discard", lambda path: None)  # as if it was killed before that
    with tracked_run(config_named("Again"), "front", "train") as run:
        run.log_metric("loss", 0.5, 1)
        wait_for_metric("Again", "loss", 0.5)
        senders[0].stdin.close()
        senders[0].thread.join(60)
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(
            sender, "launch", lambda **options: (senders.append(SenderThread(**options)), senders[-1])[1]
        )
    assert len(senders) == 2
    (found,) = runs_in(tmp_path, "Again")  # not twice
    assert found.info.status == "FINISHED"


@pytest.mark.parametrize("is_followed", [False, True])
def test_a_run_without_an_end_is_sent_when_nobody_follows_it(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_followed: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    start = RunStart(
        id="a" * 32,
        store="local",
        session="another",
        experiment="Cut off",
        name="train Flex",
        command="train",
        start_time=1_000,
        register_model=False,
    )
    file = RunFile(start)
    file.add(metrics=[("loss", 0.5, 1, 2_000)])
    file.close()
    os.utime(file.path, (3, 3))
    if is_followed:
        with waiting_runs.following("another"):
            mlflow_sender.send_kept_runs()
        assert file.path.is_file()
    else:
        mlflow_sender.send_kept_runs()
        (run,) = runs_in(tmp_path, "Cut off")
        assert (run.info.status, run.info.end_time, run.data.metrics) == ("KILLED", 3_000, {"loss": 0.5})
        assert not file.path.exists()


def test_a_run_is_not_sent_by_another_process_before_its_own_sender_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[list[Path]] = []

    def wait_for(self: sender.Sender, run_id: str) -> sender.Report:
        found.append([path for path, *_ in waiting_runs.kept_runs("local")])
        return sender.Report("too early")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sender, "launch", lambda: SimpleNamespace(stdin=BytesIO(), stdout=BytesIO(), poll=lambda: None))
    monkeypatch.setattr(sender.Sender, "wait_for", wait_for)
    with tracked_run(config_named("Early"), "front", "train"):
        pass
    assert found == [[]]
    (kept,) = waiting_runs.kept_runs("local")  # nobody follows it any more
    assert kept[2][-1].end is not None


def test_the_locks_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mlflow_unsent").mkdir()
    Path("mlflow_unsent", "0123456789abcdef.lock").touch()
    with waiting_runs.following("living"):
        mlflow_sender.send_kept_runs()
        assert len(list(Path("mlflow_unsent").iterdir())) == 1
    assert not Path("mlflow_unsent").exists()


@pytest.mark.slow
def test_the_file_of_a_run_is_for_this_user_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sender trusts the names of files in it."""
    monkeypatch.chdir(tmp_path)
    with tracked_run(config_named("Own"), "front", "train"):
        (path,) = Path("mlflow_unsent").glob("*.jsonl")
        assert os.name == "nt" or path.stat().st_mode & 0o077 == 0


def test_a_model_of_mlflow_gives_the_verdicts_of_validate(
    store: Path, validated_lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import pandas as pd
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    shutil.copytree(validated_lot / "out", "out")
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    record = Path("out/Part/front/metadata/model_training.yaml")
    model = TrackedModel("photographs", "Part", "front", record, file_hash(record), Path("out/Part/front/model"))
    config = load_config(None, ["experimentName=Models", "tracking.register=True"])
    with tracked_run(config, "front", "train") as run:
        run.set_tags({"pixal.model": "f" * 64})
        run.log_metric("loss", 0.5, 3)
        run.log_model(model)
    with tracked_run(config, "lot1", "validate") as batch:
        batch.set_tags({"pixal.model.front": "f" * 64, "pixal.model.back": "0" * 64})
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    trained, validated = sorted(runs_in(tmp_path, "Models"), key=lambda run: run.info.start_time)
    (output,) = trained.outputs.model_outputs
    inputs = client.get_run(validated.info.run_id).inputs.model_inputs  # search_runs leaves them out
    assert [used.model_id for used in inputs] == [output.model_id]
    assert validated.data.tags["pixal.training_run.front"] == trained.info.run_id
    assert "pixal.training_run.back" not in validated.data.tags
    found = client.get_logged_model(output.model_id)
    assert (found.name, found.experiment_id) == (config.paths.component and "Part_front", trained.info.experiment_id)
    assert client.get_model_version("Part_front", "1").run_id == trained.info.run_id
    assert "MLFLOW_TRACKING_URI" not in os.environ
    loaded = mlflow.pyfunc.load_model(Path(found.artifact_location.removeprefix("file://")))
    assert [column.name for column in loaded.metadata.signature.outputs] == list(RESULT_COLUMNS)
    assert loaded.input_example is not None
    with (validated_lot / "validate/Part/results.csv").open() as file:
        expected = pd.read_csv(file)
    folder = validated_lot / "r/production/Part/front"
    paths = [str(folder / name) for name in reversed(expected["image"])]
    columns = ["image", "score", "p_value", "verdict", "regions", "x"]
    by_frame = loaded.predict(pd.DataFrame({"any name": [*paths, str(folder / "none.jpg")]}))
    by_folder = loaded.predict(str(folder))
    pd.testing.assert_frame_equal(by_folder[columns], expected[columns], rtol=1e-6, check_dtype=False)
    pd.testing.assert_frame_equal(
        by_frame[columns][:-1], expected[columns][::-1].reset_index(drop=True), rtol=1e-6, check_dtype=False
    )
    assert by_frame["verdict"].iloc[-1] == "error"
    assert "No such file" in by_frame["reason"].iloc[-1]


def test_a_model_that_was_replaced_is_not_sent(
    store: Path, validated_lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    record = validated_lot / "out/Part/front/metadata/model_training.yaml"
    model = TrackedModel("photographs", "Part", "front", record, "0" * 64, validated_lot / "out/Part/front/model")
    with tracked_run(config_named("Replaced"), "front", "train") as run:
        run.log_model(model)
    (found,) = runs_in(tmp_path, "Replaced")
    assert (found.info.status, found.outputs.model_outputs) == ("FINISHED", [])


def test_the_address_of_the_runs_is_said_once_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.example/")
    monkeypatch.setattr(mlflow_logger, "_said", set())
    with caplog.at_level(logging.INFO, logger="pixal"):
        mlflow_logger._say_where("7")
        mlflow_logger._say_where("7")
    address = "https://tracking.example/#/experiments/7/runs?workflowType=machine_learning"
    assert caplog.messages == [f"runs: {address}"]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
def test_a_real_server_gets_a_run_while_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real process, which imports MLflow itself."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", str(tmp_path / "artifacts")]
    address = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(sender, "launch", LAUNCH)
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("PIXAL_TRACKING_TIMEOUT", "120")  # of a loaded machine
        client = MlflowClient(address)
        (tmp_path / "report.html").write_text("<html></html>")
        with tracked_run(config_named("Server"), "front", "train") as run:
            run.log_metric("loss", 0.5, 1)
            experiment = wait_until(lambda: client.get_experiment_by_name("Server").experiment_id)
            (live,) = wait_until(lambda: [*client.search_runs([experiment], "metrics.loss = 0.5")] or [][0])
            run.log_artifacts({"results": [Path("report.html")]})
        assert live.info.status == "RUNNING"
        (found,) = client.search_runs([experiment])
        assert found.info.status == "FINISHED"
        assert [file.path for file in client.list_artifacts(found.info.run_id, "results")] == ["results/report.html"]
        kind = client.get_experiment(experiment).tags["mlflow.experimentKind"]
        assert kind == "custom_model_development"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        for following in sender._senders.values():
            following.close()
            following._process.wait(60)


def wait_until(attempt: Callable[[], Any]) -> Any:
    """The result of the first attempt that raises nothing."""
    end = time.monotonic() + 120
    while True:
        try:
            return attempt()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_a_deferred_run_that_goes_on_for_days_is_left_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watched folder logs nothing until it ends."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    monkeypatch.setattr(tracker, "_defers", True)
    with tracked_run(config_named("Days"), "front", "validate", deferred=True) as run:
        (path,) = Path("mlflow_unsent").glob("*.jsonl")
        os.utime(path, (3, 3))
        mlflow_sender.send_kept_runs()
        assert path.is_file()
        run.log_metric("parts", 2)
    finish_sending()
    mlflow_sender.send_kept_runs(wait=60)
    (found,) = runs_in(tmp_path, "Days")
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"parts": 2})
    assert not Path("mlflow_unsent").exists()
