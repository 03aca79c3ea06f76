"""What a model family is: the interface behind which training, calibration and validation are the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.inputs import InputSet

if TYPE_CHECKING:
    from pixal.train_model.checkpoint import Checkpoint

Rows = NDArray[np.intp]

# One line a family: its name in model_training.model, and where its class is.
FAMILIES = {
    "autoencoder": "pixal.train_model.autoencoder:Autoencoder",
}


@dataclass
class History:
    """How a fit went, an entry an epoch; empty lists for a family without epochs.

    best_epoch counts from 1: the epoch whose weights were kept.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_epoch: int = 0


class ModelFamily(Protocol):
    """A model that learns good parts and gives the error of any part.

    Built from ``params``: the settings of ``model_training`` and what describes the input (``input_dim``, ``shape``,
    ``channels``, ``types``, ``channel_weights``); ``params`` is what ``metadata/model_training.yaml`` holds.
    """

    params: dict[str, Any]

    def __init__(self, params: Mapping[str, Any]) -> None: ...

    @property
    def folds_are_cheap(self) -> bool:
        """Whether calibration may fit the model several times (cross-validation) or only once (a held-out part)."""

    def fit(
        self,
        inputs: InputSet,
        rows: Rows,
        masks: NDArray[np.bool_],
        *,
        validation_rows: Rows | None = None,
        learning_rates: Sequence[float] | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> History:
        """Learn the good parts ``inputs[rows]``; ``masks`` (T, H, W): where each type's part is.

        ``validation_rows`` decide when to stop; without them the settings do, or ``learning_rates``, one an epoch.
        ``on_epoch`` is told each epoch's number (from 1) and loss. A fit that was cut short goes on from the
        ``checkpoint``, which is told of each epoch.
        """

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Input minus what the model makes of it, (n, H, W, C), signed."""

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """What the model keeps of parts, (n, L)."""

    def save(self, folder: Path) -> list[Path]:
        """Write the model's files into ``folder``; return them."""

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> ModelFamily:
        """Rebuild a saved model from its metadata and weights."""


def family_named(name: str) -> type[ModelFamily]:
    """The class behind ``model_training.model``. Raises ConfigError for a name that is not in ``FAMILIES``."""
    if name not in FAMILIES:
        raise ConfigError(f"model_training.model: {name!r} is not one of {', '.join(FAMILIES)}")
    module, _, attribute = FAMILIES[name].partition(":")
    found: type[ModelFamily] = getattr(import_module(module), attribute)
    return found
