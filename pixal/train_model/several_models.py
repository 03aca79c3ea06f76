"""Train the models of several types at the same time, here or on a cluster, each in a process of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from pixal.config import Config
from pixal.config.schema import Execution
from pixal.execution import map_parallel, worker_count
from pixal.tracking import start_tracking
from pixal.train_model.family import ModelFamily, family_named
from pixal.train_model.side_by_side import CollectedWarnings, work_side_by_side
from pixal.train_model.training_processes import TrainingOnWorker
from pixal.train_model.training_run import TrainingRun
from pixal.train_model.training_task import TrainingSet, TrainingTask

_log = logging.getLogger(__name__)

_VALUES_FOR_A_PROCESS = 2_000_000  # of a training set: with fewer, the start of TensorFlow takes longer than the fits


def train_in_cluster(runs: list[TrainingRun], *, quiet: bool) -> int:
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


def most_at_once(family: type[ModelFamily], training_sets: Sequence[TrainingSet], execution: Execution) -> int:
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


def models_at_once(runs: Sequence[TrainingRun]) -> int:
    """As ``most_at_once``, for the runs that are not done; 1 with a GPU, which they would have to share."""
    if not runs or runs[0].hardware.get("gpus"):
        return 1
    return most_at_once(runs[0].family, [run.training_set for run in runs], runs[0].config.execution)


def train_side_by_side(runs: list[TrainingRun], others: int) -> int:
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
        run = TrainingRun(data, self.task, family, self.config, hardware, self.resume, self.epochs, True, None)
        collected, logger = CollectedWarnings(), logging.getLogger("pixal")
        logger.addHandler(collected)  # the caller has said what comes before
        try:
            run.run()
        finally:
            logger.removeHandler(collected)
        return _Trained(run.summary, collected.found)
