"""Turn the verdicts of a batch into result files, log messages, and a run in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixal.config.paths import BATCHES_FOLDER
from pixal.io import ownership
from pixal.io.files import data_hash
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import claim_outputs
from pixal.io.provenance import provenance
from pixal.report.document import DriftSummary, MetricsDocument, ModelSummary, PartVerdict, ResultsDocument
from pixal.report.part_verdicts import join_views, part_headline
from pixal.tasks.photographs.learning.expected_missed import expected_missed
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.sensitivity.files import SensitivityFiles
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.batch_record import BATCH_RECORD, BatchRecord, write_batch_record
from pixal.tasks.photographs.verdicts.drift import find_drift
from pixal.tasks.photographs.verdicts.figures import type_figures
from pixal.tasks.photographs.verdicts.preparation import other_model
from pixal.tasks.photographs.verdicts.results import RESULT_FILES, Batch, write_result_files
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tracking import MODEL_TAG, TrackedDataset, Tracker, tracked_run
from pixal.validation.metrics import compute_measures
from pixal.validation.pixel_metrics import PixelCounts

_log = logging.getLogger(__name__)

_MOST_NAMED = 5  # parts in a note


@dataclass(frozen=True)
class WrittenBatch:
    """A batch and its result files.

    Attributes:
        batch: The verdicts.
        files: ``results.csv``, ``results.json``, ``report.html``, and with truth ``metrics.json``.
    """

    batch: Batch
    files: tuple[Path, ...] = ()


@contextmanager
def exclusive_run(config: PhotographConfig, command: str = "validate") -> Iterator[Tracker]:
    """Lock the component's results for this run, and track it as a run of ``command``.

    Raises:
        InputError: Another run holds the lock.
    """
    with (
        lock_folder(config.paths.resolve("component_validate_path")),
        tracked_run(config, config.paths.component, command, deferred=True) as tracker,
    ):
        yield tracker


def remove_old_results(config: PhotographConfig, batch: BatchRecord, keep: Collection[str]) -> BatchRecord:
    """Remove the results of the batch's earlier runs, except the folders of the types in ``keep``.

    Returns:
        The record of the batch with the types in ``keep``, which is written.
    """
    root = config.paths.resolve("component_validate_path")
    for name in batch.types:
        folder = config.paths.resolve("component_validate_path", name)
        if name not in keep and folder.is_dir():
            claim_outputs(config.paths, "component_validate_path", [name])
            ownership.remove_tree(folder, keep={root / BATCH_RECORD, root / BATCHES_FOLDER, folder / BATCHES_FOLDER})
    for file in RESULT_FILES:
        ownership.remove(root / file)
    batch = batch.with_types(keep)
    write_batch_record(root, batch)
    return batch


def write_results(
    types: Sequence[TypeVerdicts],
    batch: BatchRecord,
    config: PhotographConfig,
    *,
    with_truth: bool = False,
    log_notes: bool = True,
    seconds_per_part: float | None = None,
) -> WrittenBatch:
    """Write the results of a batch.

    Args:
        types: The verdicts of each type; at least one.
        batch: The record of the batch.
        config: Today's settings.
        with_truth: Whether to compare with the truth.
        log_notes: Whether to log notes and drift as well.
        seconds_per_part: See ``Batch``.
    """
    drift = _find_drift(types, config, log_findings=log_notes)
    notes = [note for verdicts in types for note in verdicts.notes]
    if not with_truth:
        notes.append("no --truth: ROC and precision-recall curves and the confusion matrix are left out")
    for note in notes if log_notes else ():
        _log.info("%s", note)
    notes = [warning for verdicts in types for warning in verdicts.warnings] + notes
    parts = tuple(part for verdicts in types for part in verdicts.parts)
    part_verdicts = join_views(parts, config.validation.part_pattern)
    if part_verdicts:
        part_notes = _part_notes(part_verdicts, config)
        for note in part_notes if log_notes else ():
            _log.info("%s", note)
        notes += part_notes
    written = provenance()
    record = types[0].model.record
    results = ResultsDocument(
        component=config.paths.component,
        batch=batch.origin,
        created=written["created"],
        pixal_version=written["pixal_version"],
        model=ModelSummary(
            family=record.model,
            name=record.model_name,
            trained=record.created,
            good_images=record.n_images,
            type=_named_model(types),
        ),
        drift=drift,
        notes=tuple(notes),
        sensitivity=_sensitivity(types, config),
        types={verdicts.name: verdicts.type_summary() for verdicts in types},
        metrics=_measure(types) if with_truth else None,
        parts=parts,
        part_verdicts=part_verdicts,
    )
    validated = Batch(
        folder=config.paths.resolve("component_validate_path"),
        origin=batch.origin,
        parts=results.parts,
        failures=tuple(failure for verdicts in types for failure in verdicts.failures),
        drift=drift,
        metrics=results.metrics,
        seconds_per_part=seconds_per_part,
    )
    by_name = {verdicts.name: verdicts for verdicts in types}
    files = write_result_files(validated.folder, results, lambda part: by_name[part.type].images_of(part))
    return WrittenBatch(validated, tuple(files))


def _part_notes(parts: Sequence[PartVerdict], config: PhotographConfig) -> list[str]:
    """Notes on parts with several views."""
    validation = config.validation
    notes = [f"{part_headline(parts)} (parts.csv)"]
    lacking = [f"{part.part} ({', '.join(part.missing)})" for part in parts if part.missing]
    if lacking:
        more = f" and {len(lacking) - _MOST_NAMED} more" if len(lacking) > _MOST_NAMED else ""
        notes.append(f"views are missing: {', '.join(lacking[:_MOST_NAMED])}{more}")
    views = max(sum(map(len, part.views.values())) for part in parts)
    if views > validation.views_per_part:
        rate = 100 * validation.rate_per_photograph
        notes.append(
            f"up to {views * rate:g} % of good parts fail, {rate:g} % by each of {views} photographs; for "
            f"{100 * validation.false_alarm_rate:g} % of the parts, set validation.views_per_part to {views}"
        )
    return notes


def log_outcome(batch: Batch) -> None:
    """Log how many parts have which verdict, and where the report is."""
    _log.info("%s; report: %s", batch.headline, batch.folder / "report.html")


def track_batch(
    tracker: Tracker, types: Sequence[TypeVerdicts], written: WrittenBatch, config: PhotographConfig
) -> None:
    """Log counts, drift, measures, settings and files of a batch to the run in MLflow."""
    artifacts = {"results": list(written.files)}
    for verdicts in types:
        name, summary = verdicts.name, verdicts.type_summary()
        tracker.log_metric(f"{name}/parts", summary.parts)
        tracker.log_metric(f"{name}/failed", summary.failed)
        tracker.log_metric(f"{name}/errors", summary.errors)
        tracker.log_metric(f"{name}/threshold", summary.threshold)
        artifacts[f"figures/{name}"] = type_figures(verdicts.folders.figures)
        record = config.paths.resolve("validate_metadata_path", name) / PREPROCESSING_RECORD
        artifacts[f"metadata/{name}"] = [record]
    findings = () if written.batch.drift is None else written.batch.drift.findings
    tracker.log_metric("drift", len(findings))
    for finding in findings:
        tracker.log_metric(f"{finding.type}/drift_{finding.quantity}_p", finding.p_value)
    metrics = written.batch.metrics
    for key, value in () if metrics is None else metrics.overall.items():
        if isinstance(value, float):
            tracker.log_metric(key, value)
    if other := _named_model(types):
        tracker.log_params({"model": {"judged_by": other}})
    tracker.set_tags({f"{MODEL_TAG}.{row.name}": row.model.record.fingerprint for row in types})
    if (origin := written.batch.origin) is not None:
        tracker.name = origin.name
        parts = {verdicts.name: len(verdicts.parts) for verdicts in types}
        digest = data_hash("".join(verdicts.digest for verdicts in types).encode())[:16]
        tracker.log_dataset(TrackedDataset(origin.name, digest, origin.source, "validation", {"parts": parts}))
        tracker.set_tags(
            {"pixal.batch": origin.name, "pixal.batch.source": origin.source, "pixal.batch.started": origin.started}
        )
    tracker.log_artifacts(artifacts)


def _named_model(types: Sequence[TypeVerdicts]) -> str | None:
    """The type whose model ``--model`` named; None if each type has its own."""
    return next((name for verdicts in types if (name := other_model(verdicts.name, verdicts.model))), None)


def _sensitivity(types: Sequence[TypeVerdicts], config: PhotographConfig) -> dict[str, tuple[str, ...]]:
    """The measured sensitivity of the model of each type; not of a model that ``--model`` named."""
    found = {}
    for verdicts in types:
        if other_model(verdicts.name, verdicts.model) is None:
            files = SensitivityFiles.of_type(config, verdicts.name)
            sentences = list(files.read("model_record_sha256", verdicts.model.record_sha256) or ())
            sentences += expected_missed(config, verdicts.name, verdicts.model)
            if sentences:
                found[verdicts.name] = tuple(sentences)
    return found


def _find_drift(types: Sequence[TypeVerdicts], config: PhotographConfig, *, log_findings: bool) -> DriftSummary:
    """Compare the batch with training. Each finding is logged as a warning, also in the log file of its type."""
    level = config.validation.drift_level
    findings = find_drift({verdicts.name: verdicts.drift_samples() for verdicts in types}, level)
    for finding in findings if log_findings else ():
        with log_to_file(config.paths.resolve("validate_log_path", finding.type), "validate"):
            _log.warning("%s: drift: %s. %s", finding.type, finding.message, finding.advice)
    return DriftSummary(level=level, findings=tuple(findings))


def _measure(types: Sequence[TypeVerdicts]) -> MetricsDocument:
    """The measures of each type, and of all parts together."""
    parts = [part for verdicts in types for part in verdicts.labelled]
    counts = sum((verdicts.counts for verdicts in types), PixelCounts())
    return MetricsDocument(
        types={verdicts.name: compute_measures(verdicts.labelled, verdicts.counts).as_dict() for verdicts in types},
        overall=compute_measures(parts, counts).as_dict(),
    )
