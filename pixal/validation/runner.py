"""The validate and detect commands: from photographs, or from inputs made of them, to verdicts."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal import mlflow_utils
from pixal.config import Config, as_config
from pixal.errors import InputError, ModelError
from pixal.execution import map_parallel, progress
from pixal.images import as_uint8, list_photographs, read_image, write_bytes
from pixal.inputs import InputSet
from pixal.outcome import Failure
from pixal.preprocessing.pipeline import PREPROCESSING_RECORD
from pixal.records import file_hash, provenance, read_record, run_log, write_table
from pixal.train_model.model_folder import TrainedModel, load_trained, state_file, trained_types
from pixal.validation import pictures
from pixal.validation.metrics import PixelCounts, Truth, all_measures, read_truth
from pixal.validation.preparation import choose_types, prepare
from pixal.validation.scoring import Scored, Summary, choose_cut, score_parts

_log = logging.getLogger(__name__)

RESULT_COLUMNS = (
    *("type", "image", "score", "p_value", "threshold", "verdict"),
    *("regions", "x", "y", "width", "height", "area_px", "reason"),
)
SCHEMA_VERSION = 1


@dataclass
class Batch:
    """The verdicts on a batch. parts: a dict a part, as in ``results.json``; metrics: with truth, else None."""

    folder: Path
    parts: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] | None = None
    failures: list[Failure] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many parts failed."""
        return sum(part["verdict"] == "fail" for part in self.parts)

    def summary(self) -> str:
        """A table of verdicts, the measures where there is truth, and where the report lies."""
        lines = [f"{'type':<12} {'part':<20} {'score':>8} {'threshold':>9}  verdict  regions"]
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
                    for key in ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "aupro")
                    if measures.get(key) is not None
                ]
                lines.append(f"{name:<12} {', '.join(shown)}")
        lines += ["", f"report: {self.folder / 'report.html'}"]
        return "\n".join(lines)


def validate(
    input_path: str | Path,
    *,
    truth: str | Path | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Batch:
    """Give every photograph below ``input_path`` a verdict, with the models that ``train`` wrote.

    ``truth``: folder of ``labels.csv`` and masks to measure against. Writes the tables, figures, maps and the report
    below ``validate/COMPONENT``. Raises InputError for input that cannot be used, ModelError for a model that is
    missing or does not match.
    """
    config = as_config(config)
    photographs = list_photographs(input_path)
    known = trained_types(config)
    one_hot = config.model_training.one_hot_encoding
    models: dict[str | None, TrainedModel] = {}
    if one_hot:
        models[None] = load_trained(config, None)
        if set(photographs) - set(known) and len(photographs) == 1:
            mixed = next(iter(photographs.values()))
            photographs = choose_types(mixed, models[None], config, quiet)
    unknown = [name for name in photographs if name not in known]
    if unknown:
        trained = f"trained: {', '.join(known)}" if known else "nothing is trained yet; run train first"
        raise ModelError(f"type {unknown[0]} was never trained ({trained})")
    if truth is not None:
        read_truth(Path(truth), list(photographs))  # a truth that cannot be used is known before the work, not after
    if not one_hot:
        models |= {name: load_trained(config, name) for name in photographs}
    _clear(config)
    for name, photos in photographs.items():
        prepare(name, photos, models[None if one_hot else name], config, quiet)
    return _give_verdicts(list(photographs), models, truth, config, quiet)


def detect(
    input_path: str | Path | None = None,
    *,
    truth: str | Path | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Batch:
    """Give new verdicts on inputs that ``validate`` has prepared, with today's thresholds and today's model.

    ``input_path``: the folder ``validate`` wrote, or one type's in it (default: that of the component).
    """
    config = as_config(config)
    root = config.paths.resolve("component_validate_path")
    ready = sorted(path.parent.parent.name for path in root.glob(f"*/metadata/{PREPROCESSING_RECORD}"))
    if input_path is not None and Path(input_path).resolve() != root.resolve():
        name = Path(input_path).resolve().name
        if Path(input_path).resolve().parent != root.resolve() or name not in ready:
            raise InputError(
                f"{input_path} holds nothing that validate prepared; name {root}, or a type's folder in it"
            )
        ready = [name]
    if not ready:
        raise InputError(f"{root} holds nothing that validate prepared; run validate first")
    one_hot = config.model_training.one_hot_encoding
    models = {name: load_trained(config, name) for name in ([None] if one_hot else ready)}
    return _give_verdicts(ready, models, truth, config, quiet)


def _give_verdicts(
    types: list[str],
    models: dict[str | None, TrainedModel],
    truth_path: str | Path | None,
    config: Config,
    quiet: bool,
) -> Batch:
    truths = read_truth(Path(truth_path), types) if truth_path is not None else {}
    from pixal.train_model.hardware import set_up_tensorflow

    set_up_tensorflow(config.model_training)
    batch = Batch(config.paths.resolve("component_validate_path"))
    tables: dict[str, Any] = {}
    measured: dict[str, tuple[list[dict[str, Any]], PixelCounts]] = {}
    notes: list[str] = []
    with mlflow_utils.tracked_run(config, config.paths.component, "validate") as tracker:
        for name in types:
            one = _TypeVerdicts(name, models.get(name) or models[None], truths.get(name), config, quiet)
            with run_log(config.paths.resolve("validate_log_path", name), "detect"):
                one.run()
            batch.parts += one.parts
            batch.failures += one.failures
            tables[name] = one.table()
            measured[name] = (one.labelled, one.counts)
            notes += one.notes
        if truths:
            batch.metrics = {
                "types": {name: all_measures(*found) for name, found in measured.items()},
                "overall": all_measures(
                    [row for rows, _ in measured.values() for row in rows],
                    sum((counts for _, counts in measured.values()), PixelCounts()),
                ),
            }
            _write_json(batch.folder / "metrics.json", batch.metrics)
        else:
            (batch.folder / "metrics.json").unlink(missing_ok=True)
            notes.append("no --truth: ROC and precision-recall curves and the confusion matrix are left out")
        for note in notes:
            _log.info("%s", note)
        _write_results(batch, tables, notes, next(iter(models.values())), config)
        for name, table in tables.items():
            for key in ("parts", "failed", "errors", "threshold"):
                tracker.metric(f"{name}/{key}", table[key])
        for key, value in ((batch.metrics or {}).get("overall") or {}).items():
            if isinstance(value, float):
                tracker.metric(key, value)
        figures = [
            path for name in types for path in _summary_figures(config.paths.resolve("validate_figures_path", name))
        ]
        tables_written = [
            batch.folder / name for name in ("results.csv", "results.json", "report.html", "metrics.json")
        ]
        tracker.finish(
            params={"validation": config.validation.model_dump(), "plotting": config.plotting.model_dump()},
            files=[path for path in tables_written if path.is_file()],
            figures=figures,
            metadata=None,
        )
    return batch


class _TypeVerdicts:
    """The verdicts on the parts of one type."""

    def __init__(self, name: str, model: TrainedModel, truth: Truth | None, config: Config, quiet: bool) -> None:
        self.name, self.model, self.truth, self.config, self.quiet = name, model, truth, config, quiet
        self.state = model.states[name]
        self.calibration = model.calibrations[name]
        self.cut = choose_cut(self.calibration, config)
        self.parts: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self.labelled: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.counts = PixelCounts()

    def run(self) -> None:
        """Score every prepared part, draw it, and note its row; parts that could not be prepared are noted too."""
        records, ok, inputs = self._load()
        self.summary = Summary((*self.state.mask.shape, inputs.shape[2]))
        outcomes = {scored[0]["image"]: scored for scored in self._scored(inputs, ok)}
        for record in records:
            if record["image"] in outcomes:
                self._note(*outcomes[record["image"]])
            else:
                self._note_error(record)
        if self.truth is not None:
            unknown = [part["image"] for part in self.parts if part["truth"] is None]
            if unknown:
                self.notes.append(
                    f"{self.name}: the truth does not name {len(unknown)} parts, as {unknown[0]}; they are not measured"
                )
        folder = self.config.paths.resolve("validate_figures_path", self.name)
        pictures.save_summary(folder, self, self.config)

    def table(self) -> dict[str, Any]:
        """The type's entry in ``results.json``."""
        return {
            "threshold": self.cut.threshold,
            "method": self.cut.method,
            "false_alarm_rate": self.config.validation.false_alarm_rate,
            "training_scores": [] if self.cut.raw else [float(score) for score in self.calibration.scores],
            "parts": len(self.parts),
            "failed": sum(part["verdict"] == "fail" for part in self.parts),
            "errors": len(self.failures),
        }

    def _load(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], InputSet]:
        paths = self.config.paths
        record = read_record(paths.resolve("validate_metadata_path", self.name) / PREPROCESSING_RECORD)
        path = paths.resolve("component_validate_path", self.name) / self.config.preprocessing.preprocessor.file_name
        inputs = InputSet.load(path)
        ok = [row for row in record["images"] if row["status"] == "ok"]
        params = self.model.params
        for what, ours, theirs in (
            ("shape", list(inputs.shape), list(params["shape"])),
            ("channels", list(inputs.channels), list(params["channels"])),
            (
                "preprocessing",
                record["preprocessing_sha256"],
                file_hash(state_file(self.model.folder, self.name)),
            ),
            ("names", list(inputs.names), [row["image"] for row in ok]),
        ):
            if ours != theirs:
                raise ModelError(
                    f"{path} does not match the model of {self.name} (its {what} differ); run validate again"
                )
        return record["images"], ok, inputs

    def _scored(self, inputs: InputSet, ok: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Scored, Any]]:
        """Score all parts, then draw them in parallel; yields record, outcome, and pixel counts of each."""
        if not ok:
            return
        to_input = [self.state.photo_to_input(_homography(row)) for row in ok]
        scored = score_parts(
            inputs,
            ok,
            self.model.load_family(),
            self.calibration,
            mask=self.state.mask,
            cut=self.cut,
            params=self.model.params,
            config=self.config,
            to_input=to_input,
            summary=self.summary,
        )
        results = list(progress(scored, len(ok), step=f"{self.name}: scoring", quiet=self.quiet))
        work = partial(
            pictures.save_part,
            truth=self.truth,
            cut=self.cut,
            figures=self.config.paths.resolve("validate_figures_path", self.name),
            maps=self.config.paths.resolve("validate_anomaly_maps_path", self.name)
            if self.config.validation.save_anomaly_maps
            else None,
            overlays=self.config.plotting.plot_anomaly_heatmap,
        )
        jobs = list(zip(ok, results, to_input, strict=True))
        step = f"{self.name}: maps and overlays"
        for (row, result, _), counts in zip(
            jobs, map_parallel(work, jobs, self.config.execution, step=step, quiet=self.quiet), strict=True
        ):
            yield row, result, counts

    def _note(self, record: dict[str, Any], scored: Scored, counts: PixelCounts | None) -> None:
        part = self._part(record) | {
            "score": scored.score,
            "p_value": scored.p_value,
            "threshold": self.cut.threshold,
            "verdict": "fail" if scored.failed else "pass",
            "regions": [region.as_dict() for region in scored.regions],
        }
        if self.config.plotting.plot_anomaly_heatmap:
            part["overlay"] = f"{self.name}/figures/{pictures.overlay_name(record)}"
        self.parts.append(part)
        if part["truth"] is not None:
            self.labelled.append({**part["truth"], "score": scored.score, "failed": scored.failed})
            if counts is not None:
                self.counts = self.counts + counts

    def _note_error(self, record: dict[str, Any]) -> None:
        self.failures.append(Failure(self.name, record["image"], "preprocessing", record["reason"]))
        self.parts.append(self._part(record) | {"verdict": "error", "reason": record["reason"]})

    def _part(self, record: dict[str, Any]) -> dict[str, Any]:
        truth = None
        if self.truth is not None and record["name"] in self.truth.labels:
            truth = {"label": self.truth.labels[record["name"]], "kind": self.truth.kinds[record["name"]]}
        return {
            "type": self.name,
            "image": record["image"],
            "source": str(record["source"]),
            "score": None,
            "p_value": None,
            "threshold": None,
            "verdict": "",
            "reason": "",
            "overlay": None,
            "width": record.get("width"),
            "height": record.get("height"),
            "regions": [],
            "truth": truth,
        }


def _homography(row: dict[str, Any]) -> NDArray[np.float64]:
    return np.array([[row[f"h{i}{j}"] for j in range(3)] for i in range(3)], np.float64)


def _write_results(batch: Batch, tables: dict[str, Any], notes: list[str], model: TrainedModel, config: Config) -> None:
    """``results.csv``, ``results.json`` and ``report.html``."""
    rows = []
    for part in batch.parts:
        worst = part["regions"][0] if part["regions"] else {}
        box = {key: worst.get(key) for key in ("x", "y", "width", "height", "area_px")}
        rows.append(part | box | {"regions": len(part["regions"])})
    write_table(batch.folder / "results.csv", RESULT_COLUMNS, rows)
    made = provenance()
    results = {
        "schema_version": SCHEMA_VERSION,
        "component": config.paths.component,
        "created": made["created"],
        "pixal_version": made["pixal_version"],
        "model": {
            "family": model.params["model"],
            "name": model.params["model_name"],
            "trained": model.params["created"],
            "good images": model.params["n_images"],
        },
        "notes": notes,
        "types": tables,
        "metrics": batch.metrics,
        "parts": batch.parts,
    }
    _write_json(batch.folder / "results.json", results)
    from pixal.report import write_report

    write_report(batch.folder / "report.html", results, partial(_report_pictures, folder=batch.folder))


def _report_pictures(part: Any, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """A part's photograph and overlay, where both can be read."""
    try:
        photo = as_uint8(read_image(Path(part["source"]))[..., :3])
        overlay = photo if part["overlay"] is None else read_image(folder / part["overlay"])
    except InputError:
        return None
    return np.ascontiguousarray(photo), overlay


def _summary_figures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if not path.name.startswith("anomaly_overlay_"))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _clear(config: Config) -> None:
    """Remove an earlier batch's results, so that none of them is taken for this one's."""
    root = config.paths.resolve("component_validate_path")
    for record in sorted(root.glob(f"*/metadata/{PREPROCESSING_RECORD}")):
        shutil.rmtree(record.parent.parent)
    for name in ("results.csv", "results.json", "report.html", "metrics.json"):
        (root / name).unlink(missing_ok=True)
