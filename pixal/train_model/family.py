"""What a model family is: the interface behind which training, calibration and validation are the same for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from pixal.config.schema import ModelTraining
from pixal.config.section import Section
from pixal.errors import ConfigError, ModelError
from pixal.inputs import InputSet
from pixal.registry import MODELS
from pixal.train_model.keras_training.hardware import without_chatter

if TYPE_CHECKING:
    from pixal.train_model.checkpoint import Checkpoint

Rows = NDArray[np.intp]
NOT_FITTED = "the model is neither trained nor loaded"


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
    """A model that learns good parts and gives the error of any part. ``docs/extending.md`` shows one in one file.

    Built from ``params``: the settings of ``model_training`` and what describes the input (``input_dim``, ``shape``,
    ``channels``, ``types``, ``channel_weights``); ``params`` is what ``metadata/model_training.yaml`` holds. A family
    that derives from this class need not write what is the same for most: ``Options``, ``set_up`` and ``expect``.
    """

    params: dict[str, Any]
    Options: ClassVar[type[BaseModel]] = Section
    """The family's own settings, ``model_training.model_options``; most have none. Built, they are in ``params``."""
    has_epochs: ClassVar[bool] = False
    """Whether a fit has epochs, which it tells of by ``on_epoch``."""
    gives_distance: ClassVar[bool] = False
    """Whether ``error`` is a distance from what is good, (n, H, W, 1), instead of a difference in each channel."""

    def __init__(self, params: Mapping[str, Any]) -> None: ...

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Prepare this process (threads, devices) before the first model; return what is in force, for the record."""
        return {}

    @property
    def loss_name(self) -> str:
        """What the loss of a fit's history is, in words."""
        return str(self.params["loss_function"])

    @property
    def folds_are_cheap(self) -> bool:
        """Whether calibration may fit the model several times (cross-validation) or only once (a held-out part)."""

    def expect(self, inputs: InputSet, row_sets: Sequence[Rows]) -> None:
        """Be told, before the first fit, of the rows of each fit to come: what they share may be computed once."""
        return

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
        """Input minus what the model makes of it, (n, H, W, C), signed; or a distance (``gives_distance``)."""

    def difference(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, H, W, C), where the ``error`` is something else for some settings."""
        return self.error(inputs, rows)

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """What the model keeps of parts, (n, L)."""

    def save(self, folder: Path) -> list[Path]:
        """Write the model's files into ``folder``; return them."""

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> ModelFamily:
        """Rebuild a saved model from its metadata and weights."""


def family_named(name: str) -> type[ModelFamily]:
    """The class behind ``model_training.model``.

    Raises ConfigError for a name that no family has, or where the package that has it cannot be imported.
    """
    with without_chatter():
        found: type[ModelFamily] = MODELS.load(name)
    return found


def type_numbers(inputs: InputSet, params: Mapping[str, Any]) -> Rows:
    """The number of each row's type, (N,), in the order of the model's ``types``; 0 where there is one.

    Raises ModelError for inputs of types that are not the model's, or that do not say of which type a row is.
    """
    known = tuple(params.get("types") or ())
    trained = f"(trained: {', '.join(known)})"
    if inputs.labels is None:
        if len(known) > 1:
            raise ModelError(f"the inputs do not say which part is of which type {trained}")
        return np.zeros(len(inputs), np.intp)
    if inputs.types != known:
        unseen = [name for name in inputs.types if name not in known]
        what = f"type {unseen[0]} was never trained" if unseen else f"the types {inputs.types} are not the model's"
        raise ModelError(f"{what} {trained}")
    return np.asarray(inputs.labels.argmax(1), np.intp)


def error_weights(params: Mapping[str, Any]) -> dict[str, float]:
    """The channels of a model's error, and how much each counts."""
    if params.get("gives_distance"):
        return {"distance": 1.0}
    return dict(zip(params["channels"], params["channel_weights"], strict=True))


def options_of(family: type[ModelFamily], settings: ModelTraining) -> dict[str, Any]:
    """The family's own settings: ``model_options``, checked, with the family's defaults for what is left out.

    Raises ConfigError for those that the family does not have or take.
    """
    try:
        return family.Options.model_validate(settings.model_options).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["model_training.model_options", *map(str, first["loc"])])
        known = ", ".join(family.Options.model_fields) or "none"
        raise ConfigError(
            f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}; the options of {settings.model} are: {known}"
        ) from error
