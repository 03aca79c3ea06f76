"""The validate and detect commands: from photographs, or from inputs made of them, to verdicts."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from pixal import mlflow_utils
from pixal.config import Config, as_config
from pixal.errors import InputError, ModelError
from pixal.images import list_photographs
from pixal.preprocessing.folders import PREPROCESSING_RECORD
from pixal.records import run_log
from pixal.train_model.model_folder import TrainedModel, load_trained, trained_types
from pixal.validation.metrics import PixelCounts, all_measures, read_truth
from pixal.validation.pictures import summary_figures
from pixal.validation.preparation import choose_types, prepare
from pixal.validation.results import RESULT_FILES, Batch, write_results
from pixal.validation.verdicts import TypeVerdicts

_log = logging.getLogger(__name__)


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
    done: dict[str, TypeVerdicts] = {}
    with mlflow_utils.tracked_run(config, config.paths.component, "validate") as tracker:
        for name in types:
            done[name] = TypeVerdicts(name, models.get(name) or models[None], truths.get(name), config, quiet)
            with run_log(config.paths.resolve("validate_log_path", name), "detect"):
                done[name].run()
            batch.parts += done[name].parts
            batch.failures += done[name].failures
        notes = [note for verdicts in done.values() for note in verdicts.notes]
        if truths:
            batch.metrics = _measures(done)
        else:
            notes.append("no --truth: ROC and precision-recall curves and the confusion matrix are left out")
        for note in notes:
            _log.info("%s", note)
        tables = {name: verdicts.table() for name, verdicts in done.items()}
        written = write_results(batch, tables, notes, next(iter(models.values())), config.paths.component)
        _track(tracker, tables, batch, written, config)
    passed = len(batch.parts) - batch.failed - len(batch.failures)
    _log.info(
        "%d parts: %d pass, %d fail, %d could not be processed; report: %s",
        len(batch.parts),
        passed,
        batch.failed,
        len(batch.failures),
        batch.folder / "report.html",
    )
    return batch


def _measures(done: dict[str, TypeVerdicts]) -> dict[str, Any]:
    """``metrics.json``: the measures of each type, and of all parts together."""
    rows = [row for verdicts in done.values() for row in verdicts.labelled]
    counts = sum((verdicts.counts for verdicts in done.values()), PixelCounts())
    types = {name: all_measures(verdicts.labelled, verdicts.counts) for name, verdicts in done.items()}
    return {"types": types, "overall": all_measures(rows, counts)}


def _track(
    tracker: mlflow_utils.Tracker, tables: dict[str, Any], batch: Batch, written: list[Path], config: Config
) -> None:
    artifacts = {"results": written}
    for name, table in tables.items():
        for key in ("parts", "failed", "errors", "threshold"):
            tracker.metric(f"{name}/{key}", table[key])
        artifacts[f"figures/{name}"] = summary_figures(config.paths.resolve("validate_figures_path", name))
        record = config.paths.resolve("validate_metadata_path", name) / PREPROCESSING_RECORD
        artifacts[f"metadata/{name}"] = [record]
    for key, value in ((batch.metrics or {}).get("overall") or {}).items():
        if isinstance(value, float):
            tracker.metric(key, value)
    settings = {"validation": config.validation.model_dump(), "plotting": config.plotting.model_dump()}
    tracker.finish(settings, artifacts)


def _clear(config: Config) -> None:
    """Remove an earlier batch's results, so that none of them is taken for this one's."""
    root = config.paths.resolve("component_validate_path")
    for record in sorted(root.glob(f"*/metadata/{PREPROCESSING_RECORD}")):
        shutil.rmtree(record.parent.parent)
    for name in RESULT_FILES:
        (root / name).unlink(missing_ok=True)
