"""The results of a batch, and the files that are written from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixal.io import ownership
from pixal.io.files import write_bytes
from pixal.io.records import write_table
from pixal.outcome import Failure, Tabular, verdict_counts
from pixal.report.document import BatchOrigin, DriftSummary, MetricsDocument, PartResult, PartVerdict, ResultsDocument
from pixal.report.images import PartImages

RESULT_COLUMNS = (
    *("type", "image", "score", "p_value", "threshold", "verdict"),
    *("regions", "x", "y", "width", "height", "area_px", "reason"),
)
PART_COLUMNS = ("part", "verdict", "p_value", "views", "failed", "missing")
METRICS_FILE, PARTS_FILE = "metrics.json", "parts.csv"
RESULT_FILES = ("results.csv", "results.json", "report.html", METRICS_FILE, PARTS_FILE)
_FILES_TO_OPEN = ("report.html", "results.csv", PARTS_FILE, "results.json", METRICS_FILE)
_SHOWN_MEASURES = ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "aupro", "aupro_near_part", "aupimo")


@dataclass(frozen=True)
class Batch(Tabular):
    """The verdicts on a batch of photographs.

    Attributes:
        folder: The folder of the results.
        origin: Its name, the folder of its photographs, and when it began; None if there is no result yet.
        parts: One result per part.
        failures: The photographs that could not be processed.
        drift: How the batch differs from training; None if nothing was validated.
        metrics: The measures against the truth; None without truth.
        seconds_per_part: Mean time of a part that this run validated; None if all verdicts were stored before.
    """

    folder: Path
    origin: BatchOrigin | None = None
    parts: tuple[PartResult, ...] = ()
    failures: tuple[Failure, ...] = ()
    drift: DriftSummary | None = None
    metrics: MetricsDocument | None = None
    seconds_per_part: float | None = None

    @property
    def failed(self) -> int:
        """The number of parts with verdict "fail"."""
        return sum(part.verdict == "fail" for part in self.parts)

    @property
    def all_failed(self) -> bool:
        """Whether no part could be processed."""
        return bool(self.failures) and len(self.failures) == len(self.parts)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of ``results.csv``."""
        return RESULT_COLUMNS

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of ``results.csv``, one per part."""
        return [table_row(part) for part in self.parts]

    @property
    def headline(self) -> str:
        """Number of photographs by verdict."""
        return verdict_counts(len(self.parts), self.failed, len(self.failures))

    @property
    def written(self) -> tuple[Path, ...]:
        """The report and the tables, as far as they exist."""
        return tuple(path for name in _FILES_TO_OPEN if (path := self.folder / name).is_file())

    def summary(self) -> str:
        """The results as text: drift, a table of verdicts, measures, and the path of the report."""
        lines = []
        if self.drift is not None and self.drift.findings:
            for finding in self.drift.findings:
                lines.append(f"drift  {finding.type:<12} {finding.message}, p = {finding.p_value:.1g}")
            lines.append("")
        lines.append(f"{'type':<12} {'part':<20} {'score':>8} {'threshold':>9}  verdict  regions")
        lines += map(_summary_line, self.parts)
        if self.metrics is not None:
            lines.append("")
            for name, measures in (*self.metrics.types.items(), ("overall", self.metrics.overall)):
                values = {key: measures.get(key) for key in _SHOWN_MEASURES}
                shown = [f"{key} {value:.3f}" for key, value in values.items() if isinstance(value, float | int)]
                lines.append(f"{name:<12} {', '.join(shown)}")
        lines += ["", f"report: {self.folder / 'report.html'}"]
        return "\n".join(lines)


def write_result_files(
    folder: Path, results: ResultsDocument, images_of: Callable[[PartResult], PartImages | None]
) -> list[Path]:
    """Write ``results.csv``, ``results.json`` and ``report.html``; ``metrics.json`` and ``parts.csv`` if they apply.

    Args:
        folder: Where the files go.
        results: The results document.
        images_of: Gives the report's image files of a part; None if there are none.

    Returns:
        The files.
    """
    from pixal.report import write_report

    write_table(folder / "results.csv", RESULT_COLUMNS, map(table_row, results.parts))
    _write_json(folder / "results.json", results.as_json())
    write_report(folder / "report.html", results, images_of)
    written = [folder / name for name in ("results.csv", "results.json", "report.html")]
    if results.part_verdicts:
        write_table(folder / PARTS_FILE, PART_COLUMNS, map(_part_row, results.part_verdicts))
        written.append(folder / PARTS_FILE)
    else:
        ownership.remove(folder / PARTS_FILE)
    if results.metrics is None:
        ownership.remove(folder / METRICS_FILE)
        return written
    _write_json(folder / METRICS_FILE, results.metrics.model_dump(mode="json"))
    return [*written, folder / METRICS_FILE]


def table_row(part: PartResult) -> dict[str, Any]:
    """A row of ``results.csv``; x, y, width, height and area_px are those of the worst region."""
    worst = part.regions[0] if part.regions else None
    return {
        "type": part.type,
        "image": part.image,
        "score": part.score,
        "p_value": part.p_value,
        "threshold": part.threshold,
        "verdict": part.verdict,
        "regions": len(part.regions),
        "x": worst and worst.x,
        "y": worst and worst.y,
        "width": worst and worst.width,
        "height": worst and worst.height,
        "area_px": worst and worst.area_px,
        "reason": part.reason,
    }


def _part_row(part: PartVerdict) -> dict[str, Any]:
    """A row of ``parts.csv``; names of types are joined by ``+``."""
    return {
        "part": part.part,
        "verdict": part.verdict,
        "p_value": part.p_value,
        "views": sum(map(len, part.views.values())),
        "failed": "+".join(part.failed),
        "missing": "+".join(part.missing),
    }


def _summary_line(part: PartResult) -> str:
    score = "" if part.score is None else f"{part.score:.2f}"
    threshold = "" if part.threshold is None else f"{part.threshold:.2f}"
    truth = ""
    if part.truth is not None:
        truth = f"  (truth: {part.truth.kind or ('good', 'defective')[part.truth.label]})"
    return (
        f"{part.type:<12} {part.image:<20} {score:>8} {threshold:>9}  {part.verdict:<7}  {len(part.regions):>7}{truth}"
    )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
