"""The results of ``pixal validate`` for charge clusters: ``results.parquet``, and what is said of them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.io.files import atomic_write
from pixal.outcome import Failure, Tabular
from pixal.tasks.charge_clusters import TARGETS
from pixal.tasks.charge_clusters.measures.summary import COVERAGES
from pixal.tasks.charge_clusters.prediction import Predictions

RESULTS_FILE, METRICS_FILE, REPORT_FILE = "results.parquet", "metrics.json", "report.html"
PREDICTIONS_FILE = "predictions.parquet"

_MEASURES = ("residual_width", "pull_width", "interval_coverage_68", "interval_coverage_95")
_PAIRS = [(row, column) for row in range(len(TARGETS)) for column in range(row)]


@dataclass(kw_only=True)
class _EventResults(Tabular):
    """What all results of charge clusters hold.

    Attributes:
        folder: The folder of the results.
        events: Number of events.
        unusual: Number of events that were flagged as unusual.
        failures: What was left out, and why.
        failed: 0: there are no verdicts.
    """

    folder: Path
    events: int
    unusual: int
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0

    @property
    def all_failed(self) -> bool:
        """Whether no event could be processed."""
        return not self.events


@dataclass(kw_only=True)
class ClusterResults(_EventResults):
    """What ``pixal.validate`` returns for charge clusters.

    Attributes:
        metrics: The content of ``metrics.json``.
    """

    metrics: dict[str, Any]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return ("target", *_MEASURES)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The measures of the network, one row per target."""
        return [
            {"target": name} | {measure: _value(values, measure) for measure in _MEASURES}
            for name, values in self.metrics["network"]["targets"].items()
        ]

    @property
    def headline(self) -> str:
        """How many events there are."""
        return f"{self.events} events, {self.unusual} unusual"

    @property
    def written(self) -> tuple[Path, ...]:
        """The report and the tables, as far as they exist."""
        return tuple(
            path for name in (REPORT_FILE, RESULTS_FILE, METRICS_FILE) if (path := self.folder / name).is_file()
        )

    def summary(self) -> str:
        """A table of the widths, and the path of the results."""
        lines = [f"{'target':<10} {'residual width':>14} {'pull width':>11} {'68 %':>7} {'95 %':>7}"]
        for row in self.rows:
            widths = f"{row['residual_width']:>14.4g} {row['pull_width']:>11.3f}"
            lines.append(
                f"{row['target']:<10} {widths} {row['interval_coverage_68']:>7.3f} {row['interval_coverage_95']:>7.3f}"
            )
        return "\n".join([*lines, "", self.headline, f"report: {self.folder / REPORT_FILE}"])


@dataclass(kw_only=True)
class ClusterPredictions(_EventResults):
    """What ``pixal.detect`` returns for charge clusters."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return ("events", "unusual")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row: how many events there are."""
        return [{"events": self.events, "unusual": self.unusual}]

    @property
    def headline(self) -> str:
        """How many events there are."""
        return f"{self.events} events predicted, {self.unusual} unusual"

    @property
    def written(self) -> tuple[Path, ...]:
        """The table of all events."""
        return (self.folder / PREDICTIONS_FILE,)

    def summary(self) -> str:
        """How many events there are, and the path of the table."""
        return f"{self.headline}\npredictions: {self.folder / PREDICTIONS_FILE}"


class ResultsWriter:
    """Writes ``results.parquet``, one row per event, some rows at a time. Use as a context manager."""

    def __init__(self, path: Path, unusual_rate: float) -> None:
        self.events = self.unusual = 0
        self._path, self._rate = path, unusual_rate
        self._stack = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> ResultsWriter:
        self._temporary = self._stack.enter_context(atomic_write(self._path))
        return self

    def __exit__(self, *details: Any) -> None:
        self._stack.__exit__(*details)

    def add(self, predictions: Predictions) -> None:
        """Write the rows of some events."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(table_columns(predictions, self._rate))
        if self._writer is None:
            self._writer = self._stack.enter_context(pq.ParquetWriter(self._temporary, table.schema))
        self._writer.write_table(table)
        self.events += len(predictions.events)
        self.unusual += int((predictions.p_value <= self._rate).sum())


def table_columns(predictions: Predictions, unusual_rate: float) -> dict[str, Any]:
    """The columns of ``results.parquet`` for some events.

    For each target: ``NAME_true``, ``NAME_predicted``, ``NAME_sigma``, ``NAME_pull``, and the half widths of the
    calibrated intervals ``NAME_half_68`` and ``NAME_half_95``; for each pair of targets ``covariance_FIRST_SECOND``.
    Without labels there are no ``NAME_true`` and ``NAME_pull``.
    """
    events = predictions.events
    columns: dict[str, Any] = {"file": [predictions.file] * len(events), "row": events.rows}
    residual, sigma = predictions.residual, predictions.sigma
    labelled = bool(np.isfinite(events.labels).all())  # events with a label that is not finite are not read
    for index, name in enumerate(TARGETS):
        if labelled:
            columns[f"{name}_true"] = _single(events.labels[:, index])
        columns[f"{name}_predicted"] = _single(predictions.mean[:, index])
        columns[f"{name}_sigma"] = _single(sigma[:, index])
        if labelled:
            columns[f"{name}_pull"] = _single(residual[:, index] / sigma[:, index])
        for level, half in zip(COVERAGES, predictions.half_widths, strict=True):
            columns[f"{name}_half_{level * 100:.0f}"] = _single(half[:, index])
    for row, column in _PAIRS:
        columns[f"covariance_{TARGETS[column]}_{TARGETS[row]}"] = _single(predictions.covariance[:, row, column])
    return columns | {
        "charge": _single(predictions.charge),
        "size": predictions.size.astype(np.int32),
        "p_value": _single(predictions.p_value),
        "unusual": predictions.p_value <= unusual_rate,
    }


def _single(values: NDArray[Any]) -> NDArray[np.float32]:
    return values.astype(np.float32)


def _value(values: dict[str, Any], name: str) -> float:
    value = values.get(name)
    value = value.get("value") if isinstance(value, dict) else value
    return float("nan") if value is None else float(value)
