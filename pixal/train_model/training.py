"""Train models: fit, hold out, let the task finish, and store everything that made the model."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal import mlflow_utils
from pixal.config import Config, PathEntry
from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.io.files import file_hash
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import write_record
from pixal.outcome import Outcome
from pixal.train_model.family import ModelFamily, Rows, error_weights, family_named, options_of
from pixal.train_model.folds import HELD_OUT, Fitted, fit_all, make_folds, of_type
from pixal.train_model.resume import Continuation
from pixal.train_model.stored_model import MODEL_RECORD

_log = logging.getLogger(__name__)

_REPEATABLE = (
    "the same input, settings, versions and hardware give the same weights file, byte for byte; "
    "on other hardware sums are rounded in another order"
)


@dataclass(frozen=True)
class TrainingSet:
    """What one model is trained on.

    Attributes:
        owner: The type that the model is for; None for one model of all types.
        label: The name of the model in messages.
        path: The file of the inputs.
        sha256: The SHA-256 of that file.
        inputs: The good parts.
        types: The names of the T types.
        masks: Where each type's part is, (T, H, W) bool.
        channel_weights: The weight of each of the C channels in the loss and in the score.
        depends_on: What else the model depends on, by the names that messages use.
    """

    owner: str | None
    label: str
    path: Path
    sha256: str
    inputs: InputSet
    types: tuple[str, ...]
    masks: NDArray[np.bool_]
    channel_weights: tuple[float, ...]
    depends_on: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedFit:
    """A fitted model, before it is stored.

    Attributes:
        training_set: What it was trained on.
        fitted: The model, and how its fits went.
        folds: The rows held out in each fit.
        errors: The errors of the held-out rows in their order, (n, H, W, C).
        params: What the model was built from.
    """

    training_set: TrainingSet
    fitted: Fitted
    folds: Sequence[Rows]
    errors: NDArray[np.float32]
    params: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """What a task made of a finished fit.

    Attributes:
        figures: Figures, to be tracked.
        record: What the metadata holds besides, by key.
    """

    figures: list[Path]
    record: dict[str, Any]

    def save(self, folder: Path) -> list[Path]:
        """Write what is stored with the model into its folder; return the files, which are checked with the model."""
        return []


class TrainingTask(ABC):
    """What ``train_models`` asks the task that it trains for."""

    @property
    def holds_out(self) -> bool:
        """Whether good parts are held out in turn, so that the task can calibrate on their errors."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """The task's settings that a stored model depends on, by the names that messages use."""
        return {}

    @abstractmethod
    def training_sets(self) -> list[TrainingSet]:
        """The data of each model to train. Raises InputError where there is none."""

    def check_held_out(self, count: int) -> None:
        """Raise ConfigError where ``count`` held-out parts are too few for the settings."""
        return

    def finish(self, fit: FinishedFit) -> Finished:
        """Calibrate, draw figures, or whatever else the task does with a fitted model before it is stored."""
        return Finished([], {})


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
        raise InputError(f"{epochs} epochs: it says how many more to train, one at least, and goes with resume alone")
    # Everything that can be refused is refused before any work is done.
    sets = task.training_sets()
    family = family_named(config.model_training.model)
    options_of(family, config.model_training)
    hardware = family.set_up(config.model_training)
    runs = [_TrainingRun(one, task, family, config, hardware, resume, epochs, quiet) for one in sets]
    _log.info("training on %d good images", sum(len(one.inputs) for one in sets))
    if epochs is not None:
        for run in runs:
            run.continuation.check_more_epochs(family(run.params))
    outcome = Outcome()
    for run in runs:
        owner = run.training_set.owner
        model, logs = config.paths.resolve("model_path", owner), config.paths.resolve("log_path", owner)
        with lock_folder(model), log_to_file(logs, "train"):
            outcome.done += run.run()
    return outcome


@dataclass
class _TrainingRun:
    """One training run."""

    training_set: TrainingSet
    task: TrainingTask
    family: type[ModelFamily]
    config: Config
    hardware: dict[str, Any]
    resume: bool
    epochs: int | None
    quiet: bool

    def run(self) -> int:
        """Fit, finish, store; return the number of images."""
        data, continuation, folds = self.training_set, self.continuation, self._folds
        if continuation.is_done:
            _log.info("%s: trained already, of the same input with the same settings", data.label)
            return len(data.inputs)
        held_out = [sum(map(len, of_type(data.inputs, index, folds))) for index in range(len(data.types))]
        self.task.check_held_out(min(held_out))
        count = max(1, sum(len(fold) for fold in folds))  # an empty file cannot be mapped
        shape = (count, *data.inputs.shape[:2], len(error_weights(self.params)))
        checkpoint = continuation.checkpoint(shape)
        with mlflow_utils.tracked_run(self.config, data.label, "train") as tracker:
            with checkpoint:
                fitted = fit_all(
                    self.family,
                    self.params,
                    data.inputs,
                    data.masks,
                    folds,
                    checkpoint,
                    name=data.label,
                    quiet=self.quiet,
                    on_own_epoch=continuation.keep_weights,
                )
            mlflow_utils.log_history(tracker, fitted.history, fitted.folds)
            finished = self.task.finish(FinishedFit(data, fitted, folds, checkpoint.errors, self.params))
            files = self._save(fitted.model, finished)
            record = self._record(fitted, files, finished, checkpoint.seconds)
            record |= continuation.keep_state(checkpoint)
            write_record(self._folder("metadata_path") / MODEL_RECORD, record)
            checkpoint.remove()
            metadata = sorted(self._folder("metadata_path").glob("*.yaml"))
            tracker.log_params(record["settings"])
            tracker.log_artifacts({"model": files, "figures": finished.figures, "metadata": metadata})
        best, epochs = fitted.history.best_epoch, continuation.until or self.config.model_training.n_epochs
        _log.info(
            "%s: trained on %d good images in %.0f s%s",
            data.label,
            len(data.inputs),
            record["training_seconds"],
            f"; best epoch {best} of {epochs}" if fitted.history.loss else "",
        )
        return len(data.inputs)

    def _folder(self, entry: PathEntry) -> Path:
        return self.config.paths.resolve(entry, self.training_set.owner)

    @cached_property
    def params(self) -> dict[str, Any]:
        """What the model is built from: the settings, and what the input is like."""
        data = self.training_set
        return {
            **self.config.model_training.model_dump(),
            "model_options": options_of(self.family, self.config.model_training),
            "input_dim": int(data.inputs.data.shape[1]),
            "shape": list(data.inputs.shape),
            "channels": list(data.inputs.channels),
            "channel_weights": list(data.channel_weights),
            "gives_distance": self.family.gives_distance,
            "types": list(data.types),
            "memory_limit": self.config.execution.memory_limit,
        }

    @cached_property
    def continuation(self) -> Continuation:
        """What the run goes on from, and what it leaves."""
        made_of = {
            "input": self.training_set.sha256,
            **self.training_set.depends_on,
            **{f"model_training.{key}": value for key, value in self.params.items()},
            **self.task.settings,
            "version of TensorFlow": self.hardware.get("tensorflow"),
        }
        return Continuation(self.config, self.training_set.owner, made_of, resume=self.resume, epochs=self.epochs)

    @cached_property
    def _folds(self) -> list[Rows]:
        """The rows that are held out, fit by fit: one time only from a family whose fits are costly."""
        if not self.task.holds_out:
            return []
        settings = self.config.model_training
        what = self.training_set.inputs, settings.calibration_folds, settings.seed
        if self.family(self.params).folds_are_cheap:
            return make_folds(*what)
        return make_folds(*what, limit=HELD_OUT * settings.calibration_folds)[:1]

    def _save(self, model: ModelFamily, finished: Finished) -> list[Path]:
        folder = self._folder("model_path")
        # A model is of one piece: while it is being replaced no metadata vouches for it.
        (self._folder("metadata_path") / MODEL_RECORD).unlink(missing_ok=True)
        for files_of_models in ("*.keras", "*.h5", "*.weights.*"):  # of another name or family
            for stale in folder.glob(files_of_models):
                stale.unlink()
        return [*model.save(folder), *finished.save(folder)]

    def _record(self, fitted: Fitted, files: list[Path], finished: Finished, seconds: float) -> dict[str, Any]:
        data, folder, losses = self.training_set, self._folder("model_path"), fitted.history.loss
        return (
            dict(fitted.model.params)
            | provenance()
            | {
                "component": self.config.paths.component,
                "input": data.path,
                "input_sha256": data.sha256,
                "fingerprint": fingerprint(self.continuation.made_of),
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
