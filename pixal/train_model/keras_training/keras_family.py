"""What the families that Keras trains have in common: labels, weights of the loss, the fit itself, blocks, files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import NOT_FITTED, History, ModelFamily, Rows, type_numbers
from pixal.train_model.keras_training.accuracy import Accuracy
from pixal.train_model.keras_training.by_name import optimizer_named
from pixal.train_model.keras_training.data import Data
from pixal.train_model.keras_training.fitting import TapeModel, run_fit
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.keras_training.losses import value_weights
from pixal.train_model.keras_training.saving import save_weights, save_whole
from pixal.train_model.keras_training.schedule import learning_rate


class KerasFamily(ModelFamily):
    """Base of the families that Keras trains; see ``pixal.train_model.family.ModelFamily``.

    A family writes ``_build``, ``residual``, ``encode`` and ``fit``, which calls ``_run``. Once built, ``model`` is the
    Keras model whose weights are saved.
    """

    has_epochs = True

    def __init__(self, params: Mapping[str, Any]) -> None:
        """Nothing is built yet."""
        self.params = dict(params)
        self.model: Any = None

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow as the settings say; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    def build_model(self, input_dim: int) -> Any:
        """Build the Keras model for images of ``input_dim`` values; return it.

        Raises ModelError for incomplete params.
        """
        try:
            self.model = self._build(input_dim)
        except KeyError as error:
            raise ModelError(f"params lack {error}; they are what metadata/model_training.yaml holds") from error
        return self.model

    def load_weights(self, path: str | Path) -> None:
        """Load a ``.weights.h5`` into the built model. Raises ModelError when it does not fit."""
        if self.model is None:
            raise ModelError("build_model comes before load_weights")
        try:
            with warnings.catch_warnings():
                # Keras would go on with random weights for what a file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                self.model.load_weights(path)
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (OSError, ValueError, KeyError, UserWarning) as error:
            raise ModelError(
                f"{path} does not match this model: {str(error).splitlines()[0]}; run train again"
            ) from error

    def write_weights(self, path: Path) -> None:
        """Write the weights of now, ``path`` ending in ``.weights.h5``."""
        save_weights(self._built, path)

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, H, W, C)."""
        index = np.arange(len(inputs))[rows]
        labels = self._labels(inputs)
        errors = np.empty((len(index), *inputs.shape), np.float32)
        start = 0
        for part in inputs.iterate_chunks(index):
            found = self.residual(inputs.rows(part), labels[part])
            errors[start : start + len(part)] = found.reshape(-1, *inputs.shape)
            start += len(part)
        return errors

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """What the encoder makes of parts, (n, L)."""
        index = np.arange(len(inputs))[rows]
        labels = self._labels(inputs)
        parts = list(inputs.iterate_chunks(index)) or [index]  # of no part: what tells how long a latent is
        return np.concatenate([self.encode(inputs.rows(part), labels[part]) for part in parts])

    def residual(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What ``error`` gives of images (n, D) with labels (n, T): (n, D)."""
        raise NotImplementedError

    def encode(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What ``latent`` gives of images (n, D) with labels (n, T): (n, L)."""
        raise NotImplementedError

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras`` and ``MODEL.weights.h5``; the same model gives the same bytes."""
        name = self.params["model_name"]
        whole = folder / f"{name}.{self.params['model_file_extension']}"
        weights = folder / f"{name}.weights.h5"
        save_whole(self.model, whole)
        save_weights(self.model, weights)
        return [whole, weights]

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> KerasFamily:
        """Rebuild from metadata and weights. Raises ModelError when something is missing or does not match."""
        found = cls(params)
        try:
            found.build_model(input_dim=params["input_dim"])
        except KeyError as error:
            raise ModelError(f"the metadata of the model in {folder} lacks {error}; run train again") from error
        found.load_weights(folder / f"{params['model_name']}.weights.h5")
        found._load_more(folder)
        return found

    def _load_more(self, folder: Path) -> None:
        """Load what a family saves besides its weights."""
        return

    def _build(self, input_dim: int) -> Any:
        """The Keras model, its weights yet to be trained or loaded."""
        raise NotImplementedError

    @property
    def _built(self) -> Any:
        """The Keras model. Raises ModelError where there is none."""
        if self.model is None:
            raise ModelError(NOT_FITTED)
        return self.model

    def _compile(self, model: Any, loss: Any, *, shared: bool) -> Any:
        """A model to train, of the layers of ``model``. ``shared``: by several replicas, as ``TapeModel`` alone can."""
        p = self.params
        kind = TapeModel if shared or p["use_gradient_tape"] else keras.Model
        trained = kind(model.inputs, model.outputs)
        optimizer = optimizer_named(p["optimizer"], p["learning_rate"])
        trained.compile(optimizer=optimizer, loss=loss, jit_compile=False)
        # Keras turns XLA off where results are to be repeatable, for operations that these networks do not have.
        trained._jit_compile = p["jit_compile"]
        trained.optimizer.build(trained.trainable_variables)
        return trained

    def _run(
        self,
        trained: Any,
        training: Data,
        validation: Data | None,
        *,
        learning_rates: Sequence[float] | None,
        accuracy: Accuracy | None,
        on_epoch: Callable[[int, float], None] | None,
        checkpoint: Checkpoint | None,
        batch_size: int | None = None,
    ) -> History:
        """Fit the compiled model ``trained`` as the settings say, or ``learning_rates``; see ``ModelFamily.fit``.

        ``batch_size``: in place of the settings'.
        """
        p = self.params
        return run_fit(
            trained,
            training,
            validation,
            epochs=p["n_epochs"] if learning_rates is None else len(learning_rates),
            rate=partial(learning_rate, p) if learning_rates is None else lambda past: learning_rates[len(past.loss)],
            batch_size=batch_size or p["batchsize"],
            patience=p["patience"] if learning_rates is None else 0,
            min_delta=p["min_delta"],
            seed=p["seed"],
            accuracy=accuracy,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )

    @property
    def loss_name(self) -> str:
        """See ``ModelFamily.loss_name``."""
        return "negative log-likelihood" if self._is_gaussian else super().loss_name

    @property
    def _is_gaussian(self) -> bool:
        """Whether the network gives a standard deviation with each value."""
        return bool((self.params.get("model_options") or {}).get("output") == "gaussian")

    @property
    def _types(self) -> int:
        return max(1, len(self.params.get("types") or ())) if self.params["one_hot_encoding"] else 1

    @property
    def _is_masked(self) -> bool:
        """Whether the loss looks at the part alone; beside it a likelihood would only learn that nothing varies."""
        p = self.params
        return bool(self._is_gaussian or p["masked_loss"] or p["loss_function"] == "masked_mse")

    def _value_weights(self, masks: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        """What each value counts in the loss, (T, D); None where all count alike."""
        return value_weights(masks[: self._types], self.params["channel_weights"], masked=self._is_masked)

    def _labels(self, inputs: InputSet) -> NDArray[np.float32]:
        """Labels (N, T) of the parts. Raises ModelError for types that are not those of the model, in their order."""
        return np.eye(self._types, dtype=np.float32)[type_numbers(inputs, self.params)]
