"""Training on a Dask cluster, type by type or fold by fold, gives the same bytes as on one computer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import pixal
from pixal import execution
from pixal.errors import ClusterError
from pixal.synthetic import write_batch
from pixal.train_model.cluster_work import TrainingOnWorker
from tests.helpers import write_configs

SETTINGS = """
model_training: {{model: {model}, autoencoder_architecture: [8, 4], n_epochs: 30, calibration_folds: 2}}
preprocessing: {{draw_matches: False, save_metrics: False, save_overlays: False}}
plotting: {{plot_loss: False, plot_accuracy: False, plot_anomaly_heatmap: False, plot_distributions: False}}
"""


@pytest.fixture
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        **{"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None},
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as cluster:
        yield cluster.scheduler_address
        for connected in execution._clusters.values():
            connected.close()
        execution._clusters.clear()


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
        files = [path for path in Path("out/Part").rglob("*") if "model" in path.parts and path.suffix != ".log"]
        found.append({path: path.read_bytes() for path in files if path.is_file()})
    assert found[0] == found[1]
    assert sum(path.name == "calibration.npz" for path in found[0]) == len(types)


def test_errors_of_a_process_that_trains_reach_the_caller() -> None:
    pytest.importorskip("cloudpickle")
    assert TrainingOnWorker(abs)(-3) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        TrainingOnWorker(int)("x")
    with pytest.raises(ClusterError, match="ended with status 7"):
        TrainingOnWorker(os._exit)(7)
