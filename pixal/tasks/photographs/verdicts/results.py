"""The results of a batch: tables, ``results.json``, the report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixal.io.files import write_bytes
from pixal.io.provenance import provenance
from pixal.io.records import write_table
from pixal.outcome import Failure
from pixal.tasks.photographs.training.stored import TrainedModel

if TYPE_CHECKING:
    from pixal.report.render import PictureOf

RESULT_COLUMNS = (
    *("type", "image", "score", "p_value", "threshold", "verdict"),
    *("regions", "x", "y", "width", "height", "area_px", "reason"),
)
METRICS_FILE = "metrics.json"
RESULT_FILES = ("results.csv", "results.json", "report.html", METRICS_FILE)
SCHEMA_VERSION = 1


@dataclass
class Batch:
    """The verdicts on a batch.

    parts: a dict a part, as in ``results.json``; drift: the level of the tests, and the findings, as there; metrics:
    with truth, else None. seconds_a_part: how long each of those took that ``validate`` judged now; None: none was.
    """

    folder: Path
    parts: list[dict[str, Any]] = field(default_factory=list)
    drift: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] | None = None
    failures: list[Failure] = field(default_factory=list)
    seconds_a_part: float | None = None

    @property
    def failed(self) -> int:
        """How many parts failed."""
        return sum(part["verdict"] == "fail" for part in self.parts)

    @property
    def all_failed(self) -> bool:
        """Whether no part could be processed."""
        return bool(self.failures) and len(self.failures) == len(self.parts)

    def summary(self) -> str:
        """What drifted, a table of verdicts, the measures where there is truth, and where the report lies."""
        found = self.drift.get("findings", ())
        lines = [f"drift  {one['type']:<12} {one['message']}, p = {one['p_value']:.1g}" for one in found]
        lines += [""] if found else []
        lines += [f"{'type':<12} {'part':<20} {'score':>8} {'threshold':>9}  verdict  regions"]
        for part in self.parts:
            score = "" if part["score"] is None else f"{part['score']:.2f}"
            limit = "" if part["threshold"] is None else f"{part['threshold']:.2f}"
            truth = part.get("truth")
            known = "" if truth is None else f"  (truth: {truth['kind'] or ('good', 'defective')[truth['label']]})"
            lines.append(
                f"{part['type']:<12} {part['image']:<20} {score:>8} {limit:>9}  {part['verdict']:<7}  "
                f"{len(part['regions']):>7}{known}"
            )
        if self.metrics:
            lines.append("")
            for name, measures in (*self.metrics["types"].items(), ("overall", self.metrics["overall"])):
                shown = [
                    f"{key} {measures[key]:.3f}"
                    for key in ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "aupro", "aupimo")
                    if measures.get(key) is not None
                ]
                lines.append(f"{name:<12} {', '.join(shown)}")
        lines += ["", f"report: {self.folder / 'report.html'}"]
        return "\n".join(lines)


def write_results(
    batch: Batch,
    tables: dict[str, Any],
    notes: list[str],
    model: TrainedModel,
    component: str,
    picture: PictureOf,
    judged_by: str | None = None,
) -> list[Path]:
    """Write ``results.csv``, ``results.json``, ``report.html``, and with measures ``metrics.json``; return them.

    ``tables``: what each type is judged by. ``notes``: what a reader should know first. ``picture``: gives a part's
    photograph and the same with its anomalies, or None. ``judged_by``: the type whose model judged all, in place of
    each type's own.
    """
    rows = []
    for part in batch.parts:
        worst = part["regions"][0] if part["regions"] else {}
        box = {key: worst.get(key) for key in ("x", "y", "width", "height", "area_px")}
        rows.append(part | box | {"regions": len(part["regions"])})
    write_table(batch.folder / "results.csv", RESULT_COLUMNS, rows)
    made = provenance()
    results = {
        "schema_version": SCHEMA_VERSION,
        "component": component,
        "created": made["created"],
        "pixal_version": made["pixal_version"],
        "model": {
            "family": model.params["model"],
            "name": model.params["model_name"],
            "trained": model.params["created"],
            "good images": model.params["n_images"],
            **({} if judged_by is None else {"type": judged_by}),
        },
        "drift": batch.drift,
        "notes": notes,
        "types": tables,
        "metrics": batch.metrics,
        "parts": batch.parts,
    }
    _write_json(batch.folder / "results.json", results)
    from pixal.report import write_report

    write_report(batch.folder / "report.html", results, picture)
    written = [batch.folder / name for name in ("results.csv", "results.json", "report.html")]
    if batch.metrics is None:
        (batch.folder / METRICS_FILE).unlink(missing_ok=True)
        return written
    _write_json(batch.folder / METRICS_FILE, batch.metrics)
    return [*written, batch.folder / METRICS_FILE]


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
