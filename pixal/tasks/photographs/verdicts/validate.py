"""The commands ``validate`` and ``detect``: from photographs, or from stored inputs, to verdicts."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pixal import mlflow_utils
from pixal.errors import InputError
from pixal.execution import in_background, progress
from pixal.io.output_folders import Side, check_outputs, claim_outputs
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD, read_validation_inputs
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.detect_type import TypeDetection
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
from pixal.tasks.photographs.verdicts.validate_type import TypeValidation, planned_files

_log = logging.getLogger(__name__)


def validate(
    input_path: str | Path,
    *,
    truth: str | Path | None = None,
    model: str | None = None,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Batch:
    """See ``pixal.validate``."""
    models = Models(config, model)
    listed = list_photographs(input_path, test=True)
    files = [photo.path for photos in listed.values() for photo in photos]
    side: Side = "component_validate_path"
    check_outputs(config.paths, side, [None, *listed], source=input_path, files=files)
    photographs = models.assign_types(listed, quiet=quiet)
    planned = [path for name, photos in photographs.items() for path in planned_files(name, photos, config)]
    planned += [config.paths.resolve(side) / name for name in RESULT_FILES]
    check_outputs(config.paths, side, [None, *photographs], planned=planned)
    for name in photographs:
        models.check(name)
    for name in photographs:
        models.load(name)
    truths = _read_truths(truth, list(photographs))  # an unusable truth is reported before the work starts
    types = [TypeValidation(name, models.load(name), truths.get(name), config) for name in photographs]
    validated, seconds = 0, 0.0
    with exclusive_run(config) as tracker:
        claim_outputs(config.paths, side, [None, *photographs])
        remove_old_results(config, keep=set(photographs))
        with in_background() as submit:  # draws the figures
            for validation in types:
                name, photos = validation.name, photographs[validation.name]
                validation.resume(photos, force=force)
                missing = validation.without_verdict(photos)
                if len(missing) < len(photos):
                    _log.info("%s: %d of %d parts already done", name, len(photos) - len(missing), len(photos))
                start = time.perf_counter()
                verdicts = progress(validation.validate(missing), len(missing), step=f"{name}: verdicts", quiet=quiet)
                for index, _ in enumerate(verdicts):
                    if index == 0:  # now that TensorFlow is imported: two imports at a time can block each other
                        submit(mlflow_utils.import_mlflow)
                validated, seconds = validated + len(missing), seconds + time.perf_counter() - start
                validation.update_batch()
                validation.update_summary()
                validation.finish()
                submit(validation.draw_figures)
            results = [validation.verdicts for validation in types]
            seconds_per_part = seconds / validated if validated else None
            written = write_results(results, config, with_truth=truth is not None, seconds_per_part=seconds_per_part)
        track_batch(tracker, results, written, config)
    log_outcome(written.batch)
    return written.batch


def detect(
    input_path: str | Path | None = None,
    *,
    truth: str | Path | None = None,
    config: PhotographConfig,
    quiet: bool = False,
) -> Batch:
    """See ``pixal.detect``."""
    names = _prepared_types(input_path, config)
    models_of = {name: _model_of(name, config) for name in names}
    models = {model: Models(config, model) for model in dict.fromkeys(models_of.values())}
    truths = _read_truths(truth, names)
    types = [
        TypeDetection(name, models[model].load(name), truths.get(name), config) for name, model in models_of.items()
    ]
    check_outputs(config.paths, "component_validate_path", [None, *names])
    with exclusive_run(config) as tracker:
        claim_outputs(config.paths, "component_validate_path", [None, *names])
        with in_background() as submit:
            for detection in types:
                step = f"{detection.name}: verdicts"
                for _ in progress(detection.detect(), len(detection.records), step=step, quiet=quiet):
                    pass
                submit(detection.verdicts.draw_figures)
            results = [detection.verdicts for detection in types]
            written = write_results(results, config, with_truth=truth is not None)
        track_batch(tracker, results, written, config)
    log_outcome(written.batch)
    return written.batch


def _prepared_types(input_path: str | Path | None, config: PhotographConfig) -> list[str]:
    """The types whose inputs ``validate`` stored; only the one that ``input_path`` names, if it names one."""
    root = config.paths.resolve("component_validate_path")
    names = sorted(path.parent.parent.name for path in root.glob(f"*/metadata/{PREPROCESSING_RECORD}"))
    if input_path is not None and Path(input_path).resolve() != root.resolve():
        path = Path(input_path).resolve()
        if path.parent != root.resolve() or path.name not in names:
            raise InputError(
                f"{input_path} holds no inputs stored by validate; give {root} or the folder of a type in it"
            )
        return [path.name]
    if not names:
        raise InputError(f"{root} holds no inputs stored by validate; run validate first")
    return names


def _read_truths(path: str | Path | None, types: list[str]) -> dict[str, Truth]:
    return {} if path is None else read_truth(Path(path), types)


def _model_of(name: str, config: PhotographConfig) -> str | None:
    """The model for which ``validate --model`` prepared the inputs of a type; None if it is the type's own model."""
    return read_validation_inputs(config.paths.resolve("validate_metadata_path", name)).judged_by
