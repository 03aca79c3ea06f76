"""Tracking, with a real MLflow store."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from pixal import mlflow_sender, mlflow_utils, unsent_runs
from pixal.config import load_config
from pixal.io import ownership
from pixal.io.files import write_bytes
from pixal.mlflow_store import make_local_store
from pixal.mlflow_utils import COMPONENT_TAG, TrackedDataset, Tracker, tracked_run
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
    assert run.info.run_name == f"train {load_config().paths.component} front"
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


@pytest.fixture(autouse=True)
def _ask_all_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_utils, "_silent_stores", set())


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


def tracked(experiment: str, *files: Path) -> None:
    with tracked_run(config_named(experiment), "front", "train") as tracker:
        tracker.log_metric("loss", 0.5, 1)
        tracker.log_params({"seed": 1})
        tracker.log_artifacts({"model": files})


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
    mlflow_utils.import_mlflow()
    joined: list[float] = []
    join = Thread.join
    monkeypatch.setattr(Thread, "join", lambda thread, limit=None: (joined.append(limit), join(thread, limit))[1])
    for _ in range(3):
        tracked("Silent")
    monkeypatch.undo()
    assert joined == [1.0]
    assert len(list((tmp_path / "mlflow_unsent").glob("*.json"))) == 3
    messages = [message for message in caplog.messages if "not in MLflow" in message]
    assert len(messages) == 3
    assert "did not answer within 1 s; it is kept in mlflow_unsent" in messages[0]


@pytest.mark.slow
def test_a_process_with_a_silent_server_ends_within_seconds(silent_server: str, tmp_path: Path) -> None:
    code = """if True:
        import time
        from pixal import mlflow_sender, mlflow_utils, unsent_runs
        from pixal.config import load_config
        mlflow_utils.import_mlflow()
        start = time.monotonic()
        for name in ("front", "back", "side"):
            with mlflow_utils.tracked_run(load_config(), name, "train"):
                pass
        print(time.monotonic() - start)
    """
    environment = {**os.environ, "MLFLOW_TRACKING_URI": silent_server, "PIXAL_TRACKING": "on"}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 15
    assert time.monotonic() - start < 120  # with the import of MLflow, and its end
    assert len(list((tmp_path / "mlflow_unsent").iterdir())) == 3


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
    assert len(list(Path("mlflow_unsent").iterdir())) == 1
    assert Path("mlflow.db").read_bytes() == b"not a database" * 100
    changed.write_text("of a later run, which replaced it")
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    tracked("Now")
    (run,) = runs_in(tmp_path, "Later")
    assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"loss": 0.5}, {"seed": "1"})
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
    (kept,) = Path("mlflow_unsent").iterdir()
    assert kept.read_text().count('"size"') == 4
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    tracked("Now")
    assert len(runs_in(tmp_path, "Strange")) == 1
    assert list(Path("mlruns").rglob("*.txt")) == []


def deferred(experiment: str) -> None:
    with tracked_run(config_named(experiment), "front", "validate", deferred=True) as tracker:
        tracker.log_metric("parts", 1)


def test_a_deferred_run_is_sent_by_another_process(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    (tmp_path / "pixal").mkdir()
    (tmp_path / "pixal/__init__.py").write_text("raise SystemExit('not PIXAL')")  # of the user
    processes: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(mlflow_utils, "_start_sender", lambda: processes.append(mlflow_sender.start()))
    deferred("Deferred")
    assert [process.wait(240) for process in processes] == [0]
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

    def fail() -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(mlflow_utils, "_start_sender", fail)
    deferred("Deferred")
    (record,) = caplog.records
    expected = {"kept": "the run is not in MLflow: ", "started": "offered again at the next run: no more processes"}
    assert expected[fault] in record.getMessage()


def test_a_run_is_not_deferred_after_one_that_was_not_sent(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a problem of the store is reported by the second run."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(store / "mlflow.db", "mlflow.db")
    started: list[int] = []
    monkeypatch.setattr(mlflow_utils, "_start_sender", lambda: started.append(1))
    deferred("First")
    assert started == [1]
    assert runs_in(tmp_path, "First") == []
    with unsent_runs.sending():  # another process is at it, and comes to the new one, too
        deferred("Second")
    assert started == [1, 1]
    deferred("Third")
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
    assert len(list(Path("mlflow_unsent").iterdir())) == 1


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
    assert "was not made completely" in caplog.text
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
    Path("mlflow_unsent/x.json").write_bytes(content)
    tracked("Odd")
    assert "x.json is not a run that PIXAL kept" in caplog.text
    assert Path("mlflow_unsent/x.json").read_bytes() == content
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


def test_a_kept_run_keeps_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = TrackedDataset("Flex front", "0123456789abcdef", "out.npz", "training", {"shape": [2, 3, 1]})
    tracker = Tracker("PIXAL", "front", "train", end_time=1, datasets=[data])
    assert "is kept in" in mlflow_utils._keep(tracker, "local")
    ((_, run),) = unsent_runs.kept_runs("local")
    assert [TrackedDataset(*dataset) for dataset in run.datasets] == [data]


def test_mlflow_prints_no_address() -> None:
    mlflow_utils.import_mlflow()
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"
