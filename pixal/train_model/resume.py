"""The start of a training run (new, from a checkpoint or from a trained model), and its state for later runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixal.config import Config
from pixal.errors import ConfigError, ModelError
from pixal.io import ownership
from pixal.io.files import file_hash, has_hash
from pixal.io.provenance import fingerprint
from pixal.train_model.checkpoint import Checkpoint, read_dependencies
from pixal.train_model.family import ModelFamily
from pixal.train_model.specification import ModelRecord
from pixal.train_model.stored_model import load_stored

_CHECKPOINT = "checkpoint"  # folder in the model's folder; exists while a run is unfinished
_LAST_STATE = "training_state.npz"  # state after the last epoch, from which training can continue
_EPOCH_WEIGHTS = "checkpoints"  # folder with the weights of some epochs
_EPOCHS = "number of epochs"


class ResumePlan:
    """The start of a run of ``train``.

    Attributes:
        trained: The record of a complete model with the same input, settings and versions; None if there is none.
        target_epochs: The number of epochs to train that model to; None: train as the settings say.
        dependencies: Everything that the model depends on, by the names that messages use.
    """

    def __init__(
        self, config: Config, owner: str | None, dependencies: Mapping[str, Any], *, resume: bool, epochs: int | None
    ) -> None:
        """Look for a trained model and a checkpoint.

        Args:
            config: The settings.
            owner: The type that the model is for; None for one model of all types.
            dependencies: Everything that the model depends on, except the number of additional epochs.
            resume: Whether to use an existing model or checkpoint.
            epochs: The number of additional epochs to train a finished model for; None: none.
        """
        self._config, self._resume = config, resume
        self._label, self._folder = owner or config.paths.component, config.paths.resolve("model_path", owner)
        self.trained = _find_trained(config, owner, dependencies) if resume else None
        self.target_epochs: int | None = None
        if self.trained is not None and epochs is not None:
            self.target_epochs = self.trained.epochs_trained + epochs
        elif self.trained is not None:
            self.target_epochs = self._checkpoint_epochs
        self.dependencies = _with_epochs(dependencies, self.target_epochs)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to train."""
        return self.trained is not None and self.target_epochs is None

    def check_more_epochs(self, model: ModelFamily) -> None:
        """Check that epochs can be added to the trained model.

        Raises:
            ConfigError: The family has no epochs, or is fitted again for each fold.
            ModelError: There is no such model, or its last state is missing.
        """
        name = self._config.model_training.model
        if not model.has_epochs:
            raise ConfigError(f"{self._label}: cannot add epochs to {name}, which has no epochs; run train")
        if model.folds_are_cheap:
            raise ConfigError(
                f"{self._label}: cannot add epochs to {name}, which is fitted again for each fold; "
                "set model_training.n_epochs and run train"
            )
        if self.trained is None:
            raise ModelError(
                f"{self._label}: there is no trained model of this input with these settings to add epochs to; "
                "run train, or train --resume, without --epochs"
            )
        state = self._folder / _LAST_STATE
        if not has_hash(state, self.trained.training_state_sha256):
            raise ModelError(f"{state} is missing, or is not the file that training wrote; train without --resume")
        interrupted = self._checkpoint_epochs
        if interrupted not in (None, self.target_epochs):
            raise ModelError(
                f"{self._label}: a run up to epoch {interrupted} was interrupted; run train --resume without --epochs"
            )

    def open_checkpoint(self, shape: tuple[int, ...]) -> Checkpoint:
        """Open the run's checkpoint for held-out errors of this shape.

        A run that starts from the beginning deletes the epoch weights of an earlier training.
        """
        checkpoint = Checkpoint(self._folder / _CHECKPOINT, self.dependencies, shape, resume=self._resume)
        checkpoint.target_epochs = self.target_epochs
        if self.target_epochs and self.trained and not checkpoint.resumed:
            checkpoint.start_from(self._folder / _LAST_STATE, self.trained.training_seconds)
        elif not checkpoint.resumed:
            ownership.remove_tree(self._folder / _EPOCH_WEIGHTS)
        return checkpoint

    def save_epoch_weights(self, model: ModelFamily, epoch: int) -> None:
        """Write the weights of an epoch if the settings ask for it and the family has weights."""
        every, name = self._config.model_training.checkpoint_every, self._config.model_training.model_name
        if every and epoch % every == 0 and model.has_weights:
            model.write_weights(self._folder / _EPOCH_WEIGHTS / f"{name}_epoch_{epoch:04d}.weights.h5")

    def store_last_state(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Keep the state after the last epoch; return the entries about epochs for the model's record."""
        folder = self._folder
        ownership.remove(folder / _LAST_STATE)
        weights = sorted(path.relative_to(folder).as_posix() for path in (folder / _EPOCH_WEIGHTS).glob("*.weights.h5"))
        entries: dict[str, Any] = {"checkpoints": weights}
        if self.target_epochs:
            entries["extended_to"] = self.target_epochs
        if checkpoint.last_state.is_file():
            ownership.note(folder / _LAST_STATE)
            checkpoint.last_state.replace(folder / _LAST_STATE)
            entries["training_state_sha256"] = file_hash(folder / _LAST_STATE)
        return entries

    @property
    def _checkpoint_epochs(self) -> int | None:
        """The number of epochs to which an interrupted run extends a model; None if there is no such run."""
        epochs = read_dependencies(self._folder / _CHECKPOINT).get(_EPOCHS)
        return None if epochs is None else int(epochs)


def _find_trained(config: Config, owner: str | None, dependencies: Mapping[str, Any]) -> ModelRecord | None:
    """The record of a complete model with the same dependencies, however many epochs were added to it."""
    try:
        record = load_stored(config, owner).record
    except ModelError:
        return None
    expected = fingerprint(_with_epochs(dependencies, record.extended_to))
    return record if record.fingerprint == expected else None


def _with_epochs(dependencies: Mapping[str, Any], epochs: int | None) -> dict[str, Any]:
    return dict(dependencies) | ({_EPOCHS: epochs} if epochs else {})
