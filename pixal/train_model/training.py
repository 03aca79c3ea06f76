"""Train the models of a task: check everything first, then train one model per training set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pixal.config import Config
from pixal.errors import ClusterError, InputError
from pixal.execution import check_cluster
from pixal.io.locking import explained_by_lock, lock_folder
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.outcome import Outcome
from pixal.tracking import start_tracking
from pixal.train_model.checkpoint import RESUME_HINT
from pixal.train_model.family import ModelFamily, anomaly_family_named, checked_options, family_named
from pixal.train_model.several_models import models_at_once, most_at_once, train_in_cluster, train_side_by_side
from pixal.train_model.stored_model import MODEL_RECORD
from pixal.train_model.training_processes import prepared_processes
from pixal.train_model.training_run import TrainingRun
from pixal.train_model.training_task import TrainingSet, TrainingTask

_log = logging.getLogger(__name__)


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
    with prepared_processes(most_at_once(family, training_sets, config.execution) - 1):
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
    runs = [TrainingRun(data, *arguments) for data in training_sets]
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
            outcome.done += train_in_cluster(missing, quiet=quiet)
            return outcome
        at_once = models_at_once(missing)
        for run in runs:
            outcome.done += run.run() if at_once == 1 or run.plan.is_done else 0
        if at_once > 1:
            outcome.done += train_side_by_side(missing, at_once - 1)
    return outcome


@contextmanager
def _resumable() -> Iterator[None]:
    """Say how to go on after the cluster was lost."""
    try:
        yield
    except ClusterError as error:
        raise ClusterError(f"{error}; {RESUME_HINT}") from error


def _planned_files(config: Config, owner: str | None) -> list[Path]:
    """The files that training is going to write, as far as their names are known."""
    folder, start = config.paths.resolve("model_path", owner), f"{config.model_training.model_name}."
    models = [path for path in folder.iterdir() if path.name.startswith(start)] if folder.is_dir() else []
    return [
        *models,
        config.paths.resolve("metadata_path", owner) / MODEL_RECORD,
        config.paths.resolve("log_path", owner) / "train.log",
    ]
