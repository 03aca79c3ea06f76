"""The dense autoencoder, between a fixed projection onto the subspace of the good images and its transpose."""

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
from pixal.train_model.accuracy import SampledAccuracy, share_function
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.coefficients import CoefficientLoss, coefficient_data
from pixal.train_model.data import InputRows
from pixal.train_model.family import History, ModelFamily, Rows
from pixal.train_model.fitting import TapeModel, run_fit
from pixal.train_model.hardware import set_up_tensorflow
from pixal.train_model.losses import ImageLoss, value_weights
from pixal.train_model.network import dense_autoencoder, optimizer_named
from pixal.train_model.projection import SubspaceFitter, auto_rank
from pixal.train_model.projection_layer import SubspaceProjection
from pixal.train_model.replicas import strategy
from pixal.train_model.saving import save_weights, save_whole
from pixal.train_model.schedule import learning_rate
from pixal.train_model.subspace import Fit

_ROWS = 16  # parts reconstructed at a time


class Autoencoder(ModelFamily):
    """The model family "autoencoder"; see ``pixal.train_model.family.ModelFamily``.

    >>> model = Autoencoder(params)
    >>> model.build_model(input_dim=params["input_dim"])
    >>> model.load_weights(str(weights_path))

    ``params``: the settings of ``model_training``, ``input_dim``, ``shape``, ``channels``, ``types`` and
    ``channel_weights``: what ``metadata/model_training.yaml`` holds. Once built, ``model`` is the Keras model:
    from images (n, D), in one-hot mode with labels (n, T), to their reconstructions (n, D).
    """

    def __init__(self, params: Mapping[str, Any]) -> None:
        """Nothing is built yet."""
        self.params = dict(params)
        self.model: Any = None
        self._core: Any = None
        self._projection: Any = None
        self._trained: Any = None
        self._share: Any = None
        self._fitter: SubspaceFitter | None = None
        self._beginning: list[tuple[Any, Any]] = []

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow as the settings say; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    @property
    def folds_are_cheap(self) -> bool:
        """With the projection a fit takes seconds; with a plain dense network of 10⁸ weights not."""
        return bool(self.params["input_projection"] == "auto")

    def build_model(self, input_dim: int) -> Any:
        """Build the Keras model for images of ``input_dim`` values; return it.

        Raises ModelError for incomplete params.
        """
        try:
            self.model = self._build(input_dim)
        except KeyError as error:
            raise ModelError(f"params lack {error}; they are what metadata/model_training.yaml holds") from error
        return self.model

    def _build(self, input_dim: int) -> Any:
        p = self.params
        types = self._types
        image = keras.Input((input_dim,), name="image")
        label = keras.Input((types,), name="label") if types > 1 else None
        inputs = [image] if label is None else [image, label]
        if p["input_projection"] == "none":
            self._core = dense_autoencoder(input_dim, types, p["output_activation"], p)
            self._projection = None
            output = self._core(inputs)
        else:
            rank = p.get("projection_rank")
            if not rank:
                raise ModelError("projection_rank is not set; metadata of a trained model holds it")
            self._projection = SubspaceProjection(
                input_dim, rank, types, p["output_activation"], on_cpu=p["HYBRID_MODE"], name="projection"
            )
            self._core = dense_autoencoder(rank, types, "linear", p)
            coefficients = self._projection(image, label)
            output = self._projection(self._core([coefficients, *inputs[1:]]), label, inverse=True)
        return keras.Model(inputs, output, name=p["model_name"].replace(".", "_"))

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

    def expect(self, inputs: InputSet, row_sets: Sequence[Rows]) -> None:
        """Share among the fits to come what their subspaces have in common; see ``ModelFamily.expect``."""
        if self.params["input_projection"] != "none":
            self._fitter = SubspaceFitter(inputs, self._labels(inputs), self.params["memory_limit"])
            self._fitter.expect(row_sets)

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
        """Learn good parts; see ``ModelFamily.fit``.

        Where the loss is the mean squared error it is computed, exactly, from coefficients alone: what lies outside the
        subspace no decoder can change, so it enters as a constant of each image.
        """
        p = self.params
        labels = self._labels(inputs)
        masked = p["masked_loss"] or p["loss_function"] == "masked_mse"
        weights = value_weights(masks[: self._types], p["channel_weights"], masked=masked)
        subspace = self._fit_subspace(inputs, labels, rows)
        in_coefficients = subspace is not None and self._is_quadratic(weights)
        trained = self._untrained(inputs.data.shape[1], in_coefficients, weights)
        if subspace is not None:
            self._projection.set_subspace(subspace.subspace)
        data: list[Any] = [None, None]
        for index, part in enumerate((rows, validation_rows)):
            if part is not None and subspace is not None and in_coefficients:
                counted = np.full(self._types, inputs.data.shape[1]) if weights is None else (weights > 0).sum(1)
                data[index] = coefficient_data(subspace, part, labels, counted)
            elif part is not None:
                with_label = weights is not None and self._types > 1
                data[index] = InputRows(
                    inputs, part, labels, label_in_target=with_label, memory_limit=p["memory_limit"]
                )
        accuracy: SampledAccuracy | None = None
        if p["metric_accuracy"]:
            validation = {"rows": rows, "validation_rows": validation_rows, "seed": p["seed"]}
            accuracy = SampledAccuracy(self._share, self._projection, inputs, labels, **validation)
        return run_fit(
            trained,
            data[0],
            data[1],
            epochs=p["n_epochs"] if learning_rates is None else len(learning_rates),
            rate=partial(learning_rate, p) if learning_rates is None else lambda past: learning_rates[len(past.loss)],
            batch_size=p["batchsize"],
            patience=p["patience"] if learning_rates is None else 0,
            min_delta=p["min_delta"],
            seed=p["seed"],
            accuracy=accuracy,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )

    def _fit_subspace(self, inputs: InputSet, labels: NDArray[np.float32], rows: Rows) -> Fit | None:
        """The subspace of ``inputs[rows]``, and where all parts lie in it; None without a projection."""
        p = self.params
        if p["input_projection"] == "none":
            return None
        p["projection_rank"] = p.get("projection_rank") or auto_rank(len(rows), self._types)
        if self._fitter is None or self._fitter.inputs is not inputs:
            self._fitter = SubspaceFitter(inputs, labels, p["memory_limit"])
        return self._fitter.fit([rows], p["projection_rank"])[0]

    def _untrained(self, input_dim: int, in_coefficients: bool, weights: NDArray[np.float32] | None) -> Any:
        """The compiled Keras model to train, as it was before any training.

        It shares its layers with ``model``, which is never compiled: the optimizer stays out of the saved files.
        Tracing takes longer than training a small network, so that one is put back to its first weights.
        """
        keras.utils.set_random_seed(self.params["seed"])
        if self._beginning:
            for variable, value in self._beginning:
                variable.assign(value)
            return self._trained
        replicas = strategy(self.params["gpus"])
        with replicas.scope():
            self._trained = self._compiled(input_dim, in_coefficients, weights, replicas.num_replicas_in_sync > 1)
        if self.folds_are_cheap:
            variables = [*self._trained.variables, *self._trained.optimizer.variables]
            self._beginning = [(variable, variable.numpy()) for variable in variables]
        self._share = share_function(self._core, None if self._projection is None else self._projection.activation)
        return self._trained

    def _compiled(
        self, input_dim: int, in_coefficients: bool, weights: NDArray[np.float32] | None, shared: bool
    ) -> Any:
        """A new model, and around it the one to train. ``shared``: by several replicas, as ``TapeModel`` alone can."""
        p = self.params
        self.build_model(input_dim)
        whole = self._core if in_coefficients else self.model
        model = (TapeModel if shared or p["use_gradient_tape"] else keras.Model)(whole.inputs, whole.outputs)
        loss = CoefficientLoss() if in_coefficients else ImageLoss(p["loss_function"], p["huber_delta"], weights)
        model.compile(optimizer=optimizer_named(p["optimizer"], p["learning_rate"]), loss=loss, jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        return model

    def reconstruct(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reconstructions (n, D) of images (n, D) with labels (n, T)."""
        if self.model is None:
            raise ModelError("the model is neither trained nor loaded")
        inputs = [images] if self._types == 1 else [images, labels]
        return np.asarray(self.model(inputs, training=False), np.float32)

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, H, W, C)."""
        index = np.arange(len(inputs))[rows]
        labels = self._labels(inputs)
        errors = np.empty((len(index), *inputs.shape), np.float32)
        for start in range(0, len(index), _ROWS):
            part = index[start : start + _ROWS]
            images = inputs.rows(part)
            difference = images - self.reconstruct(images, labels[part])
            errors[start : start + _ROWS] = difference.reshape(-1, *inputs.shape)
        return errors

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """What the encoder makes of parts: (n, L), L the last of ``autoencoder_architecture``."""
        if self.model is None:
            raise ModelError("the model is neither trained nor loaded")
        encoder = keras.Model(self._core.inputs[0], self._core.get_layer("latent").output)
        index = np.arange(len(inputs))[rows]
        labels = self._labels(inputs)
        found = [np.zeros((0, self.params["autoencoder_architecture"][-1]), np.float32)]
        for start in range(0, len(index), _ROWS):
            part = index[start : start + _ROWS]
            images = inputs.rows(part)
            values = images if self._projection is None else self._projection(images, labels[part])
            found.append(np.asarray(encoder(values, training=False), np.float32))
        return np.concatenate(found)

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras`` and ``MODEL.weights.h5``; the same model gives the same bytes."""
        name = self.params["model_name"]
        whole = folder / f"{name}.{self.params['model_file_extension']}"
        weights = folder / f"{name}.weights.h5"
        save_whole(self.model, whole)
        save_weights(self.model, weights)
        return [whole, weights]

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Autoencoder:
        """Rebuild from metadata and weights. Raises ModelError when something is missing or does not match."""
        found = cls(params)
        try:
            found.build_model(input_dim=params["input_dim"])
        except KeyError as error:
            raise ModelError(f"the metadata of the model in {folder} lacks {error}; run train again") from error
        found.load_weights(folder / f"{params['model_name']}.weights.h5")
        return found

    @property
    def _types(self) -> int:
        return max(1, len(self.params.get("types") or ())) if self.params["one_hot_encoding"] else 1

    def _labels(self, inputs: InputSet) -> NDArray[np.float32]:
        """Labels (N, T) of the parts. Raises ModelError for types that are not those of the model, in their order."""
        known = tuple(self.params.get("types") or ())
        if inputs.types != known and (inputs.types or self._types > 1):
            unseen = [name for name in inputs.types if name not in known]
            what = f"type {unseen[0]} was never trained" if unseen else f"the types {inputs.types} are not the model's"
            raise ModelError(f"{what} (trained: {', '.join(known)})")
        return np.ones((len(inputs), 1), np.float32) if self._types == 1 else np.asarray(inputs.labels)

    def _is_quadratic(self, weights: NDArray[np.float32] | None) -> bool:
        p = self.params
        return (
            p["loss_function"] in ("mse", "masked_mse")
            and p["output_activation"] == "linear"
            and len(set(p["channel_weights"])) == 1
            # One type's components reach beside another's mask, where a masked loss does not look.
            and (weights is None or bool(np.all(weights == weights[0])))
        )
