"""Base classes of the families that Keras trains."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.train_model.augmentation import rows_with_copies, with_copies
from pixal.train_model.family import (
    NOT_FITTED,
    AnomalyModel,
    FitControl,
    ModelFamily,
    Rows,
    check_weights,
)
from pixal.train_model.history import History
from pixal.train_model.keras_training.accuracy import Accuracy
from pixal.train_model.keras_training.data import Data
from pixal.train_model.keras_training.fitting import FitSettings, TapeModel, run_fit
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.keras_training.losses import value_weights
from pixal.train_model.keras_training.optimization import build_optimizer
from pixal.train_model.keras_training.saving import save_model, save_weights
from pixal.train_model.keras_training.schedule import learning_rate
from pixal.train_model.reconstruction import Reconstructor
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self


class KerasFamily(ModelFamily):
    """A family that Keras trains by epochs.

    A family defines ``_build`` and ``fit``, which calls ``_compile`` and ``_run``.

    Attributes:
        model: The Keras model whose weights are saved; None before it is built.
    """

    has_epochs = True
    has_weights = True

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self.model: Any = None

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow with the settings; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    def build_model(self, input_dim: int) -> Any:
        """Build the Keras model for images of ``input_dim`` values; return it.

        Raises:
            ModelError: The specification lacks a value that a fit finds.
        """
        self.model = self._build(input_dim)
        return self.model

    def write_weights(self, path: Path) -> None:
        """Write the current weights; see ``ModelFamily.write_weights``."""
        save_weights(self._built, path)

    def load_weights(self, path: str | Path) -> None:
        """Load a ``.weights.h5`` file into the built model.

        Raises:
            ModelError: The file is missing or does not match the model, or the model is not built.
        """
        if self.model is None:
            raise ModelError("call build_model before load_weights")
        try:
            with warnings.catch_warnings():
                # Otherwise Keras keeps random weights for layers that the file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                self.model.load_weights(path)
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (OSError, ValueError, KeyError, UserWarning) as error:
            raise ModelError(
                f"{path} does not match this model: {str(error).splitlines()[0]}; run train again"
            ) from error

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras`` and ``MODEL.weights.h5``. The same model gives the same bytes."""
        name = self.spec.model_name
        whole_model = folder / f"{name}.{self.spec.model_file_extension}"
        weights = folder / f"{name}.weights.h5"
        save_model(self.model, whole_model)
        save_weights(self.model, weights)
        return [whole_model, weights]

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model; see ``ModelFamily.load``."""
        loaded = cls(specification)
        loaded.build_model(input_dim=loaded.spec.input_dim)
        path = folder / f"{loaded.spec.model_name}.weights.h5"
        loaded.load_weights(path)
        check_weights(path, map(keras.ops.convert_to_numpy, loaded.model.weights))
        loaded._load_other_files(folder)
        return loaded

    def _load_other_files(self, folder: Path) -> None:
        """Load the files that a family saves besides its weights."""
        return

    @abstractmethod
    def _build(self, input_dim: int) -> Any:
        """Build the Keras model; its weights are trained or loaded later."""

    @property
    def _built(self) -> Any:
        """The Keras model. Raise ModelError if it is not built."""
        if self.model is None:
            raise ModelError(NOT_FITTED)
        return self.model

    def _compile(self, model: Any, loss: Any, *, replicated: bool) -> Any:
        """Compile a model for training that shares the layers of ``model``.

        Args:
            model: A Keras model.
            loss: A Keras loss.
            replicated: Whether several replicas train it, which only ``TapeModel`` supports.
        """
        spec = self.spec
        model_class = TapeModel if replicated or spec.use_gradient_tape else keras.Model
        trained = model_class(model.inputs, model.outputs)
        optimizer = build_optimizer(spec.optimizer, spec.learning_rate)
        trained.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        # With deterministic results Keras turns XLA off, because of operations that these networks do not have.
        trained._jit_compile = spec.jit_compile
        trained.optimizer.build(trained.trainable_variables)
        return trained

    def _run(
        self,
        trained: Any,
        training: Data,
        validation: Data | None,
        control: FitControl,
        *,
        accuracy: Accuracy | None,
        batch_size: int | None = None,
    ) -> History:
        """Fit a compiled model with the settings, or with the learning rates of ``control``.

        Args:
            trained: A model that ``_compile`` made.
            training: The training data.
            validation: The validation data, or None.
            control: See ``ModelFamily.fit``.
            accuracy: Measures the accuracy after each epoch, or None.
            batch_size: Rows per step; None: ``batchsize`` of the settings.
        """
        spec, rates = self.spec, control.learning_rates
        settings = FitSettings(
            epochs=spec.n_epochs if rates is None else len(rates),
            batch_size=batch_size or spec.batchsize,
            rate=partial(learning_rate, spec) if rates is None else lambda past: rates[len(past.loss)],
            patience=spec.patience if rates is None else 0,
            min_delta=spec.min_delta,
            seed=spec.seed,
        )
        return run_fit(
            trained,
            training,
            validation,
            settings,
            accuracy=accuracy,
            on_epoch=control.on_epoch,
            on_history=control.on_history,
            checkpoint=control.checkpoint,
        )


class KerasAnomalyModel(KerasFamily, Reconstructor, AnomalyModel):
    """A Keras family that reconstructs its input.

    A family defines ``residual`` and ``encode`` in addition to ``KerasFamily``.
    """

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self._augmented: tuple[InputSet, InputSet] | None = None  # the inputs, and the inputs with copies

    @property
    def loss_name(self) -> str:
        """See ``ModelFamily.loss_name``."""
        return "negative log-likelihood" if self._is_gaussian else super().loss_name

    @property
    @abstractmethod
    def _is_gaussian(self) -> bool:
        """Whether the network gives a standard deviation for each value."""

    @property
    def _is_masked(self) -> bool:
        """Whether the loss counts the part only. Outside, a likelihood would only learn that nothing varies."""
        spec = self.spec
        return self._is_gaussian or spec.masked_loss or spec.loss_function == "masked_mse"

    def _with_copies(self, inputs: InputSet, rows: Rows) -> tuple[InputSet, Rows]:
        """The inputs with augmented copies, and the rows with those of their copies; unchanged without copies."""
        settings = self.spec.augmentation
        if not settings.copies:
            return inputs, rows
        if self._augmented is None or self._augmented[0] is not inputs:
            self._augmented = (inputs, with_copies(inputs, settings, self.spec.seed, self.spec.memory_limit))
        return self._augmented[1], rows_with_copies(rows, len(inputs), settings.copies)

    def _value_weights(self, masks: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        """The weight of each value in the loss, (T, D); None if all weights are equal."""
        return value_weights(masks[: self._type_count], self.spec.channel_weights, masked=self._is_masked)
