"""Train models: fit them, measure held-out errors, let the task finish, and store everything that belongs to them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pixal.config import Config, PathEntry
from pixal.config.schema import Execution
from pixal.config.section import result_settings
from pixal.errors import ClusterError, InputError
from pixal.execution import check_cluster, map_parallel, worker_count
from pixal.io import ownership
from pixal.io.files import file_hash
from pixal.io.locking import explained_by_lock, lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import with_hash, write_record
from pixal.outcome import Outcome
from pixal.tracking import MODEL_TAG, EpochLog, TrackedDataset, TrackedModel, start_tracking, tracked_run
from pixal.train_model.checkpoint import RESUME_HINT
from pixal.train_model.cluster_work import TrainingOnWorker, prepared_processes
from pixal.train_model.family import (
    AnomalyModel,
    ModelFamily,
    Rows,
    anomaly_family_named,
    checked_options,
    family_named,
)
from pixal.train_model.folds import Fitted, cross_validation_folds, fit_all, folds_of_type, make_folds
from pixal.train_model.resume import ResumePlan
from pixal.train_model.side_by_side import CollectedWarnings, work_side_by_side
from pixal.train_model.specification import ModelRecord, ModelSpecification
from pixal.train_model.stored_model import MODEL_RECORD
from pixal.train_model.training_task import Finished, FinishedFit, TrainingSet, TrainingTask

_log = logging.getLogger(__name__)

_VALUES_FOR_A_PROCESS = 2_000_000  # of a training set: with fewer, the start of TensorFlow takes longer than the fits

_REPEATABLE = (
    "the same input, settings, versions and hardware give the same weights file, byte for byte; "
    "on other hardware sums are rounded in another order"
)


def train_models(
    task: TrainingTask, config: Config, *, resume: bool = False, epochs: int | None = None, quiet: bool = False
) -> Outcome:
    """Train a model on each of the task's training sets.

    Args:
        task: Gives the data, and finishes each model.
        config: The settings.
        resume: Keep finished models, and continue an interrupted run from its checkpoint.
        epochs: With ``resume``: train finished models for this many more epochs.
        quiet: No progress bars.

    Raises:
        InputError: There is nothing to train on.
        ConfigError: The settings do not fit the model.
        ModelError: The checkpoint belongs to another run, or there is no model to continue.
        KeyboardInterrupt: The run was interrupted; the message says how to continue.
    """
    if epochs is not None and not (resume and epochs >= 1):
        raise InputError(
            f"--epochs {epochs} adds epochs to a finished model: it must be at least 1, and needs --resume; "
            f"to train for {epochs} epochs, use --set model_training.n_epochs={epochs}"
        )
    # Everything that can be refused is refused before any work is done.
    check_outputs(config.paths, "component_model_path", ())
    with explained_by_lock(config.paths.resolve("component_model_path")):
        training_sets = task.training_sets()
    name = config.model_training.model
    family = anomaly_family_named(name) if task.holds_out else family_named(name)
    checked_options(family, config.model_training)
    if config.model_training.augmentation.copies and not family.has_epochs:
        _log.warning("model_training.augmentation has no effect: %s is not trained by epochs", name)
    start_tracking(config)
    with prepared_processes(_most_at_once(family, training_sets, config.execution) - 1):
        return _train_all(task, training_sets, family, config, resume=resume, epochs=epochs, quiet=quiet)


def _train_all(
    task: TrainingTask,
    training_sets: list[TrainingSet],
    family: type[ModelFamily],
    config: Config,
    *,
    resume: bool,
    epochs: int | None,
    quiet: bool,
) -> Outcome:
    """See ``train_models``."""
    hardware = family.set_up(config.model_training)
    owners = [data.owner for data in training_sets]
    reads = [data.path for data in training_sets]
    check_cluster(config.execution, reads=reads, writes=[config.paths.resolve("component_model_path")])
    planned = [path for owner in owners for path in _planned_files(config, owner)]
    check_outputs(config.paths, "component_model_path", owners, planned=planned)
    arguments = (task, family, config, hardware, resume, epochs, quiet, config.execution)
    runs = [_TrainingRun(data, *arguments) for data in training_sets]
    _log.info("training on %d good images", sum(len(data.inputs) for data in training_sets))
    if epochs is not None:
        for run in runs:
            run.plan.check_more_epochs(family(run.specification))
    outcome = Outcome()
    with (
        ExitStack() as locks,
        _resumable(),
    ):  # until the last model is stored: it is stored with the preprocessing of its type
        for run in runs:
            locks.enter_context(lock_folder(config.paths.resolve("component_model_path", run.training_set.owner)))
        for run in runs:  # before the first fit, not after those of other types
            if not run.plan.is_done:
                family(run.specification).check()
        task.check_unchanged()
        claim_outputs(config.paths, "component_model_path", owners)
        remove_unfinished(config.paths, "component_model_path", owners)
        missing = [run for run in runs if not run.plan.is_done]
        if config.execution.backend == "dask" and len(missing) > 1:
            for run in runs:
                outcome.done += run.run() if run.plan.is_done else 0
            outcome.done += _train_in_cluster(missing, quiet=quiet)
            return outcome
        at_once = _models_at_once(missing)
        for run in runs:
            outcome.done += run.run() if at_once == 1 or run.plan.is_done else 0
        if at_once > 1:
            outcome.done += _train_side_by_side(missing, at_once - 1)
    return outcome


@contextmanager
def _resumable() -> Iterator[None]:
    """Say how to go on after the cluster was lost."""
    try:
        yield
    except ClusterError as error:
        raise ClusterError(f"{error}; {RESUME_HINT}") from error


def _train_in_cluster(runs: list[_TrainingRun], *, quiet: bool) -> int:
    """Train models on the workers of a cluster; return the number of images."""
    config, done = runs[0].config, 0
    work = TrainingOnWorker(_ModelTraining(runs[0].task, config, resume=runs[0].resume, epochs=runs[0].epochs))
    owners = [run.training_set.owner for run in runs]
    results = map_parallel(work, owners, config.execution, step="training", quiet=quiet)
    for run, trained in zip(runs, results, strict=True):
        CollectedWarnings.log(trained.warnings)
        _log.info("%s", trained.summary)
        done += len(run.training_set.inputs)
    return done


def _most_at_once(family: type[ModelFamily], training_sets: Sequence[TrainingSet], execution: Execution) -> int:
    """How many models may be trained at the same time, at least 1.

    A fit uses little more than one processor, so another model is trained in a process of its own, which starts
    TensorFlow for it. This pays for inputs of some size, and takes as much memory again.
    """
    sizes = [data.inputs.data.size for data in training_sets]
    if len(sizes) < 2 or execution.backend == "dask" or not family.has_epochs:
        return 1
    if max(sizes[1:]) < _VALUES_FOR_A_PROCESS or 4 * sum(sizes) > 1e9 * execution.memory_limit:
        return 1
    return min(worker_count(execution), len(sizes))


def _models_at_once(runs: Sequence[_TrainingRun]) -> int:
    """As ``_most_at_once``, for the runs that are not done; 1 with a GPU, which they would have to share."""
    if not runs or runs[0].hardware.get("gpus"):
        return 1
    return _most_at_once(runs[0].family, [run.training_set for run in runs], runs[0].config.execution)


def _train_side_by_side(runs: list[_TrainingRun], others: int) -> int:
    """Train models in this process and ``others`` more; return the number of images."""
    by_owner = {run.training_set.owner: run for run in runs}
    first = runs[0]
    work = TrainingOnWorker(_ModelTraining(first.task, first.config, resume=first.resume, epochs=first.epochs))
    for trained in work_side_by_side(list(by_owner), lambda owner: by_owner[owner].run(), work, others):
        CollectedWarnings.log(trained.warnings)
        _log.info("%s", trained.summary)
    return sum(len(run.training_set.inputs) for run in runs)


@dataclass(frozen=True)
class _Trained:
    """A model that was trained in another process: what to say of it."""

    summary: str
    warnings: list[tuple[str, int, str]]


@dataclass
class _ModelTraining:
    """Trains the model of one owner, in a process that has not read the data. The folders are locked already."""

    task: TrainingTask
    config: Config
    resume: bool
    epochs: int | None

    def __call__(self, owner: str | None) -> _Trained:
        """Train; return what to say of it."""
        data = next(data for data in self.task.training_sets() if data.owner == owner)
        start_tracking(self.config)
        family = family_named(self.config.model_training.model)
        hardware = family.set_up(self.config.model_training)
        run = _TrainingRun(data, self.task, family, self.config, hardware, self.resume, self.epochs, True, None)
        collected, logger = CollectedWarnings(), logging.getLogger("pixal")
        logger.addHandler(collected)  # the caller has said what comes before
        try:
            run.run()
        finally:
            logger.removeHandler(collected)
        return _Trained(run.summary, collected.found)


def _planned_files(config: Config, owner: str | None) -> list[Path]:
    """The files that training is going to write, as far as their names are known."""
    folder, start = config.paths.resolve("model_path", owner), f"{config.model_training.model_name}."
    models = [path for path in folder.iterdir() if path.name.startswith(start)] if folder.is_dir() else []
    return [
        *models,
        config.paths.resolve("metadata_path", owner) / MODEL_RECORD,
        config.paths.resolve("log_path", owner) / "train.log",
    ]


@dataclass
class _TrainingRun:
    """The training of one model."""

    training_set: TrainingSet
    task: TrainingTask
    family: type[ModelFamily]
    config: Config
    hardware: dict[str, Any]
    resume: bool
    epochs: int | None
    quiet: bool
    execution: Execution | None
    summary: str = ""

    def run(self) -> int:
        """Fit, finish and store the model; return the number of images."""
        with log_to_file(self._folder("log_path"), "train"):
            return self._run()

    def _run(self) -> int:
        data, plan, folds = self.training_set, self.plan, self._folds
        if plan.is_done:
            _log.info("%s: skipped, already trained on the same input with the same settings", data.label)
            return len(data.inputs)
        held_out = [sum(map(len, folds_of_type(data.inputs, index, folds))) for index in range(len(data.types))]
        self.task.check_held_out(min(held_out))
        count = max(1, sum(len(fold) for fold in folds))  # an empty file cannot be mapped
        shape = (count, *data.inputs.shape[:2], len(self.specification.error_weights))
        checkpoint = plan.open_checkpoint(shape)
        tags = {"pixal.type": data.owner} if data.owner else {}
        with tracked_run(self.config, data.label, "train", tags=tags) as tracker:
            tracker.log_dataset(self._dataset())
            log_epochs = EpochLog(tracker)
            with checkpoint:
                fitted = fit_all(
                    self.family,
                    self.specification,
                    data.inputs,
                    data.masks,
                    folds,
                    checkpoint,
                    name=data.label,
                    quiet=self.quiet,
                    on_final_epoch=plan.save_epoch_weights,
                    on_history=log_epochs,
                    execution=self.execution,
                )
            log_epochs.finish(fitted.history, fitted.fold_histories)
            finished = self.task.finish(FinishedFit(data, fitted, folds, checkpoint.errors, self.specification))
            files = self._save(fitted.model, finished)
            content = self._record(fitted, files, finished, checkpoint.seconds) | plan.store_last_state(checkpoint)
            content = with_hash(content)
            record = ModelRecord.read(content)
            write_record(self._folder("metadata_path") / MODEL_RECORD, content)
            checkpoint.remove()
            metadata = sorted(self._folder("metadata_path").glob("*.yaml"))
            tracker.set_tags({MODEL_TAG: record.fingerprint, "pixal.model_family": record.model})
            tracker.log_model(self._tracked_model())
            tracker.log_artifacts({"model": files, "figures": finished.figures, "metadata": metadata})
        best, epochs = fitted.history.best_epoch, plan.target_epochs or self.config.model_training.n_epochs
        self.summary = f"{data.label}: trained on {len(data.inputs)} good images in {record.training_seconds:.0f} s"
        self.summary += f"; best epoch {best} of {epochs}" if fitted.history.loss else ""
        _log.info("%s", self.summary)
        return len(data.inputs)

    def _folder(self, entry: PathEntry) -> Path:
        return self.config.paths.resolve(entry, self.training_set.owner)

    @cached_property
    def specification(self) -> ModelSpecification:
        """The specification of the model."""
        data, settings = self.training_set, self.config.model_training
        return ModelSpecification.read(
            settings.model_dump()
            | {
                "model_options": checked_options(self.family, settings).model_dump(),
                "input_dim": int(data.inputs.data.shape[1]),
                "shape": data.inputs.shape,
                "channels": data.inputs.channels,
                "channel_weights": data.channel_weights,
                "gives_distance": issubclass(self.family, AnomalyModel) and self.family.gives_distance,
                "gives_reconstruction": issubclass(self.family, AnomalyModel) and self.family.gives_reconstruction,
                "types": data.types,
                "aligned": data.aligned,
                "memory_limit": self.config.execution.memory_limit,
            }
        )

    @cached_property
    def plan(self) -> ResumePlan:
        """The start of the run: new, from a checkpoint, or from a trained model."""
        settings = result_settings(self.specification)
        dependencies = {
            "input": self.training_set.sha256,
            **self.training_set.depends_on,
            **{f"model_training.{key}": value for key, value in settings.items()},
            **self.task.settings,
            "version of TensorFlow": self.hardware.get("tensorflow"),
        }
        return ResumePlan(self.config, self.training_set.owner, dependencies, resume=self.resume, epochs=self.epochs)

    @cached_property
    def _folds(self) -> list[Rows]:
        """The rows to hold out, fit by fit; a single fold for a family whose fits are costly, else row by row."""
        if not self.task.holds_out:
            return []
        inputs, model = self.training_set.inputs, self.family(self.specification)
        if model.leaves_one_out:
            return make_folds(inputs, len(inputs), self.config.model_training.seed)
        return cross_validation_folds(model, inputs, self.config.model_training)

    def _tracked_model(self) -> TrackedModel:
        record_file = self._folder("metadata_path") / MODEL_RECORD
        return TrackedModel(
            self.config.parameters.task,
            self.config.paths.component,
            self.training_set.owner,
            record_file,
            file_hash(record_file),
            self._folder("model_path"),
        )

    def _dataset(self) -> TrackedDataset:
        data = self.training_set
        name = " ".join(dict.fromkeys((self.config.paths.component, data.label)))
        profile = {"good parts": len(data.inputs), "shape": list(data.inputs.shape), "channels": data.inputs.channels}
        return TrackedDataset(name, data.sha256[:16], str(data.path.absolute()), "training", profile)

    def _save(self, model: ModelFamily, finished: Finished) -> list[Path]:
        folder = self._folder("model_path")
        # Without its record a model counts as untrained. So no record matches a mixture of old and new files.
        ownership.remove(self._folder("metadata_path") / MODEL_RECORD)
        for pattern in (
            "*.keras",
            "*.h5",
            "*.weights.*",
            "*.inference.*",
        ):  # also files of models with another name or family
            for stale in folder.glob(pattern):
                ownership.remove(stale)
        return [*model.save(folder), *finished.save(folder)]

    def _record(self, fitted: Fitted, files: list[Path], finished: Finished, seconds: float) -> dict[str, Any]:
        """The content of the model's record, without what ``ResumePlan`` adds, and without its hash."""
        data, folder, losses = self.training_set, self._folder("model_path"), fitted.history.loss
        return (
            fitted.model.spec.model_dump()
            | provenance()
            | {
                "component": self.config.paths.component,
                "input": data.path,
                "input_sha256": data.sha256,
                "fingerprint": fingerprint(self.plan.dependencies),
                "n_images": len(data.inputs),
                "epochs_trained": len(losses),
                "final_loss": losses[-1] if losses else None,
                "training_seconds": round(seconds, 1),
                **finished.record,
                "hardware": self.hardware,
                "repeatable": _REPEATABLE,
                "settings": self.config.parameters.model_dump(),
                "files": {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)},
            }
        )
