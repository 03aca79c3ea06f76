"""Training on a Dask cluster, type by type or fold by fold, gives the same bytes as on one computer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from dask_processes import local_cluster, separate_cluster
from helpers import write_configs

import pixal
from pixal import execution
from pixal.errors import ClusterError
from pixal.synthetic import write_batch
from pixal.train_model import several_models
from pixal.train_model.training_processes import TrainingOnWorker, _ready

SETTINGS = """
model_training: {{model: {model}, autoencoder_architecture: [8, 4], n_epochs: 30, calibration_folds: 2}}
preprocessing: {{draw_matches: False, save_metrics: False, save_overlays: False}}
plotting: {{plot_loss: False, plot_accuracy: False, plot_anomaly_heatmap: False, plot_distributions: False}}
"""


@pytest.fixture
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with local_cluster(tmp_path_factory.mktemp("dask")) as settings:
        yield settings.scheduler


def trained_files() -> dict[Path, bytes]:
    files = [path for path in Path("out/Part").rglob("*") if "model" in path.parts and path.suffix != ".log"]
    return {path: path.read_bytes() for path in files if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["gaussian", "autoencoder"])
@pytest.mark.parametrize("types", [("front", "back"), ("front",)])
def test_training_on_a_cluster_gives_the_same_bytes(
    model: str, types: tuple[str, ...], scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_configs(tmp_path, SETTINGS.format(model=model))
    write_batch("r", component="Part", types=types, train=6, good=1, bad=1, frame_size=(240, 135))
    pixal.preprocess("r/train/Part", quiet=True)
    found = []
    for overrides in ([], ["execution.backend=dask", f"execution.scheduler={scheduler}"]):
        pixal.train(config=pixal.load_config("configs", overrides), quiet=True)
        found.append(trained_files())
    assert found[0] == found[1]
    assert sum(path.name == "calibration.npz" for path in found[0]) == len(types)


@pytest.mark.slow
def test_models_that_are_trained_at_the_same_time_are_the_same_and_their_warnings_are_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_configs(tmp_path, SETTINGS.format(model="autoencoder"))
    write_batch("r", component="Part", types=("front", "back"), train=6, good=1, bad=1, frame_size=(240, 135))
    pixal.preprocess("r/train/Part", quiet=True)
    monkeypatch.setattr(several_models, "_VALUES_FOR_A_PROCESS", 1)
    others: list[int] = []
    side_by_side = several_models.work_side_by_side
    monkeypatch.setattr(
        several_models, "work_side_by_side", lambda *arguments: others.append(arguments[-1]) or side_by_side(*arguments)
    )
    found = []
    for workers in (1, 2):
        overrides = [f"execution.workers={workers}", "plotting.loss_cut=1e-9"]  # a cut that is warned of
        caplog.clear()
        pixal.train(config=pixal.load_config("configs", overrides), quiet=True)
        warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        found.append((trained_files(), sorted(warnings)))
    assert found[0] == found[1]
    assert found[0][1]
    assert others == [1]
    assert not _ready


def test_errors_of_a_process_that_trains_reach_the_caller() -> None:
    assert TrainingOnWorker(abs)(-3) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        TrainingOnWorker(int)("x")
    with pytest.raises(ClusterError, match="ended with status 7"):
        TrainingOnWorker(os._exit)(7)


def training_on(workers: Sequence[subprocess.Popen[bytes]]) -> tuple[subprocess.Popen[bytes], int] | None:
    """A worker that trains, and the process in which it does; None: none does."""
    by_pid = {worker.pid: worker for worker in workers}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if parent in by_pid and b"answer()" in command:
            return by_pid[parent], int(stat.parent.name)
    return None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_worker_killed_while_it_trains_costs_its_own_time_and_a_lost_scheduler_can_be_resumed_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_configs(Path(), SETTINGS.format(model="autoencoder"))
    write_batch("r", component="Part", types=("front",), train=6, good=1, bad=1, frame_size=(240, 135))
    pixal.preprocess("r/train/Part", quiet=True)
    expected = {}
    for seed in (43, 42):
        pixal.train(config=pixal.load_config("configs", [f"model_training.seed={seed}"]), quiet=True)
        expected[seed] = trained_files()
    with separate_cluster(tmp_path, 2) as (settings, processes):
        on_cluster = ["execution.backend=dask", f"execution.scheduler={settings.scheduler}"]
        trainings: list[int] = []

        def kill_when_it_trains(*, scheduler: bool) -> None:
            """Kill a worker while it trains, or the scheduler while a worker does."""
            while (found := training_on(processes[1:])) is None:
                time.sleep(0.01)
            worker, training = found
            trainings.append(training)
            os.kill(processes[0].pid if scheduler else worker.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_when_it_trains, kwargs={"scheduler": False})
        killer.start()
        pixal.train(config=pixal.load_config("configs", on_cluster), quiet=True)
        killer.join()
        assert trained_files() == expected[42]
        end = time.monotonic() + 20
        while Path(f"/proc/{trainings[0]}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{trainings[0]}").exists()  # the training whose worker was killed

        execution._cluster(settings.scheduler).client._timeout = 0.5  # for which it tries to connect again
        killer = threading.Thread(target=kill_when_it_trains, kwargs={"scheduler": True})
        killer.start()
        with pytest.raises(ClusterError, match="was lost; what is done is stored"):
            pixal.train(config=pixal.load_config("configs", ["model_training.seed=43", *on_cluster]), quiet=True)
        killer.join()
    pixal.train(config=pixal.load_config("configs", ["model_training.seed=43"]), resume=True, quiet=True)
    assert trained_files() == expected[43]
