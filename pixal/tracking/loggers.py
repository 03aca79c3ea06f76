"""The interface of loggers, and which ones the settings ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from pixal.config.schema import Tracking
from pixal.extras import require_extra

if TYPE_CHECKING:
    from pixal.tracking.run import TrackedDataset, TrackedFile, TrackedMetric, TrackedModel, TrackedRun


class RunLogger:
    """Writes a run somewhere as it goes on. A logger overrides what it can store; the rest does nothing.

    No method may take long: the work waits for it. What cannot be written is a warning of the logger, never an error.
    """

    def start(self, run: TrackedRun) -> None:
        """Open the run."""

    def log_metrics(self, metrics: Sequence[TrackedMetric]) -> None:
        """Log values of metrics."""

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log settings that were not logged before, by dotted name."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""

    def log_dataset(self, dataset: TrackedDataset) -> None:
        """Log a data set that the run reads."""

    def log_artifacts(self, files: Sequence[TrackedFile]) -> None:
        """Log files."""

    def log_model(self, model: TrackedModel) -> None:
        """Log the stored model."""

    def end(self, run: TrackedRun) -> None:
        """Close the run, whose ``status``, ``end_time`` and ``run_name`` are now final."""


_LOGGERS = {
    "mlflow": ("pixal.tracking.mlflow_logger", "MlflowLogger", "mlflow"),
    "csv": ("pixal.tracking.csv_logger", "CsvLogger", None),
    "tensorboard": ("pixal.tracking.tensorboard_logger", "TensorBoardLogger", "tensorboard"),
}
"""Module, class, and the package that it needs, by the name of the logger in the settings."""


def logger_names(settings: Tracking) -> list[str]:
    """The loggers that the settings ask for; ``auto``: MLflow where it is installed."""
    names: list[str] = []
    for name in settings.loggers:
        if name != "auto":
            names.append(name)
        elif find_spec("mlflow"):
            names.append("mlflow")
    return list(dict.fromkeys(names))


def check_loggers(settings: Tracking) -> None:
    """Check that the packages of the loggers are installed.

    Raises:
        ConfigError: One is missing; the message holds the command that installs it.
    """
    for name in logger_names(settings):
        package = _LOGGERS[name][2]
        if package is not None:
            require_extra(package, f"tracking.loggers: {name}")
    if settings.register:
        require_extra("mlflow", "tracking.register")


def open_loggers(settings: Tracking, *, deferred: bool) -> list[RunLogger]:
    """Make the loggers of a run.

    Args:
        settings: Which loggers.
        deferred: Whether nothing has to be written before the end of the run.

    Raises:
        ConfigError: A package is missing; the message holds the command that installs it.
    """
    check_loggers(settings)
    loggers: list[RunLogger] = []
    for name in logger_names(settings):
        module, class_name, _ = _LOGGERS[name]
        loggers.append(getattr(import_module(module), class_name).open(settings, deferred=deferred))
    return loggers
