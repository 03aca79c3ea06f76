"""Log runs to MLflow by way of another process: a slow or dead server costs the work nothing before its end."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from pixal.config.schema import Tracking
from pixal.tracking import waiting_runs
from pixal.tracking.environment import STORE, is_local, store_key
from pixal.tracking.loggers import RunLogger
from pixal.tracking.run import TrackedDataset, TrackedFile, TrackedMetric, TrackedModel, TrackedRun
from pixal.tracking.sender import Report, Sender, send_later, start_sender
from pixal.tracking.waiting_runs import RunEnd, RunFile, RunStart, UnsentFile

_log = logging.getLogger(__name__)

_said: set[str] = set()  # experiments whose address the user has seen


class MlflowLogger(RunLogger):
    """Writes a run into a file, which a process of low priority sends to MLflow while the run goes on.

    At the end the logger waits for that process, for a limited time. A run that was not sent then is kept in
    ``mlflow_unsent/`` in the working directory, and offered again at the next run. A deferred run is sent later.
    """

    def __init__(self, *, register: bool, deferred: bool) -> None:
        """See ``open``."""
        self._register, self._deferred = register, deferred
        self._sender: Sender | None = None
        self._held = ExitStack()  # until the run is sent, or may be sent by another process
        self._file: RunFile | None = None

    @classmethod
    def open(cls, settings: Tracking, *, deferred: bool) -> MlflowLogger:
        """Make the logger of a run.

        Args:
            settings: Whether to register the model.
            deferred: Whether the run may be sent after this process has ended. A run to a server is not, so that the
                user hears of a server that does not answer.
        """
        return cls(register=settings.register, deferred=deferred and is_local() and _can_be_sent_later())

    def start(self, run: TrackedRun) -> None:
        """Open the run, and let it be followed."""
        try:
            # Another process must not send the run before the one that is started here does.
            self._held.enter_context(waiting_runs.following(run.id))
            if self._deferred:
                session = run.id
            else:
                self._sender = start_sender()
                session = self._sender.session
            start = RunStart(
                id=run.id,
                store=store_key(),
                session=session,
                experiment=run.experiment,
                name=run.run_name,
                command=run.command,
                start_time=run.start_time,
                register_model=self._register,
            )
            self._file = RunFile(start)
            self._add(tags=run.tags)
        except Exception as error:
            self._fail(error)

    def log_metrics(self, metrics: Sequence[TrackedMetric]) -> None:
        """See ``RunLogger``."""
        self._add(metrics=metrics)

    def log_params(self, params: Mapping[str, str]) -> None:
        """See ``RunLogger``."""
        self._add(params=params)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """See ``RunLogger``."""
        self._add(tags=tags)

    def log_dataset(self, dataset: TrackedDataset) -> None:
        """See ``RunLogger``."""
        self._add(dataset=dataset)

    def log_artifacts(self, files: Sequence[TrackedFile]) -> None:
        """Log files. Those that do not exist cause a warning."""
        for path, folder in files:
            file = UnsentFile.of(path, folder)
            if file is None:
                _log.warning("%s is not in MLflow: it does not exist", path)
            else:
                self._add(file=file.model_dump())

    def log_model(self, model: TrackedModel) -> None:
        """See ``RunLogger``."""
        self._add(model=model._replace(record_file=model.record_file.absolute(), folder=model.folder.absolute()))

    def end(self, run: TrackedRun) -> None:
        """Close the run, and wait until it is sent, for a limited time in all runs of this process."""
        assert run.end_time is not None
        self._add(end=RunEnd(status=run.status, time=run.end_time, name=run.run_name).model_dump())
        with self._held:
            self._end(run)

    def _end(self, run: TrackedRun) -> None:
        if self._file is None:
            return
        self._file.close()
        path = self._file.path
        kept = f"it is kept in {path.relative_to(path.parents[1])}, and offered again at the next run"
        try:
            if self._sender is None:
                self._held.close()
                send_later()
                return
            if self._sender.has_ended:  # there was nothing to send for some time, or it was killed
                self._sender = start_sender()
            report = self._sender.wait_for(run.id)
        except Exception as error:
            report = Report(_one_line(error))
        if report.problem:
            _log.warning("the run is not in MLflow: %s; %s", report.problem, kept)
        else:
            _say_where(report.experiment)

    def _add(self, **values: Any) -> None:
        if self._file is None:
            return
        try:
            self._file.add(**values)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Warn once, and log no more of the run."""
        _log.warning("the run is not in MLflow: it cannot be written to %s: %s", waiting_runs.FOLDER, _one_line(error))
        if self._file is not None:
            with suppress(OSError):
                self._file.discard()
        self._file = None


def _say_where(experiment: str) -> None:
    """Log the address of the runs once. With it MLflow's page shows runs, and not traces of language models."""
    address = os.environ.get(STORE, "http://127.0.0.1:5000")
    if not address.startswith("http") or experiment in _said:
        return
    _said.add(experiment)
    server = re.sub("//[^/]*@", "//", address).rstrip("/")  # without a password
    start = "start mlflow ui in this folder, and open " if is_local() else ""
    _log.info("runs: %s%s/#/experiments/%s/runs?workflowType=machine_learning", start, server, experiment)


def _can_be_sent_later() -> bool:
    """Whether there is no sign that a run that was left to another process could not be sent."""
    return waiting_runs.is_sending() or next(waiting_runs.kept_runs(store_key()), None) is None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
