"""Track runs in MLflow: settings, metrics per epoch, and files."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from pixal import unsent_runs
from pixal.config import Config
from pixal.mlflow_store import LOCAL_ARTIFACTS, make_local_store
from pixal.unsent_runs import UnsentFile, UnsentRun

_log = logging.getLogger(__name__)

LOCAL_STORE = "mlflow.db"
SWITCH = "PIXAL_TRACKING"  # environment variable; "off" turns tracking off
TIMEOUT = "PIXAL_TRACKING_TIMEOUT"  # environment variable: seconds that a tracking server may take in all
_TIMEOUT = 10.0
_LOCAL_TIMEOUT = 60.0  # no network, but a slow disk; making the store takes seconds
# MLflow accepts at most 1000 metrics and 100 parameters per request.
_METRICS_PER_REQUEST = 500
_PARAMS_PER_REQUEST = 100
_ID_TAG = "pixal.run"
COMPONENT_TAG = "pixal.component"
MODEL_TAG = "pixal.model"
"""Tag with the fingerprint of a model: of a run of ``train``, and (with ``.TYPE``) of runs that used the model."""
_LONGEST_NAME = 250  # characters; MLflow's limit
_LONGEST_PARAM = 6000  # characters; MLflow's limit, also below that of tags

_start_sender: Callable[[], object] | None = None
_untracked: ContextVar[bool] = ContextVar("untracked", default=False)

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class TrackedMetric(NamedTuple):
    """A value of a metric at a step (an epoch)."""

    name: str
    value: float
    step: int


class TrackedDataset(NamedTuple):
    """A data set of a run.

    Attributes:
        name: Its name.
        digest: A hash of its content, at most 36 characters.
        source: The path of its file or folder.
        context: What it is for: ``training`` or ``validation``.
        profile: What is counted in it, by name.
    """

    name: str
    digest: str
    source: str
    context: str
    profile: dict[str, Any]


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
        id: Stands for the run, also in the file of a run that could not be sent.
        end_time: Milliseconds since 1970; None while the run goes on.
        is_offered_again: Whether some of it may already be in the store.
        tags: The tags by name, besides those that every run has.
        datasets: The data sets.
    """

    experiment: str
    name: str
    command: str
    start_time: int = field(default_factory=lambda: _now())
    status: Status = "RUNNING"
    metrics: list[TrackedMetric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    artifacts: list[TrackedFile] = field(default_factory=list)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    end_time: int | None = None
    is_offered_again: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[TrackedDataset] = field(default_factory=list)

    @property
    def run_name(self) -> str:
        """The name of the run: the command, the component, and what it works on, which sorts by command."""
        return " ".join(dict.fromkeys(filter(None, (self.command, self.tags.get(COMPONENT_TAG), self.name))))

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Log a value of metric ``name`` at ``step`` (an epoch). Values that are not finite are skipped."""
        if math.isfinite(value):
            self.metrics.append(TrackedMetric(_allowed_name(name), float(value), step))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings. Nested mappings get dotted names."""
        self.params.update((name, str(value)) for name, value in _flatten(params))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run: text to search and group runs by."""
        self.tags.update(tags)

    def log_dataset(self, dataset: TrackedDataset) -> None:
        """Log a data set that the run has read."""
        self.datasets.append(dataset)

    def log_artifacts(self, artifacts: Mapping[str, Iterable[Path]]) -> None:
        """Log files, given by the artifact folder that they go into."""
        self.artifacts += [TrackedFile(path, folder) for folder, paths in artifacts.items() for path in paths]


@contextmanager
def tracked_run(
    config: Config, name: str, command: str, *, component: str | None = None, deferred: bool = False
) -> Iterator[Tracker]:
    """Track the block as a run in the experiment ``config.experimentName``.

    The run has the status FAILED if the block raises an exception, and KILLED if it is interrupted. A run that cannot
    be written to MLflow, or not within 10 seconds (``PIXAL_TRACKING_TIMEOUT``), causes a warning, not an error. It is
    kept in ``mlflow_unsent/`` in the working directory, and offered again at the next run.

    Without ``MLFLOW_TRACKING_URI``, the store is an SQLite file (``mlflow.db``) with artifacts in ``mlruns/``, both in
    the working directory, where ``mlflow ui`` finds them. With ``PIXAL_TRACKING=off`` in the environment, nothing is
    written.

    Args:
        config: The settings; they name the experiment.
        name: Name of what the run works on, for example the image type.
        command: The command, for example ``train``. The run is called ``COMMAND COMPONENT NAME``.
        component: The component, which is a tag of the run, too. Default: that of the settings; "" for none.
        deferred: Whether another process may write the run, where ``defer_runs`` was called.

    Yields:
        The tracker, for metrics, settings and files.
    """
    tracker = Tracker(config.experimentName, name, command)
    if component := config.paths.component if component is None else component:
        tracker.set_tags({COMPONENT_TAG: component})
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
        tracker.end_time = _now()
        if is_tracking() and not _untracked.get():
            _store_or_keep(tracker, deferred=deferred)


@contextmanager
def untracked() -> Iterator[None]:
    """Do not write the runs of the block to MLflow: they are steps of one that is tracked itself."""
    token = _untracked.set(True)
    try:
        yield
    finally:
        _untracked.reset(token)


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


def defer_runs(start_sender: Callable[[], object]) -> None:
    """Let another process write deferred runs into the store of the working directory, when this one has ended.

    Args:
        start_sender: Starts a process that calls ``send_kept_runs``.
    """
    global _start_sender
    _start_sender = start_sender


def defers_runs() -> bool:
    """Whether deferred runs are written by another process."""
    return _start_sender is not None and _is_local()


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
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default, 7, delays a run by minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds; the default is 120
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is that of the command
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with suppress(Exception):  # store_run reports it
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def store_run(tracker: Tracker, stopped: threading.Event | None = None) -> None:
    """Write a run that has ended to MLflow.

    Args:
        tracker: The run. Files that do not exist cause a warning.
        stopped: Set when nobody waits any more; nothing is sent from then on.

    Raises:
        TimeoutError: ``stopped`` was set.
        Exception: What MLflow raises.
    """
    import_mlflow()
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    def check() -> None:
        if stopped is not None and stopped.is_set():
            raise TimeoutError("the time is over")

    local = _is_local()
    if local:
        make_local_store(Path(LOCAL_STORE))
    # An absolute path: MLflow caches open stores, and a relative path would mean the old one in another directory.
    client = MlflowClient(f"sqlite:///{Path(LOCAL_STORE).resolve().as_posix()}" if local else None)
    experiment_id = _experiment_id(client, tracker.experiment, local)
    check()
    run_id = _run_id(client, experiment_id, tracker)
    try:
        params = [Param(key, value[:_LONGEST_PARAM]) for key, value in tracker.params.items()]
        for start in range(0, len(params), _PARAMS_PER_REQUEST):
            check()
            client.log_batch(run_id, params=params[start : start + _PARAMS_PER_REQUEST])
        time_stamp = tracker.end_time or _now()
        metrics = [Metric(metric.name, metric.value, time_stamp, metric.step) for metric in tracker.metrics]
        for start in range(0, len(metrics), _METRICS_PER_REQUEST):
            check()
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_REQUEST])
        check()
        _log_datasets(client, run_id, tracker.datasets)
        for path, folder in tracker.artifacts:
            check()
            if path.is_file():
                client.log_artifact(run_id, str(path), folder)
            else:
                _log.warning("%s is not in MLflow: it does not exist", path)
    finally:
        check()
        client.set_terminated(run_id, tracker.status, tracker.end_time)


def _log_datasets(client: Any, run_id: str, datasets: Sequence[TrackedDataset]) -> None:
    """Write the data sets of a run, which MLflow shows with their digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            dataset=Dataset(
                name=dataset.name[:_LONGEST_NAME],
                digest=dataset.digest,
                source_type="local",
                source=json.dumps({"uri": dataset.source}),
                profile=json.dumps(dataset.profile),
            ),
            tags=[InputTag("mlflow.data.context", dataset.context)],
        )
        for dataset in datasets
    ]
    if inputs:
        client.log_inputs(run_id, inputs)


def send_kept_runs(*, wait: float) -> None:
    """Write the runs to MLflow that earlier runs have kept, after another process that does so has ended.

    Args:
        wait: How many seconds to wait for the other process.

    Raises:
        InputError: It has not ended.
    """
    key = _store_key()
    with unsent_runs.sending(wait=wait):
        _send_kept(key, threading.Event())


def _store_or_keep(tracker: Tracker, *, deferred: bool = False) -> None:
    """Write a run to MLflow, and then those that earlier runs could not write; keep what cannot be written in time."""
    key = _store_key()
    if deferred and _start_sender is not None and _is_local() and _can_be_sent_later(key):
        kept = ""
        try:
            kept = f" yet; it is kept in {_kept(tracker, key)}, and offered again at the next run"
            _start_sender()
        except Exception as error:
            _log.warning("the run is not in MLflow%s: %s", kept, " ".join(str(error).split())[:300])
        return
    import_mlflow()  # outside the time limit: it needs no server
    try:
        if key in _silent_stores:
            raise TimeoutError("the tracking server did not answer before")
        _within_time_limit(tracker, key)
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        _log.warning("the run is not in MLflow: %s%s", reason, _keep(tracker, key))


_silent_stores: set[str] = set()  # stores that did not answer in time; asked again by the next process


def _within_time_limit(tracker: Tracker, key: str) -> None:
    """Call ``store_run`` for a run and for the kept ones in another thread, and wait for a limited time.

    Raises:
        TimeoutError: The run was not written in time.
        Exception: What ``store_run`` raises for the run.
    """
    stopped, stored = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def work() -> None:
        try:
            store_run(tracker, stopped)
        except Exception as error:
            errors.append(error)
            return
        stored.set()
        with suppress(Exception), unsent_runs.sending():  # they stay where they are
            _send_kept(key, stopped)

    thread = threading.Thread(target=work, name="pixal-tracking", daemon=True)  # the process does not wait for it
    limit = _LOCAL_TIMEOUT if _is_local() else _timeout()
    thread.start()
    thread.join(limit)
    stopped.set()
    if errors:
        raise errors[0]
    if not stored.is_set():
        _silent_stores.add(key)
        raise TimeoutError(f"the tracking server did not answer within {limit:g} s")


def _timeout() -> float:
    """Seconds that a tracking server may take in all."""
    try:
        return max(0.1, float(os.environ.get(TIMEOUT, _TIMEOUT)))
    except ValueError:
        return _TIMEOUT


def _is_local() -> bool:
    return "MLFLOW_TRACKING_URI" not in os.environ


def _store_key() -> str:
    return unsent_runs.store_key(None if _is_local() else os.environ.get("MLFLOW_TRACKING_URI"))


def _can_be_sent_later(key: str) -> bool:
    """Whether there is no sign that a run that was left to another process could not be sent."""
    return unsent_runs.is_sending() or next(unsent_runs.kept_runs(key), None) is None


def _keep(tracker: Tracker, key: str) -> str:
    """Keep a run for a later one; return what to add to the warning."""
    try:
        return f"; it is kept in {_kept(tracker, key)}, and offered again at the next run"
    except Exception as error:
        return f"; it cannot be kept either: {' '.join(str(error).split())[:300]}"


def _kept(tracker: Tracker, key: str) -> Path:
    """Write a run into the file for unsent runs; return it."""
    files = [UnsentFile.of(path, folder) for path, folder in tracker.artifacts]
    run = UnsentRun(
        id=tracker.id,
        store=key,
        experiment=tracker.experiment,
        name=tracker.name,
        command=tracker.command,
        start_time=tracker.start_time,
        end_time=tracker.end_time or _now(),
        status=tracker.status,
        metrics=tuple(tracker.metrics),
        params=tracker.params,
        tags=tracker.tags,
        datasets=tuple(tracker.datasets),
        artifacts=tuple(file for file in files if file is not None),
    )
    return unsent_runs.keep(run)


def _send_kept(key: str, stopped: threading.Event) -> None:
    """Write the runs to MLflow that earlier runs have kept for this store.

    Files that have changed, or that PIXAL did not write, are left out.
    """
    for path, run in unsent_runs.kept_runs(key):
        tracker = Tracker(
            run.experiment,
            run.name,
            run.command,
            run.start_time,
            "FINISHED" if run.status == "FINISHED" else "KILLED" if run.status == "KILLED" else "FAILED",
            [TrackedMetric(*metric) for metric in run.metrics],
            run.params,
            [TrackedFile(file.path, file.folder) for file in run.artifacts if file.can_be_sent],
            run.id,
            run.end_time,
            is_offered_again=True,
            tags=run.tags,
            datasets=[TrackedDataset(*dataset) for dataset in run.datasets],
        )
        store_run(tracker, stopped)
        unsent_runs.discard(path)
        _log.info("an earlier run is now in MLflow: %s", tracker.run_name)


def _run_id(client: Any, experiment_id: str, tracker: Tracker) -> str:
    """Create the run, or find the one that an earlier attempt has created."""
    if tracker.is_offered_again:
        found = client.search_runs([experiment_id], f"tags.`{_ID_TAG}` = '{tracker.id}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
    run = client.create_run(
        experiment_id,
        start_time=tracker.start_time,
        run_name=tracker.run_name,
        tags={
            **{name: value[:_LONGEST_PARAM] for name, value in tracker.tags.items()},
            **{"pixal.command": tracker.command, _ID_TAG: tracker.id},
        },
    )
    return str(run.info.run_id)


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


def _allowed_name(name: str) -> str:
    """A metric's name as MLflow accepts it, on Windows too: a type may be called ``front (1)``."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_LONGEST_NAME]


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
    finite = ([value for value in values if math.isfinite(value)] for values in reaching)
    return [float(np.mean(values)) if values else math.nan for values in finite]
