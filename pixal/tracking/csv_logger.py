"""Log runs as tables, which any program reads: one folder per run, without a server and without another package."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import IO

from pixal.config.schema import Tracking
from pixal.io.records import write_record
from pixal.tracking.loggers import RunLogger
from pixal.tracking.run import TrackedMetric, TrackedRun
from pixal.tracking.run_folder import run_folder

METRICS_FILE, RUN_FILE = "metrics.csv", "run.yaml"
METRIC_COLUMNS = ("time", "metric", "step", "value")

_log = logging.getLogger(__name__)


class CsvLogger(RunLogger):
    """Writes ``metrics.csv`` as the run goes on, and everything else into ``run.yaml`` at its end."""

    @classmethod
    def open(cls, settings: Tracking, *, deferred: bool) -> CsvLogger:
        """See ``open_loggers``."""
        return cls()

    def start(self, run: TrackedRun) -> None:
        """Create the folder and the table."""
        self._file: IO[str] | None = None
        try:
            self._folder = run_folder(run)
            self._file = (self._folder / METRICS_FILE).open("x", newline="", encoding="utf-8", buffering=1)
            self._table = csv.writer(self._file)
            self._table.writerow(METRIC_COLUMNS)
        except OSError as error:
            self._fail(error)

    def log_metrics(self, metrics: Sequence[TrackedMetric]) -> None:
        """Append rows, which can be read at once."""
        if self._file is None:
            return
        try:
            self._table.writerows([_time(row.time), row.name, row.step, row.value] for row in metrics)
        except OSError as error:
            self._fail(error)

    def end(self, run: TrackedRun) -> None:
        """Write ``run.yaml``."""
        if self._file is None:
            return
        content = {
            "name": run.run_name,
            "experiment": run.experiment,
            "status": run.status,
            "start": _time(run.start_time),
            "end": None if run.end_time is None else _time(run.end_time),
            "tags": run.tags,
            "datasets": [dataset._asdict() for dataset in run.datasets],
            "files": [str(file.path) for file in run.artifacts],
            "params": run.params,
        }
        try:
            self._file.close()
            write_record(self._folder / RUN_FILE, content)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Warn once, and log no more of the run."""
        self._file = None
        _log.warning("the run is not in %s: %s", METRICS_FILE, error)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).isoformat(timespec="milliseconds")
