"""Open a run, and pass what is logged on to its loggers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixal.config import Config
from pixal.tracking.environment import is_tracking
from pixal.tracking.loggers import RunLogger, check_loggers, logger_names, open_loggers
from pixal.tracking.run import (
    COMPONENT_TAG,
    TrackedDataset,
    TrackedFile,
    TrackedMetric,
    TrackedModel,
    TrackedRun,
    now,
)
from pixal.version import __version__

_LONGEST_NAME = 250  # characters; MLflow's limit

_untracked: ContextVar[bool] = ContextVar("untracked", default=False)
_defers = False


@dataclass
class Tracker(TrackedRun):
    """A run that passes what is logged on to its loggers, and keeps it.

    Attributes:
        loggers: Where the run is written.
    """

    loggers: list[RunLogger] = field(default_factory=list)

    def log_metric(self, name: str, value: float, step: int = 0, *, time: int | None = None) -> None:
        """Log a value of a metric. Values that are not finite are skipped.

        Args:
            name: The name of the metric.
            value: The value.
            step: The epoch.
            time: When it was measured, in milliseconds since 1970. Default: now.
        """
        if not math.isfinite(value):
            return
        metric = TrackedMetric(_allowed_name(name), float(value), step, now() if time is None else time)
        self.metrics.append(metric)
        for logger in self.loggers:
            logger.log_metrics([metric])

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log settings. Nested mappings get dotted names. A setting that was logged before keeps its value."""
        new = {name: str(value) for name, value in _flatten(params) if name not in self.params}
        self.params.update(new)
        for logger in self.loggers:
            logger.log_params(new)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run: text to search and group runs by."""
        self.tags.update(tags)
        for logger in self.loggers:
            logger.set_tags(tags)

    def log_dataset(self, dataset: TrackedDataset) -> None:
        """Log a data set that the run reads."""
        self.datasets.append(dataset)
        for logger in self.loggers:
            logger.log_dataset(dataset)

    def log_artifacts(self, artifacts: Mapping[str, Iterable[Path]]) -> None:
        """Log files, given by the artifact folder that they go into."""
        files = [TrackedFile(path, folder) for folder, paths in artifacts.items() for path in paths]
        self.artifacts += files
        for logger in self.loggers:
            logger.log_artifacts(files)

    def log_model(self, model: TrackedModel) -> None:
        """Log the stored model."""
        self.model = model
        for logger in self.loggers:
            logger.log_model(model)


@contextmanager
def tracked_run(
    config: Config,
    name: str,
    command: str,
    *,
    component: str | None = None,
    tags: Mapping[str, str] | None = None,
    deferred: bool = False,
) -> Iterator[Tracker]:
    """Track the block as a run in the experiment ``config.experimentName``, with all settings.

    The run has the status FAILED if the block raises an exception, and KILLED if it is interrupted. With
    ``PIXAL_TRACKING=off`` in the environment, nothing is written. What a logger cannot write is a warning.

    Args:
        config: The settings; they name the experiment and the loggers.
        name: Name of what the run works on, for example the image type.
        command: The command, for example ``train``. The run is called ``COMMAND COMPONENT NAME``.
        component: The component, which is a tag of the run, too. Default: that of the settings; "" for none.
        tags: Further tags.
        deferred: Whether nothing has to be written before the end of the run.

    Yields:
        The tracker, for metrics, settings, data sets, files and the model.

    Raises:
        ConfigError: The package of a logger is missing; the message holds the command that installs it.
    """
    tracker = Tracker(config.experimentName, name, command)
    component = config.paths.component if component is None else component
    tracker.tags |= {"pixal.command": command, "pixal.version": __version__}
    tracker.tags |= {COMPONENT_TAG: component} if component else {}
    tracker.tags |= tags or {}
    if is_tracking() and not _untracked.get():
        tracker.loggers = open_loggers(config.tracking, deferred=deferred and _defers)
    for logger in tracker.loggers:
        logger.start(tracker)
    tracker.log_params(config.parameters.model_dump())
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
        tracker.end_time = now()
        for logger in tracker.loggers:
            logger.end(tracker)


@contextmanager
def untracked() -> Iterator[None]:
    """Do not track the runs of the block: they are steps of one that is tracked itself."""
    token = _untracked.set(True)
    try:
        yield
    finally:
        _untracked.reset(token)


def defer_runs() -> None:
    """Allow deferred runs to be written after this process has ended."""
    global _defers
    _defers = True


def start_tracking(config: Config) -> None:
    """Start the process that sends runs in the background, because MLflow takes seconds to import.

    Raises:
        ConfigError: The package of a logger is missing; the message holds the command that installs it.
    """
    if not is_tracking() or _untracked.get():
        return
    check_loggers(config.tracking)
    if "mlflow" in logger_names(config.tracking):
        from pixal.tracking.sender import start_sender

        start_sender()


def _allowed_name(name: str) -> str:
    """A metric's name as MLflow accepts it, on Windows too: a type may be called ``front (1)``."""
    return re.sub(r"[^\w\-. /]", "_", name)[:_LONGEST_NAME]


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested mapping."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", inner
