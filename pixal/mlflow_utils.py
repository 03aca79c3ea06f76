"""Track runs in MLflow: settings, metrics per epoch, and files."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from pixal.config import Config

_log = logging.getLogger(__name__)

LOCAL_STORE = "mlflow.db"
LOCAL_ARTIFACTS = "mlruns"
SWITCH = "PIXAL_TRACKING"  # environment variable; "off" turns tracking off
# MLflow accepts at most 1000 metrics and 100 parameters per request.
_METRICS_PER_REQUEST = 500
_PARAMS_PER_REQUEST = 100
_LONGEST_PARAM = 6000  # characters; MLflow's limit

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class TrackedMetric(NamedTuple):
    """A value of a metric at a step (an epoch)."""

    name: str
    value: float
    step: int


class TrackedFile(NamedTuple):
    """A file of a run, and the artifact folder that it goes into."""

    path: Path
    folder: str


@dataclass
class Tracker:
    """Collects what a run logs. It is written to MLflow when the run ends.

    Attributes:
        experiment: Name of the experiment.
        name: Name of what the run works on, for example the image type.
        command: The command, for example ``train``.
        start_time: Milliseconds since 1970.
        status: How the run ended, as MLflow names it.
        metrics: The logged metrics, in their order.
        params: The logged settings as text, by dotted name.
        artifacts: The logged files.
    """

    experiment: str
    name: str
    command: str
    start_time: int = field(default_factory=lambda: _now())
    status: Status = "RUNNING"
    metrics: list[TrackedMetric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    artifacts: list[TrackedFile] = field(default_factory=list)

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Log a value of metric ``name`` at ``step`` (an epoch). Values that are not finite are skipped."""
        if math.isfinite(value):
            self.metrics.append(TrackedMetric(name, float(value), step))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings. Nested mappings get dotted names."""
        self.params.update((name, str(value)) for name, value in _flatten(params))

    def log_artifacts(self, artifacts: Mapping[str, Iterable[Path]]) -> None:
        """Log files, given by the artifact folder that they go into."""
        self.artifacts += [TrackedFile(path, folder) for folder, paths in artifacts.items() for path in paths]


@contextmanager
def tracked_run(config: Config, name: str, command: str) -> Iterator[Tracker]:
    """Track the block as a run in the experiment ``config.experimentName``.

    The run has the status FAILED if the block raises an exception, and KILLED if it is interrupted. A run that cannot
    be written to MLflow causes a warning, not an error.

    Without ``MLFLOW_TRACKING_URI``, the store is an SQLite file (``mlflow.db``) with artifacts in ``mlruns/``, both in
    the working directory, where ``mlflow ui`` finds them. With ``PIXAL_TRACKING=off`` in the environment, nothing is
    written.

    Args:
        config: The settings; they name the experiment.
        name: Name of what the run works on, for example the image type.
        command: The command, for example ``train``. The run is called ``COMMAND NAME``.

    Yields:
        The tracker, for metrics, settings and files.
    """
    tracker = Tracker(config.experimentName, name, command)
    try:
        yield tracker
        tracker.status = "FINISHED"
    except KeyboardInterrupt:
        tracker.status = "KILLED"
        raise
    except BaseException:
        tracker.status = "FAILED"
        raise
    finally:
        if is_tracking():
            try:
                store_run(tracker)
            except Exception as error:
                reason = " ".join(str(error).split())[:300]
                _log.warning("the run is not in MLflow: %s: %s", type(error).__name__, reason)


class FitHistory(Protocol):
    """The curves of a fit, with one value per epoch."""

    loss: list[float]
    validation_loss: list[float]
    accuracy: list[float]
    validation_accuracy: list[float]
    learning_rate: list[float]


def log_history(tracker: Tracker, history: FitHistory, folds: Sequence[FitHistory]) -> None:
    """Log the curves of a fit as metrics.

    Args:
        tracker: The run.
        history: Curves of the final fit, on all parts.
        folds: Curves of the fits with held-out parts. Their mean validation curves are logged.
    """
    for name, curve in {
        "loss": history.loss,
        "val_loss": _mean_curve([fold.validation_loss for fold in folds]),
        "accuracy": history.accuracy,
        "val_accuracy": _mean_curve([fold.validation_accuracy for fold in folds]),
        "learning_rate": history.learning_rate,
    }.items():
        for epoch, value in enumerate(curve, 1):
            tracker.log_metric(name, value, epoch)


def is_tracking() -> bool:
    """Whether runs are written to MLflow: unless the environment says ``PIXAL_TRACKING=off``."""
    return os.environ.get(SWITCH, "on").lower() != "off"


def import_mlflow() -> None:
    """Import MLflow ahead of its use, because the import takes seconds. Do nothing if tracking is off."""
    if not is_tracking():
        return
    # PIXAL needs neither Git nor usage statistics, and telemetry needs a network that may be missing.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the default, 7, delays a run by minutes
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with suppress(Exception):  # store_run reports it
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def store_run(tracker: Tracker) -> None:
    """Write a run that has ended to MLflow."""
    import_mlflow()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    local = "MLFLOW_TRACKING_URI" not in os.environ
    # An absolute path: MLflow caches open stores, and a relative path would mean the old one in another directory.
    client = MlflowClient(f"sqlite:///{Path(LOCAL_STORE).resolve().as_posix()}" if local else None)
    run_id = client.create_run(
        _experiment_id(client, tracker.experiment, local),
        start_time=tracker.start_time,
        run_name=f"{tracker.command} {tracker.name}",
        tags={"pixal.command": tracker.command},
    ).info.run_id
    try:
        params = [Param(key, value[:_LONGEST_PARAM]) for key, value in tracker.params.items()]
        for start in range(0, len(params), _PARAMS_PER_REQUEST):
            client.log_batch(run_id, params=params[start : start + _PARAMS_PER_REQUEST])
        now = _now()
        metrics = [Metric(metric.name, metric.value, now, metric.step) for metric in tracker.metrics]
        for start in range(0, len(metrics), _METRICS_PER_REQUEST):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_REQUEST])
        for path, folder in tracker.artifacts:
            client.log_artifact(run_id, str(path), folder)
    finally:
        client.set_terminated(run_id, tracker.status)


def _experiment_id(client: Any, name: str, local: bool) -> str:
    """Id of an experiment, which is created if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    artifacts = Path(LOCAL_ARTIFACTS).resolve().as_uri() if local else None
    experiment_id = str(client.create_experiment(name, artifact_location=artifacts))
    # With this tag MLflow's page shows training runs and metrics first, not language models.
    client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
    return experiment_id


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested mapping."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Mean of curves of different lengths: at each epoch, over the curves that reach it."""
    longest = max((len(curve) for curve in curves), default=0)
    reaching = ([curve[epoch] for curve in curves if epoch < len(curve)] for epoch in range(longest))
    return [float(np.nanmean(values)) for values in reaching]
