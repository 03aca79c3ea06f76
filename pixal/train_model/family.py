"""The interface of a model family. ``docs/extending.md`` shows a complete family in one file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from pixal.config.schema import Execution, ModelTraining
from pixal.config.section import Section
from pixal.errors import ConfigError, ModelError
from pixal.extras import require_for_model
from pixal.inputs import InputSet
from pixal.registry import MODELS
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.history import History
from pixal.train_model.prediction import Predictor
from pixal.train_model.quiet_import import without_tensorflow_messages
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self

Rows = NDArray[np.intp]
"""Row indices of an ``InputSet``."""
NOT_FITTED = "the model is neither trained nor loaded"


@dataclass(frozen=True)
class FitControl:
    """Control of a fit by epochs. Families without epochs ignore it.

    Attributes:
        validation_rows: Rows whose loss decides which epoch is best and when to stop; None: the settings decide.
        learning_rates: One learning rate per epoch, which also sets the number of epochs; None: as the settings say.
        on_epoch: Called after each epoch with its number, from 1, and its loss.
        on_history: Called after each epoch with the name of the fit ("" for the one that gives the model) and its
            history so far.
        checkpoint: Where the fit saves its state after an epoch, and from which it resumes.
        name: The name of the model in a progress bar of the fit itself.
        quiet: Whether to hide such a bar.
        execution: Where a fit that holds out folds itself does the fits of the folds; None: in this process.
    """

    validation_rows: Rows | None = None
    learning_rates: Sequence[float] | None = None
    on_epoch: Callable[[int, float], None] | None = None
    on_history: Callable[[str, History], None] | None = None
    checkpoint: Checkpoint | None = None
    name: str = ""
    quiet: bool = True
    execution: Execution | None = None


NO_CONTROL = FitControl()


class ModelFamily(ABC):
    """A model that learns from good parts.

    Attributes:
        Options: The settings that only this family has (``model_training.model_options``). The default has none.
        Specification: What the model is built from. A family that stores values found by a fit derives its own class.
        has_epochs: Whether a fit has epochs and reports them to ``FitControl.on_epoch``.
        has_weights: Whether the weights of an epoch can be written and loaded (``write_weights``, ``load_weights``).
        spec: The specification of this model. A fit may replace it, with the values that it found.
        options: The checked ``model_options``, an instance of ``Options``.
    """

    Options: ClassVar[type[BaseModel]] = Section
    Specification: ClassVar[type[ModelSpecification]] = ModelSpecification
    has_epochs: ClassVar[bool] = False
    has_weights: ClassVar[bool] = False

    spec: ModelSpecification
    options: BaseModel

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet.

        Args:
            specification: The content of ``metadata/model_training.yaml``, or a ``ModelSpecification``.

        Raises:
            ModelError: The specification lacks a key.
            ConfigError: The settings do not fit the family.
        """
        self.spec = self.Specification.read(specification)
        self.options = checked_options(type(self), self.spec)

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Prepare this process (threads, devices) before the first model.

        Returns:
            The settings in effect, as JSON values; they are stored with the model.
        """
        return {}

    @property
    def loss_name(self) -> str:
        """The name of the loss in the figure of a fit's history."""
        return self.spec.loss_function

    @property
    def folds_are_cheap(self) -> bool:
        """Whether the model is fitted once per fold (cross-validation), or only once with a held-out part."""
        return False

    @property
    def leaves_one_out(self) -> bool:
        """Whether one fit also gives the error of each part as a model without it would (``left_out_error``)."""
        return False

    def check(self) -> None:
        """Raise the error that a fit would raise for its settings. Called before any work is done."""
        return

    def prepare_fits(self, inputs: InputSet, row_sets: Sequence[Rows]) -> None:
        """Compute once what several fits share. Called before the first fit, with the rows of every fit.

        On a cluster each worker calls it, and then does some of the fits: what one fit finds, the others do not see.
        """
        return

    @abstractmethod
    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn the good parts ``inputs[rows]``. Each call is a new fit: it does not continue an earlier one.

        Args:
            inputs: All good parts.
            rows: The rows to learn from.
            masks: The consensus mask of each type, (T, H, W).
            control: What controls a fit by epochs.
        """

    @abstractmethod
    def save(self, folder: Path) -> list[Path]:
        """Write the model's files into ``folder``; return them."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model.

        Raises:
            ModelError: A file is missing, damaged, or does not match the specification.
        """

    def write_weights(self, path: Path) -> None:
        """Write the current weights; ``path`` ends in ``.weights.h5``.

        Raises:
            ModelError: The family has no weights (``has_weights``).
        """
        raise ModelError(f"{self.spec.model} has no weights that can be written")

    def load_weights(self, path: str | Path) -> None:
        """Load weights that ``write_weights`` wrote.

        Raises:
            ModelError: The family has no weights (``has_weights``), or the file does not match the model.
        """
        raise ModelError(f"{self.spec.model} has no weights that can be loaded")


class AnomalyModel(ModelFamily, Predictor):
    """A model family that shows where a part differs from good parts."""

    def left_out_error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The error of parts that the model was fitted on, each as by a model that was fitted without it.

        Only for a family whose formulas give it from one fit (``leaves_one_out``); it needs no folds then. Called after
        ``fit`` and before ``save``.
        """
        raise NotImplementedError


def family_named(name: str) -> type[ModelFamily]:
    """Import the family with this name (``model_training.model``).

    Raises:
        ConfigError: No family has this name, or its package cannot be imported.
    """
    require_for_model(name)
    with without_tensorflow_messages():
        family: type[ModelFamily] = MODELS.load(name)
    return family


def anomaly_family_named(name: str) -> type[AnomalyModel]:
    """Import the family with this name, for a task that needs an ``AnomalyModel``.

    Raises:
        ConfigError: No family has this name, its package cannot be imported, or it gives no error map.
    """
    family = family_named(name)
    if not issubclass(family, AnomalyModel):
        raise _gives_no_map(name)
    return family


def as_anomaly_model(model: ModelFamily) -> AnomalyModel:
    """Return ``model``, which must be an ``AnomalyModel``.

    Raises:
        ConfigError: The model gives no error map.
    """
    if not isinstance(model, AnomalyModel):
        raise _gives_no_map(model.spec.model)
    return model


def checked_options(family: type[ModelFamily], settings: ModelTraining) -> BaseModel:
    """Check ``model_options`` for a family, and fill in the family's defaults.

    Raises:
        ConfigError: The family does not have an option, or does not accept its value.
    """
    try:
        return family.Options.model_validate(settings.model_options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["model_training.model_options", *map(str, first["loc"])])
        known = ", ".join(family.Options.model_fields) or "none"
        raise ConfigError(
            f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}; the options of {settings.model} are: {known}"
        ) from error


def check_weights(path: Path, arrays: Iterable[NDArray[Any]]) -> None:
    """Check weights that were loaded from ``path``.

    Raises:
        ModelError: A value is no number, or not finite, or all values are 0.
    """
    is_zero = True
    for values in arrays:
        check_finite(path, values)
        is_zero = is_zero and not values.any()
    if is_zero:
        raise ModelError(f"{path} is damaged: all its values are 0; run train again")


def check_finite(path: Path, values: NDArray[Any]) -> None:
    """Raise ModelError if a value of an array that was loaded from ``path`` is no number, or not finite."""
    if values.dtype.kind not in "fiu":
        raise ModelError(f"{path} is damaged: it holds {values.dtype} in place of numbers; run train again")
    if not np.isfinite(values).all():
        raise ModelError(f"{path} is damaged: it holds values that are not finite; run train again")


def type_indices(inputs: InputSet, types: Sequence[str]) -> Rows:
    """The index of each row's type in the model's ``types``, (N,); all 0 for a model of one type.

    Raises:
        ModelError: The inputs have other types than the model, or do not name the type of each row.
    """
    trained_types = tuple(types)
    trained = f"(trained: {', '.join(trained_types)})"
    if inputs.labels is None:
        if len(trained_types) > 1:
            raise ModelError(f"the inputs do not name the type of each part {trained}")
        return np.zeros(len(inputs), np.intp)
    if inputs.types != trained_types:
        unknown = [name for name in inputs.types if name not in trained_types]
        problem = f"type {unknown[0]} was never trained" if unknown else f"the types {inputs.types} are not the model's"
        raise ModelError(f"{problem} {trained}")
    return np.asarray(inputs.labels.argmax(1), np.intp)


def _gives_no_map(name: str) -> ConfigError:
    return ConfigError(
        f"model_training.model: {name} does not show where a part differs from good parts, which this task needs; "
        "choose another model"
    )
