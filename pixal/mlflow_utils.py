"""Tracking of runs in MLflow: parameters, a metric an epoch, files."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pixal.config import Config

_log = logging.getLogger(__name__)

LOCAL_STORE = "mlflow.db"
LOCAL_ARTIFACTS = "mlruns"
_BATCH = 500  # entities a request; MLflow takes 1000 metrics, 100 parameters


@dataclass
class Tracker:
    """Collects what a run has to say; MLflow hears it when the run ends. began: milliseconds since 1970."""

    kind: str
    began: int = field(default_factory=lambda: _now())
    metrics: list[tuple[str, float, int]] = field(default_factory=list)
    params: dict[str, Any] = field(default_factory=dict)
    artifacts: list[tuple[Path, str]] = field(default_factory=list)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Note a value of metric ``name`` at ``step`` (an epoch); values that are not finite are left out."""
        if math.isfinite(value):
            self.metrics.append((name, float(value), step))

    def finish(self, params: Mapping[str, Any], artifacts: Mapping[str, Iterable[Path]]) -> None:
        """Note the settings (nested; dotted names in MLflow), and the files of the run by the folder they go into."""
        self.params = dict(_flat(params))
        self.artifacts += [(path, folder) for folder, paths in artifacts.items() for path in paths]


@contextmanager
def tracked_run(config: Config, name: str, kind: str) -> Iterator[Tracker]:
    """Track a run named ``name`` in the experiment ``config.experimentName``; failed if the block fails.

    Without ``MLFLOW_TRACKING_URI`` the store is SQLite (``mlflow.db``) with artifacts in ``mlruns/``, both in the
    working directory, where ``mlflow ui`` finds them by itself. What cannot be tracked is a warning.
    """
    tracker = Tracker(kind)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        try:
            _write(tracker, config.experimentName, name, status)
        except Exception as error:
            _log.warning("the run is not in MLflow: %s: %s", type(error).__name__, " ".join(str(error).split())[:300])


class FitHistory(Protocol):
    """The curves of a fit, one value per epoch."""

    loss: list[float]
    validation_loss: list[float]
    accuracy: list[float]
    validation_accuracy: list[float]
    learning_rate: list[float]


def track_history(tracker: Tracker, history: FitHistory, folds: Sequence[FitHistory]) -> None:
    """Note the curves of a fit as metrics; those of validation are means over the folds."""
    for name, curve in {
        "loss": history.loss,
        "val_loss": _mean_curve([fold.validation_loss for fold in folds]),
        "accuracy": history.accuracy,
        "val_accuracy": _mean_curve([fold.validation_accuracy for fold in folds]),
        "learning_rate": history.learning_rate,
    }.items():
        for epoch, value in enumerate(curve, 1):
            tracker.metric(name, value, epoch)


def load() -> None:
    """Import MLflow, which takes seconds, ahead of its use."""
    # Git and usage statistics are not needed, and telemetry asks for a network that may not be there.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own 7 hold a run up for minutes
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with suppress(Exception):  # said when the run is written
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def _write(tracker: Tracker, experiment: str, name: str, status: str) -> None:
    load()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    own_store = "MLFLOW_TRACKING_URI" not in os.environ
    # In full: MLflow keeps a store it has opened, and would go on with it in another working directory.
    client = MlflowClient(f"sqlite:///{Path(LOCAL_STORE).resolve().as_posix()}" if own_store else None)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        place = Path(LOCAL_ARTIFACTS).resolve().as_uri() if own_store else None
        experiment_id = client.create_experiment(experiment, artifact_location=place)
        # The page then opens on training runs and their metrics, not on language models.
        client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
    else:
        experiment_id = found.experiment_id
    run_id = client.create_run(
        experiment_id,
        start_time=tracker.began,
        run_name=f"{tracker.kind} {name}",
        tags={"pixal.command": tracker.kind},
    ).info.run_id
    try:
        params = [Param(key, str(value)[:6000]) for key, value in tracker.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(run_id, params=params[start : start + 100])
        now = _now()
        metrics = [Metric(key, value, now, step) for key, value, step in tracker.metrics]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        for path, folder in tracker.artifacts:
            client.log_artifact(run_id, str(path), folder)
    finally:
        client.set_terminated(run_id, status)


def _now() -> int:
    return int(time.time() * 1000)


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of curves of different length, at each epoch over those that are still running."""
    longest = max((len(curve) for curve in curves), default=0)
    running = ([curve[epoch] for curve in curves if epoch < len(curve)] for epoch in range(longest))
    return [float(np.nanmean(values)) for values in running]
