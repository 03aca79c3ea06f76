"""What a batch's verdicts become: tables, report, and a run in MLflow."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pixal import mlflow_utils
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.report.pictures import Pictures
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.drift import find_drift
from pixal.tasks.photographs.verdicts.figures import summary_figures
from pixal.tasks.photographs.verdicts.preparation import other_model
from pixal.tasks.photographs.verdicts.results import RESULT_FILES, Batch, write_results
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL
from pixal.validation.metrics import compute_measures
from pixal.validation.pixel_metrics import PixelCounts

_log = logging.getLogger(__name__)


@contextmanager
def writing(config: PhotographConfig) -> Iterator[mlflow_utils.Tracker]:
    """Be the one run that writes results of the component, and track it. Raises InputError while another is."""
    with (
        lock_folder(config.paths.resolve("component_validate_path")),
        mlflow_utils.tracked_run(config, config.paths.component, "validate") as tracker,
    ):
        yield tracker


def clear(config: PhotographConfig, keep: set[str]) -> None:
    """Remove an earlier batch's results, but for what the types in ``keep`` may go on from."""
    root = config.paths.resolve("component_validate_path")
    for name in (PREPROCESSING_RECORD, JOURNAL):
        for path in sorted(root.glob(f"*/metadata/{name}")):
            if path.parent.parent.name not in keep:
                shutil.rmtree(path.parent.parent)
    for name in RESULT_FILES:
        (root / name).unlink(missing_ok=True)


def write_up(
    types: Sequence[TypeVerdicts], config: PhotographConfig, *, with_truth: bool = False, aloud: bool = True
) -> tuple[Batch, list[Path]]:
    """Write the results of what the types have gathered; returns them and their files. ``aloud``: say what is noted."""
    batch = Batch(config.paths.resolve("component_validate_path"))
    for verdicts in types:
        batch.parts += verdicts.parts
        batch.failures += verdicts.failures
    by_name = {verdicts.name: verdicts for verdicts in types}
    batch.drift = _drift(by_name, config.validation.drift_level, aloud)
    notes = [note for verdicts in types for note in verdicts.notes]
    if with_truth:
        batch.metrics = _measures(by_name)
    else:
        notes.append("no --truth: ROC and precision-recall curves and the confusion matrix are left out")
    for note in notes if aloud else ():
        _log.info("%s", note)
    tables = {verdicts.name: verdicts.table() for verdicts in types}
    picture = partial(_pictures, types=by_name)
    component, model, other = config.paths.component, types[0].model, _named(types)
    return batch, write_results(batch, tables, notes, model, component, picture, judged_by=other)


def say(batch: Batch) -> None:
    """Say how many parts have which verdict, and where the report is."""
    passed = len(batch.parts) - batch.failed - len(batch.failures)
    _log.info(
        "%d parts: %d pass, %d fail, %d could not be processed; report: %s",
        len(batch.parts),
        passed,
        batch.failed,
        len(batch.failures),
        batch.folder / "report.html",
    )


def track(
    tracker: mlflow_utils.Tracker,
    types: Sequence[TypeVerdicts],
    batch: Batch,
    written: list[Path],
    config: PhotographConfig,
) -> None:
    """Note in MLflow's run what a batch came to."""
    artifacts = {"results": written}
    for verdicts in types:
        name, table = verdicts.name, verdicts.table()
        for key in ("parts", "failed", "errors", "threshold"):
            tracker.log_metric(f"{name}/{key}", table[key])
        artifacts[f"figures/{name}"] = summary_figures(verdicts.figures)
        record = config.paths.resolve("validate_metadata_path", name) / PREPROCESSING_RECORD
        artifacts[f"metadata/{name}"] = [record]
    tracker.log_metric("drift", len(batch.drift["findings"]))
    for found in batch.drift["findings"]:
        tracker.log_metric(f"{found['type']}/drift_{found['quantity']}_p", found["p_value"])
    for key, value in ((batch.metrics or {}).get("overall") or {}).items():
        if isinstance(value, float):
            tracker.log_metric(key, value)
    settings = {"validation": config.validation.model_dump(), "plotting": config.plotting.model_dump()}
    if other := _named(types):
        settings["model"] = {"judged_by": other}
    tracker.log_params(settings)
    tracker.log_artifacts(artifacts)


def _named(types: Sequence[TypeVerdicts]) -> str | None:
    """The type whose model judged all, where it is not each type's own."""
    return next((one for verdicts in types if (one := other_model(verdicts.name, verdicts.model))), None)


def _drift(types: dict[str, TypeVerdicts], level: float, aloud: bool) -> dict[str, Any]:
    """What differs between training and this batch, as in ``results.json``; each finding is also a warning."""
    findings = find_drift({name: verdicts.samples() for name, verdicts in types.items()}, level)
    for finding in findings if aloud else ():
        with log_to_file(types[finding.type].config.paths.resolve("validate_log_path", finding.type), "validate"):
            _log.warning("%s: drift: %s. %s", finding.type, finding.message, finding.advice)
    return {"level": level, "findings": [asdict(finding) for finding in findings]}


def _measures(types: dict[str, TypeVerdicts]) -> dict[str, Any]:
    """``metrics.json``: the measures of each type, and of all parts together."""
    rows = [row for verdicts in types.values() for row in verdicts.labelled]
    counts = sum((verdicts.counts for verdicts in types.values()), PixelCounts())
    measures = {
        name: compute_measures(verdicts.labelled, verdicts.counts).as_dict() for name, verdicts in types.items()
    }
    return {"types": measures, "overall": compute_measures(rows, counts).as_dict()}


def _pictures(part: Mapping[str, Any], types: dict[str, TypeVerdicts]) -> Pictures | None:
    """The files of a part's pictures, as they were made with its verdict."""
    verdicts = types[part["type"]]
    names = verdicts.pictures[part["image"]]
    return None if names is None else Pictures(*(None if name is None else verdicts.report / name for name in names))
