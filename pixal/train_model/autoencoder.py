"""The dense autoencoder, between a fixed projection onto the subspace of the good images and its transpose."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from pixal.errors import ConfigError, ModelError
from pixal.inputs import InputSet
from pixal.train_model.family import History, Rows
from pixal.train_model.fitting import (
    ACCURACY_TOLERANCE,
    Arrays,
    CoefficientLoss,
    InputRows,
    SampledAccuracy,
    TapeModel,
    run_fit,
)
from pixal.train_model.losses import ImageLoss
from pixal.train_model.projection import Subspace, auto_rank, fit_subspace

_ROWS = 16  # parts reconstructed at a time


@keras.saving.register_keras_serializable("pixal")
class SubspaceProjection(layers.Layer):
    """Coefficients of images in a fixed subspace, and images from coefficients; nothing here is trained.

    Called with images (n, D) it gives coefficients (n, k); with ``inverse=True`` and coefficients (n, k), images. The
    ``activation`` of the images is applied about the mean, with its slope there divided out: for small deviations every
    activation reconstructs alike, and its bounds hold for large ones.
    """

    def __init__(
        self,
        input_dim: int,
        rank: int,
        types: int = 1,
        activation: str = "linear",
        on_cpu: bool = False,
        **options: Any,
    ) -> None:
        """``types``: how many labels there are, each with a mean of its own. ``on_cpu``: keep the basis off the GPU."""
        # get_config holds both of them, so they come back in options when a model is loaded.
        super().__init__(**(options | {"dtype": "float32", "trainable": False}))
        self.input_dim, self.rank, self.types = input_dim, rank, types
        self.activation, self.on_cpu = activation, on_cpu
        self.mean = self.add_weight(shape=(types, input_dim), initializer="zeros", trainable=False, name="mean")
        self.basis = self.add_weight(shape=(rank, input_dim), initializer="zeros", trainable=False, name="basis")
        self.scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")
        self.built = True

    def call(self, values: Any, label: Any = None, inverse: bool = False) -> Any:
        """Project ``values``, or (``inverse``) give images back; ``label`` (n, T) picks the mean."""
        with tf.device("CPU:0" if self.on_cpu else None):
            mean = self.mean if label is None else ops.matmul(label, self.mean)
            if not inverse:
                return ops.matmul(values - mean, ops.transpose(self.basis)) / self.scale
            return _activated(mean, ops.matmul(values * self.scale, self.basis), self.activation)

    def set_subspace(self, subspace: Subspace) -> None:
        """Take over a fitted subspace."""
        self.mean.assign(subspace.mean)
        self.basis.assign(subspace.basis)
        self.scale.assign(subspace.scale)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build the layer again."""
        names = ("input_dim", "rank", "types", "activation", "on_cpu")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}


class Autoencoder:
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
        self._beginning: list[tuple[Any, Any]] = []

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
            self._core = self._network(input_dim, p["output_activation"])
            self._projection = None
            output = self._core(inputs)
        else:
            rank = p.get("projection_rank")
            if not rank:
                raise ModelError("projection_rank is not set; metadata of a trained model holds it")
            self._projection = SubspaceProjection(
                input_dim, rank, types, p["output_activation"], on_cpu=p["HYBRID_MODE"], name="projection"
            )
            self._core = self._network(rank, "linear")
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

    def fit(
        self,
        inputs: InputSet,
        rows: Rows,
        masks: NDArray[np.bool_],
        *,
        validation_rows: Rows | None = None,
        epochs: int | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
        checkpoint: Path | None = None,
    ) -> History:
        """Learn good parts; see ``ModelFamily.fit``.

        Where the loss is the mean squared error it is computed, exactly, from coefficients alone: what lies outside the
        subspace no decoder can change, so it enters as a constant of each image.
        """
        p = self.params
        labels = _labels(inputs)
        subspace: Subspace | None = None
        if p["input_projection"] == "auto":
            p["projection_rank"] = p.get("projection_rank") or auto_rank(len(rows), self._types)
            subspace = fit_subspace(inputs, rows, labels[rows], p["projection_rank"])
        weights = self._value_weights(masks)
        in_coefficients = subspace is not None and self._is_quadratic(weights)
        trained = self._untrained(inputs.data.shape[1], in_coefficients, weights)
        data: list[Any]
        if subspace is not None:
            self._projection.set_subspace(subspace)
        if subspace is not None and in_coefficients:
            counted = np.full(self._types, inputs.data.shape[1]) if weights is None else (weights > 0).sum(1)
            data = [_coefficient_data(inputs, part, labels, subspace, counted) for part in (rows, validation_rows)]
        else:
            with_label = weights is not None and self._types > 1
            limit = float(p.get("memory_limit", np.inf))
            data = [
                None
                if part is None
                else InputRows(inputs, part, labels, label_in_target=with_label, memory_limit=limit)
                for part in (rows, validation_rows)
            ]
        accuracy = SampledAccuracy(self, inputs, rows, validation_rows, p["seed"]) if p["metric_accuracy"] else None
        return run_fit(
            trained,
            data[0],
            data[1],
            epochs=epochs or p["n_epochs"],
            batch_size=p["batchsize"],
            patience=p["patience"] if epochs is None else 0,
            min_delta=p["min_delta"],
            seed=p["seed"],
            accuracy=accuracy,
            on_epoch=on_epoch,
            checkpoint=checkpoint,
        )

    def _untrained(self, input_dim: int, in_coefficients: bool, weights: NDArray[np.float32] | None) -> Any:
        """The compiled Keras model to train, as it was before any training.

        Tracing takes longer than training a small network, so a model that is there is put back to its first weights.
        """
        keras.utils.set_random_seed(self.params["seed"])
        if self._trained is not None:
            for variable, value in self._beginning:
                variable.assign(value)
            return self._trained
        self.build_model(input_dim)
        p = self.params
        model = self._core if in_coefficients else self.model
        if p["use_gradient_tape"]:
            model = TapeModel(model.inputs, model.outputs)
        loss = CoefficientLoss() if in_coefficients else ImageLoss(p["loss_function"], p["huber_delta"], weights)
        model.compile(optimizer=_optimizer(p["optimizer"], p["learning_rate"]), loss=loss, jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        variables = [*model.variables, *model.optimizer.variables]
        self._beginning = [(variable, variable.numpy()) for variable in variables]
        self._trained = model
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
        labels = _labels(inputs)
        errors = np.empty((len(index), *inputs.shape), np.float32)
        for start in range(0, len(index), _ROWS):
            part = index[start : start + _ROWS]
            images = np.asarray(inputs.data[part], np.float32)
            difference = images - self.reconstruct(images, labels[part])
            errors[start : start + _ROWS] = difference.reshape(-1, *inputs.shape)
        return errors

    def sampled_accuracy(self, inputs: InputSet, columns: Rows) -> Callable[[Rows], float]:
        """A function of rows: the share of their values in ``columns`` that are now reconstructed within tolerance."""
        labels = _labels(inputs)
        known: dict[bytes, Any] = {}

        def prepare(rows: Rows) -> Any:
            images = [
                np.asarray(inputs.data[part], np.float32) for part in np.array_split(rows, -(-len(rows) // _ROWS))
            ]
            truth = np.concatenate([block[:, columns] for block in images])
            if self._projection is None:
                return truth, [np.concatenate(images), labels[rows]]
            blocks = np.array_split(labels[rows], len(images))
            return truth, [
                np.concatenate([self._projection(i, b).numpy() for i, b in zip(images, blocks, strict=True)]),
                labels[rows],
            ]

        if self._projection is not None:  # fixed, so gathered once
            means = tf.gather(self._projection.mean, columns, axis=1)
            basis = tf.gather(self._projection.basis, columns, axis=1) * self._projection.scale

        def predict(values: Any, label: Any) -> Any:
            found = self._core(values if self._types == 1 else [values, label], training=False)
            if self._projection is None:
                return tf.gather(found, columns, axis=1)
            return _activated(label @ means, found @ basis, self._projection.activation)

        compiled = tf.function(predict)

        def measure(rows: Rows) -> float:
            if rows.tobytes() not in known:
                known[rows.tobytes()] = prepare(rows)
            truth, values = known[rows.tobytes()]
            return float(np.mean(np.abs(compiled(*values).numpy() - truth) <= ACCURACY_TOLERANCE))

        return measure

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras`` and ``MODEL.weights.h5``."""
        folder.mkdir(parents=True, exist_ok=True)
        name = self.params["model_name"]
        whole = folder / f"{name}.{self.params['model_file_extension']}"
        weights = folder / f"{name}.weights.h5"
        for path, write in ((whole, self.model.save), (weights, self.model.save_weights)):
            # Keras asks for these endings, so the temporary file carries them too.
            temporary = path.with_name(f"unfinished_{path.name}")
            write(temporary)
            temporary.replace(path)
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

    def _network(self, width: int, activation: str) -> Any:
        """The trained part: encoder, latent (joined by the label's own), mirrored decoder."""
        p = self.params
        sizes = p["autoencoder_architecture"]
        kind = p["regularization"] or ""
        l1, l2 = (p[f"{name}_regularization"] if name in kind else 0.0 for name in ("l1", "l2"))
        penalty = keras.regularizers.L1L2(l1, l2) if kind else None
        values = keras.Input((width,), name="values")
        inputs = [values]
        hidden = layers.GaussianNoise(p["input_noise"], seed=p["seed"])(values) if p["input_noise"] else values
        for index, size in enumerate(sizes):
            name = "latent" if index == len(sizes) - 1 else f"encoder_{index + 1}"
            hidden = layers.Dense(size, activation="relu", kernel_regularizer=penalty, name=name)(hidden)
        if self._types > 1:
            inputs.append(keras.Input((self._types,), name="label"))
            label = layers.Dense(p["label_latent_size"], activation="relu", name="label_latent")(inputs[1])
            hidden = layers.Concatenate(name="joined_latent")([hidden, label])
        for index, size in enumerate(reversed(sizes[:-1])):
            hidden = layers.Dense(size, activation="relu", kernel_regularizer=penalty, name=f"decoder_{index + 1}")(
                hidden
            )
        # float32 whatever the precision of the rest: the last digits are what tells good from bad.
        output = layers.Dense(width, activation=activation, dtype="float32", name="output")(hidden)
        return keras.Model(inputs, output, name="core")

    def _is_quadratic(self, weights: NDArray[np.float32] | None) -> bool:
        p = self.params
        return (
            p["loss_function"] in ("mse", "masked_mse")
            and p["output_activation"] == "linear"
            and len(set(p["channel_weights"])) == 1
            # One type's components reach beside another's mask, where a masked loss does not look.
            and (weights is None or bool(np.all(weights == weights[0])))
        )

    def _value_weights(self, masks: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        """(T, D) weights of the loss from channel weights and, for a masked loss, the part's mask; None: all alike."""
        p = self.params
        masked = p["masked_loss"] or p["loss_function"] == "masked_mse"
        if not masked and len(set(p["channel_weights"])) == 1:
            return None
        channel = np.asarray(p["channel_weights"], np.float32)
        inside = masks if masked else np.ones_like(masks)
        weights = (inside[..., None] * channel).reshape(len(masks), -1).astype(np.float32)
        if self._types == 1:
            weights = weights[:1]
        return np.asarray(weights / weights.mean(1, keepdims=True), np.float32)


def _activated(mean: Any, deviation: Any, activation: str) -> Any:
    if activation == "linear":
        return mean + deviation
    if activation == "relu":
        return ops.relu(mean + deviation)
    edge = 1e-3  # values at the very ends have no finite inverse
    if activation == "sigmoid":
        inner = ops.clip(mean, edge, 1 - edge)
        return ops.sigmoid(ops.log(inner / (1 - inner)) + deviation / (inner * (1 - inner)))
    inner = ops.clip(mean, 0.0, 1 - edge)
    return ops.tanh(ops.arctanh(inner) + deviation / (1 - inner * inner))


def _labels(inputs: InputSet) -> NDArray[np.float32]:
    return np.ones((len(inputs), 1), np.float32) if inputs.labels is None else inputs.labels


def _coefficient_data(
    inputs: InputSet,
    rows: Rows | None,
    labels: NDArray[np.float32],
    subspace: Subspace,
    counted: NDArray[np.int_],
) -> Arrays | None:
    """Inputs and targets of the core, as ``CoefficientLoss`` reads them; ``counted`` (T,): values that count."""
    if rows is None:
        return None
    coefficients = np.empty((len(rows), len(subspace.basis)), np.float32)
    rest = np.empty((len(rows), 1), np.float32)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        images, label = np.asarray(inputs.data[part], np.float32), labels[part]
        found = subspace.coefficients(images, label)
        coefficients[start : start + _ROWS] = found
        outside = images - label @ subspace.mean - found @ subspace.basis * np.float32(subspace.scale)
        rest[start : start + _ROWS, 0] = np.einsum("nd,nd->n", outside, outside) / subspace.scale**2
    share = (labels[rows] @ (subspace.scale**2 / counted))[:, None].astype(np.float32)
    target = np.hstack([coefficients, rest, share])
    return Arrays([coefficients] if labels.shape[1] == 1 else [coefficients, labels[rows]], target)


def _optimizer(name: str, learning_rate: float) -> Any:
    try:
        optimizer = keras.optimizers.get({"class_name": name, "config": {"learning_rate": learning_rate}})
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"model_training.optimizer: Keras knows no optimizer {name!r}; try adam, sgd or rmsprop"
        ) from error
    return optimizer
