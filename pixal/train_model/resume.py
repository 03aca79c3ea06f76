"""What a training run goes on from, and leaves for another to go on from: a checkpoint, or the model's last epoch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from pixal.config import Config
from pixal.errors import ConfigError, ModelError
from pixal.io.files import file_hash
from pixal.io.provenance import fingerprint
from pixal.train_model.checkpoint import Checkpoint, begun
from pixal.train_model.family import ModelFamily
from pixal.train_model.stored_model import load_stored

_CHECKPOINT = "checkpoint"  # in the model's folder, while a run is at work
_LAST_STATE = "training_state.npz"  # from which training can go on
_KEPT = "checkpoints"  # weights of some epochs
_UNTIL = "number of epochs"


class Continuation:
    """How a run of ``train`` goes on.

    trained: the metadata of a whole model of the same input, settings and versions; None where there is none. until:
    the number of epochs to train that to; None: train as the settings say. made_of: all that the trained model depends
    on, by the names that messages use.
    """

    def __init__(
        self, config: Config, owner: str | None, settings: Mapping[str, Any], *, resume: bool, epochs: int | None
    ) -> None:
        """``settings``: all that the model depends on but ``until``. ``epochs``: how many more are to be trained."""
        self._config, self._resume = config, resume
        self._label, self._folder = owner or config.paths.component, config.paths.resolve("model_path", owner)
        self.trained = _trained(config, owner, settings) if resume else None
        self.until: int | None = None
        if self.trained is not None and epochs is not None:
            self.until = int(self.trained["epochs_trained"]) + epochs
        elif self.trained is not None:
            self.until = begun(self._folder / _CHECKPOINT).get(_UNTIL)
        self.made_of = dict(settings) | ({_UNTIL: self.until} if self.until else {})

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to train."""
        return self.trained is not None and self.until is None

    def check_more_epochs(self, model: ModelFamily) -> None:
        """Raise ConfigError or ModelError where there is no model that more epochs can be added to."""
        name = self._config.model_training.model
        if not model.has_epochs:
            raise ConfigError(f"{self._label}: epochs cannot be added to {name}, which has none; run train")
        if model.folds_are_cheap:
            raise ConfigError(
                f"{self._label}: epochs cannot be added to {name}, which is fitted anew for each fold; "
                "set model_training.n_epochs and train"
            )
        if self.trained is None:
            raise ModelError(
                f"{self._label}: there is no trained model of this input with these settings to add epochs to; "
                "run train, or train --resume, without --epochs"
            )
        state = self._folder / _LAST_STATE
        if not state.is_file() or file_hash(state) != self.trained.get("training_state_sha256"):
            raise ModelError(f"{state} is missing, or is not the file that training wrote; train without --resume")
        other = begun(self._folder / _CHECKPOINT).get(_UNTIL, self.until)
        if other != self.until:
            raise ModelError(
                f"{self._label}: a run that was to end with epoch {other} was cut short; "
                "run train --resume without --epochs"
            )

    def checkpoint(self, shape: tuple[int, ...]) -> Checkpoint:
        """The checkpoint of this run; what an older training kept of its epochs goes where it begins anew."""
        checkpoint = Checkpoint(self._folder / _CHECKPOINT, self.made_of, shape, resume=self._resume)
        checkpoint.until = self.until
        if self.until and self.trained and not checkpoint.resumed:
            checkpoint.go_on_from(self._folder / _LAST_STATE, self.trained["training_seconds"])
        elif not checkpoint.resumed:
            shutil.rmtree(self._folder / _KEPT, ignore_errors=True)
        return checkpoint

    def keep_weights(self, model: ModelFamily, epoch: int) -> None:
        """Write the weights of an epoch if the settings ask for it and the family has some."""
        every, name = self._config.model_training.checkpoint_every, self._config.model_training.model_name
        if every and epoch % every == 0 and hasattr(model, "write_weights"):
            model.write_weights(self._folder / _KEPT / f"{name}_epoch_{epoch:04d}.weights.h5")

    def keep_state(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Keep the state from which training can go on; return what the metadata is to say of it, and of epochs."""
        folder = self._folder
        (folder / _LAST_STATE).unlink(missing_ok=True)
        kept = sorted(path.relative_to(folder).as_posix() for path in (folder / _KEPT).glob("*.weights.h5"))
        found: dict[str, Any] = {"checkpoints": kept} | ({"extended_to": self.until} if self.until else {})
        if checkpoint.last_state.is_file():
            checkpoint.last_state.replace(folder / _LAST_STATE)
            found["training_state_sha256"] = file_hash(folder / _LAST_STATE)
        return found


def _trained(config: Config, owner: str | None, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The metadata of a whole model that depends on the same, however many epochs were added to it."""
    try:
        record = load_stored(config, owner).params
    except ModelError:
        return None
    more = {_UNTIL: record["extended_to"]} if "extended_to" in record else {}
    return record if record.get("fingerprint") == fingerprint(dict(settings) | more) else None
