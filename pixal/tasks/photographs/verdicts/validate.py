"""The commands ``validate`` and ``detect``: from photographs, or from stored inputs, to verdicts."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from pixal.execution import check_cluster, in_background, progress
from pixal.extras import require_analysis
from pixal.io.files import require_writable
from pixal.io.locking import explained_by_lock
from pixal.io.output_folders import Side, check_outputs, claim_outputs, remove_unfinished
from pixal.notifications.notifier import notifying
from pixal.plotting.style import import_matplotlib
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.preprocessing.folders import read_validation_inputs
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.adaptation import RateAdapter
from pixal.tasks.photographs.verdicts.batch_record import BATCH_RECORD, check_types, source_text, write_batch_record
from pixal.tasks.photographs.verdicts.batches import Batches
from pixal.tasks.photographs.verdicts.detect_type import TypeDetection
from pixal.tasks.photographs.verdicts.history import record_history
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.reporting import (
    exclusive_run,
    log_outcome,
    remove_old_results,
    track_batch,
    write_results,
)
from pixal.tasks.photographs.verdicts.results import RESULT_FILES, Batch
from pixal.tasks.photographs.verdicts.truth import Truth, read_truth
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.validate_type import TypeValidation, planned_files

_log = logging.getLogger(__name__)

_SIDE: Side = "component_validate_path"


def validate(
    input_path: str | Path | None = None,
    *,
    batch: str | None = None,
    truth: str | Path | None = None,
    model: str | None = None,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Batch:
    """See ``pixal.validate``."""
    models = Models(config, model)
    batches = Batches(config.paths)
    source = batches.source(input_path, batch)
    listed = list_photographs(source, test=True)
    check_types(listed)
    files = [photo.path for photos in listed.values() for photo in photos]
    check_outputs(config.paths, _SIDE, [None, *listed], source=source, files=files)
    photographs = models.assign_types(listed, quiet=quiet, batch=batches.find(source, batch))
    planned = [path for name, photos in photographs.items() for path in planned_files(name, photos, config)]
    planned += [config.paths.resolve(_SIDE) / name for name in (*RESULT_FILES, BATCH_RECORD)]
    check_outputs(config.paths, _SIDE, [None, *photographs], planned=planned)
    for name, photos in photographs.items():
        models.check(name, photos)
    for name in photographs:
        models.load(name)
    root = config.paths.resolve(_SIDE)
    check_cluster(config.execution, reads=[source, *models.sources], writes=[root])
    truths = _read_truths(truth, list(photographs))  # an unusable truth is reported before the work starts
    rates, types = RateAdapter(config, source_text(source)), []
    for name in photographs:
        trained = models.load(name)
        adaptation = rates.adapt(name, trained)
        types.append(TypeValidation(TypeVerdicts(name, trained, truths.get(name), config, adaptation)))
    validated, seconds = 0, 0.0
    with exclusive_run(config) as tracker:
        folders = {path.parent for path in planned}
        require_writable(*folders, *(config.paths.resolve("validate_metadata_path", name) for name in photographs))
        record = batches.begin(source, batch, set(photographs), files[0])
        claim_outputs(config.paths, _SIDE, [None, *photographs])
        remove_unfinished(config.paths, _SIDE, [None, *photographs])
        record = remove_old_results(config, record, keep=set(photographs))
        with notifying(root, config.validation.notify) as notifier, in_background() as submit:  # draws the figures
            if config.plotting.draws_figures and not any(row.verdicts.model.may_import_tensorflow for row in types):
                submit(import_matplotlib)  # while the photographs are prepared
            for validation in types:
                name, photos = validation.name, photographs[validation.name]
                validation.resume(photos, force=force)
                missing = validation.without_verdict(photos)
                if len(missing) < len(photos):
                    _log.info("%s: %d of %d parts already done", name, len(photos) - len(missing), len(photos))
                start = time.perf_counter()
                verdicts = progress(validation.validate(missing), len(missing), step=f"{name}: verdicts", quiet=quiet)
                for verdict in verdicts:
                    if notifier is not None:
                        origin = validation.verdicts.origin
                        notifier.verdict(verdict.part, config.paths.component, record.origin, origin)
                validated, seconds = validated + len(missing), seconds + time.perf_counter() - start
                validation.update_batch()
                validation.update_summary()
                validation.finish(record.origin)
                if validation is not types[-1]:
                    submit(validation.draw_figures)
            results = [validation.verdicts for validation in types]
            seconds_per_part = seconds / validated if validated else None
            written = write_results(
                results, record, config, with_truth=truth is not None, seconds_per_part=seconds_per_part
            )
            log_outcome(written.batch)
            submit(types[-1].draw_figures)  # last: its results would wait for matplotlib
            record_history(config.paths)
        track_batch(tracker, results, written, config)
    return written.batch


def detect(
    input_path: str | Path | None = None,
    *,
    batch: str | None = None,
    truth: str | Path | None = None,
    config: PhotographConfig,
    quiet: bool = False,
) -> Batch:
    """See ``pixal.detect``."""
    batches = Batches(config.paths)
    batches.finish_handover()
    with explained_by_lock(config.paths.resolve(_SIDE)):
        stored, names = batches.prepared(input_path, batch)
        component, config = config, replace(config, paths=stored.paths)
        models_of = {name: _model_of(name, config) for name in names}
        models = {model: Models(config, model) for model in dict.fromkeys(models_of.values())}
        truths = _read_truths(truth, names)
        rates, types = RateAdapter(component, stored.record.source), []
        for name, model in models_of.items():
            trained = models[model].load(name)
            adaptation = rates.adapt(name, trained)
            types.append(TypeDetection(TypeVerdicts(name, trained, truths.get(name), config, adaptation)))
    check_outputs(config.paths, _SIDE, [None, *names])
    check_cluster(config.execution, writes=[config.paths.resolve(_SIDE)])
    with exclusive_run(component, "detect") as tracker:
        batches.check_unchanged(stored)
        for detection in types:
            detection.check_unchanged()
        claim_outputs(config.paths, _SIDE, [None, *names])
        remove_unfinished(config.paths, _SIDE, [None, *names])
        write_batch_record(stored.folder, stored.record)
        root = component.paths.resolve(_SIDE)
        with notifying(root, config.validation.notify) as notifier, in_background() as submit:
            for detection in types:
                step, origin = f"{detection.name}: verdicts", detection.verdicts.origin
                for verdict in progress(detection.detect(), len(detection.records), step=step, quiet=quiet):
                    if notifier is not None and detection.is_new(verdict):
                        notifier.verdict(verdict.part, config.paths.component, stored.record.origin, origin)
                submit(detection.verdicts.draw_figures)
            results = [detection.verdicts for detection in types]
            written = write_results(results, stored.record, config, with_truth=truth is not None)
        record_history(component.paths)
        track_batch(tracker, results, written, config)
    log_outcome(written.batch)
    return written.batch


def _read_truths(path: str | Path | None, types: list[str]) -> dict[str, Truth]:
    if path is None:
        return {}
    require_analysis("--truth")
    return read_truth(Path(path), types)


def _model_of(name: str, config: PhotographConfig) -> str | None:
    """The model for which ``validate --model`` prepared the inputs of a type; None if it is the type's own model."""
    return read_validation_inputs(config.paths.resolve("validate_metadata_path", name)).judged_by
