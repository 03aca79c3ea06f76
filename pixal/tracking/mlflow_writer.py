"""Write tracked runs into an MLflow store. Only the process that sends runs does so: MLflow takes seconds to import."""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixal.registry import TASKS
from pixal.tracking.environment import is_local
from pixal.tracking.mlflow_store import LOCAL_ARTIFACTS, LOCAL_STORE, make_local_store
from pixal.tracking.run import MODEL_TAG, TrackedDataset, TrackedModel
from pixal.tracking.waiting_runs import Entry, RunEnd, RunStart, UnsentFile

# MLflow accepts at most 1000 metrics and 100 parameters per request.
_METRICS_PER_REQUEST = 500
_PARAMS_PER_REQUEST = 100
_ID_TAG = "pixal.run"
_TRAINING_TAG = "pixal.training_run"  # with .TYPE: the id of the run that trained the model of a batch
_LONGEST_NAME = 250  # characters; MLflow's limit
_LONGEST_PARAM = 6000  # characters; MLflow's limit, also below that of tags


def set_up_mlflow() -> None:
    """Set MLflow up, before its import: few retries, no output, and no network but that of the store."""
    # PIXAL needs neither Git nor usage statistics, and telemetry needs a network that may be missing.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the default, 7, delays a run by minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds; the default is 120
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)


class RunWriter:
    """Writes one run into the store, piece by piece.

    Attributes:
        experiment_id: The id of its experiment; "" until it is known.
    """

    def __init__(self, start: RunStart, *, trusted: bool) -> None:
        """Prepare to write.

        Args:
            start: The run.
            trusted: Whether the run comes from the process that this one works for. Of a run that was kept, only files
                that PIXAL wrote are sent.
        """
        self._start, self._trusted = start, trusted
        self._client: Any = None
        self.experiment_id = self._run_id = ""
        self._tags: dict[str, str] = {}

    def write(self, entries: deque[Entry]) -> None:
        """Write entries in their order, and remove those that are written.

        Raises:
            Exception: What MLflow raises. The same entries can be written again.
        """
        if not self._run_id:
            self._open()
        while entries:
            done = 1
            if entries[0].metrics:
                done = next((n for n, entry in enumerate(entries) if not entry.metrics), len(entries))
                self._log_metrics([metric for entry in list(entries)[:done] for metric in entry.metrics])
            else:
                self._write(entries[0])
            for _ in range(done):
                entries.popleft()

    def _open(self) -> None:
        """Create the run, or find the one that an earlier attempt has created."""
        set_up_mlflow()
        self._client = _open_client()
        self.experiment_id = _find_experiment(self._client, self._start.experiment)
        search = f"tags.`{_ID_TAG}` = '{self._start.id}'"
        if found := self._client.search_runs([self.experiment_id], search, max_results=1):
            self._run_id = str(found[0].info.run_id)
            return
        tags = {
            _ID_TAG: self._start.id,
            "mlflow.source.name": f"pixal {self._start.command}",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
        }
        run = self._client.create_run(
            self.experiment_id, start_time=self._start.start_time, run_name=self._start.name, tags=tags
        )
        self._run_id = str(run.info.run_id)

    def _write(self, entry: Entry) -> None:
        if entry.params:
            self._log_params(entry.params)
        if entry.tags:
            self._set_tags(entry.tags)
        if entry.dataset is not None:
            _log_dataset(self._client, self._run_id, entry.dataset)
        if entry.file is not None:
            self._log_file(entry.file)
        if entry.model is not None:
            self._log_model(entry.model)
        if entry.end is not None:
            self._end(entry.end)

    def _log_metrics(self, metrics: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        found = [Metric(name, value, time, step) for name, value, step, time in metrics]
        for start in range(0, len(found), _METRICS_PER_REQUEST):
            self._client.log_batch(self._run_id, metrics=found[start : start + _METRICS_PER_REQUEST])

    def _log_params(self, params: dict[str, str]) -> None:
        from mlflow.entities import Param

        found = [Param(key[:_LONGEST_NAME], value[:_LONGEST_PARAM]) for key, value in params.items()]
        for start in range(0, len(found), _PARAMS_PER_REQUEST):
            self._client.log_batch(self._run_id, params=found[start : start + _PARAMS_PER_REQUEST])

    def _set_tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self._tags |= tags
        found = [RunTag(key[:_LONGEST_NAME], value[:_LONGEST_PARAM]) for key, value in tags.items()]
        self._client.log_batch(self._run_id, tags=found)

    def _log_file(self, file: UnsentFile) -> None:
        if file.is_unchanged and (self._trusted or file.is_of_pixal):
            self._client.log_artifact(self._run_id, str(file.path), file.folder)

    def _log_model(self, model: TrackedModel) -> None:
        """Log the model through its task, which defines how its models are applied."""
        if model.task not in TASKS.class_paths():  # a kept run, of a package that is no longer installed
            return
        task = TASKS.load(model.task)()
        task.log_model(
            self._client,
            self._run_id,
            model,
            self._tags,
            register=self._start.register_model,
            trusted=self._trusted,
        )

    def _end(self, end: RunEnd) -> None:
        _link_to_training(self._client, self._run_id, self.experiment_id, self._tags)
        if end.name != self._start.name:
            self._client.update_run(self._run_id, name=end.name)
        self._client.set_terminated(self._run_id, end.status, end.time)


def _open_client() -> Any:
    """Open the store of the environment, or that of the working directory, which is made if there is none."""
    from mlflow import MlflowClient

    if not is_local():
        return MlflowClient()
    make_local_store(Path(LOCAL_STORE))
    # An absolute path: MLflow caches open stores, and a relative path would mean the old one in another directory.
    return MlflowClient(f"sqlite:///{Path(LOCAL_STORE).resolve().as_posix()}")


def _find_experiment(client: Any, name: str) -> str:
    """Id of an experiment, which is created if it does not exist."""
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    artifacts = Path(LOCAL_ARTIFACTS).resolve().as_uri() if is_local() else None
    experiment_id = str(client.create_experiment(name, artifact_location=artifacts))
    # With this tag MLflow's page shows training runs and metrics first, not language models.
    client.set_experiment_tag(experiment_id, "mlflow.experimentKind", "custom_model_development")
    return experiment_id


def _log_dataset(client: Any, run_id: str, dataset: TrackedDataset) -> None:
    """Write a data set of a run, which MLflow shows with its digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    found = DatasetInput(
        dataset=Dataset(
            name=dataset.name[:_LONGEST_NAME],
            digest=dataset.digest,
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps(dataset.profile),
        ),
        tags=[InputTag("mlflow.data.context", dataset.context)],
    )
    client.log_inputs(run_id, [found])


def _link_to_training(client: Any, run_id: str, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Link a run that used models to the runs that trained them, as far as they are in the experiment."""
    from mlflow.entities import LoggedModelInput, RunTag

    start = f"{MODEL_TAG}."
    for tag, fingerprint in tags.items():
        if not tag.startswith(start) or not re.fullmatch(r"\w+", fingerprint):
            continue
        search = f"tags.`{MODEL_TAG}` = '{fingerprint}'"
        found = client.search_runs([experiment_id], search, max_results=1, order_by=["attributes.start_time DESC"])
        for run in found:
            client.log_batch(run_id, tags=[RunTag(f"{_TRAINING_TAG}.{tag.removeprefix(start)}", run.info.run_id)])
            models = [LoggedModelInput(output.model_id) for output in run.outputs.model_outputs]
            if models:
                client.log_inputs(run_id, models=models)


def _user() -> str:
    """The user, as MLflow shows it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for the user
        return "unknown"
