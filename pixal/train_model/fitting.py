"""Run a Keras fit: early stopping, best weights, history, data in memory or streamed, the custom training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.train_model.family import History, Rows

if TYPE_CHECKING:
    from pixal.train_model.autoencoder import Autoencoder

ACCURACY_TOLERANCE = 0.02  # of the input's range: a value reconstructed within it counts as accurate
_ACCURACY_SAMPLE = 2048  # values an image
_CHECKPOINT_EPOCHS = 25


class Data(Protocol):
    """Training data: how many rows there are, and any of them as (inputs, targets)."""

    def __len__(self) -> int: ...

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """The inputs (an array, or a list of them) and the targets of ``rows``."""


def run_fit(
    model: Any,
    training: Data,
    validation: Data | None,
    *,
    epochs: int,
    batch_size: int,
    patience: int,
    min_delta: float,
    seed: int,
    accuracy: SampledAccuracy | None,
    on_epoch: Callable[[int, float], None] | None,
    checkpoint: Path | None,
) -> History:
    """Fit a compiled Keras model batch by batch, in an order drawn from ``seed``; keep the best epoch's weights.

    With ``validation`` data the best epoch is that of the least validation loss, and ``patience`` epochs without an
    improvement of ``min_delta`` end the fit (0: never). Without, the last epoch is kept. (``Model.fit`` would do the
    same at ten times the cost: building its data pipeline anew each epoch takes longer than a step of a small network.)

    Raises ConfigError where the loss is no longer finite.
    """
    history = History()
    generator = np.random.default_rng(seed)
    best_loss, best_weights, waited = np.inf, None, 0
    for epoch in range(1, epochs + 1):
        history.loss.append(_run_epoch(model.train_on_batch, model, training, batch_size, generator))
        if not np.isfinite(history.loss[-1]):
            raise ConfigError(
                f"the loss is {history.loss[-1]} in epoch {epoch}: training diverged; "
                "lower model_training.learning_rate"
            )
        if accuracy is not None:
            accuracy.measure_epoch(history)
        if on_epoch is not None:
            on_epoch(epoch, history.loss[-1])
        if checkpoint is not None and epoch % _CHECKPOINT_EPOCHS == 0:
            _save_checkpoint(model, checkpoint)
        if validation is None:
            history.best_epoch = epoch
            continue
        history.validation_loss.append(_run_epoch(model.test_on_batch, model, validation, batch_size, None))
        waited += 1
        if history.validation_loss[-1] < best_loss - min_delta:
            best_loss, waited, history.best_epoch = history.validation_loss[-1], 0, epoch
            best_weights = [variable.numpy() for variable in model.trainable_variables]
        if patience and waited >= patience:
            break
    if best_weights is not None:
        for variable, value in zip(model.trainable_variables, best_weights, strict=True):
            variable.assign(value)
    return history


def _run_epoch(
    step: Callable[..., Any], model: Any, data: Data, batch_size: int, generator: np.random.Generator | None
) -> float:
    """Run ``step`` over all rows, shuffled if there is a ``generator``; the mean loss."""
    order = np.arange(len(data)) if generator is None else generator.permutation(len(data))
    total = 0.0
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        model.reset_metrics()  # some versions of Keras do so in each step, some never
        total += float(step(*data.batch(part), return_dict=True)["loss"]) * len(part)
    return total / len(order)


def _save_checkpoint(model: Any, path: Path) -> None:
    """Write the trained weights, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"unfinished_{path.name}")
    model.save_weights(temporary)
    temporary.replace(path)


@keras.saving.register_keras_serializable("pixal")
class CoefficientLoss(keras.losses.Loss):
    """The mean squared error of images, from their coefficients in an orthonormal basis.

    y_pred: (n, k). y_true: (n, k + 2): coefficients; the squared norm of what the basis does not reach, in their units;
    and what turns a squared norm in those units into a mean over the values that count.
    """

    def __init__(self, **options: Any) -> None:
        """Nothing to set."""
        super().__init__(**({"name": "mse"} | options))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, (n,)."""
        return (ops.sum(ops.square(y_true[:, :-2] - y_pred), axis=1) + y_true[:, -2]) * y_true[:, -1]


@keras.saving.register_keras_serializable("pixal")
class TapeModel(keras.Model):
    """A Keras model with its training step written out (``use_gradient_tape``): the place to change it."""

    def train_step(self, data: Any) -> Any:
        """One batch: forward, loss, gradients, update. The same numbers as Keras's own step."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
            scaled = self.optimizer.scale_loss(loss)
        self.optimizer.apply(tape.gradient(scaled, self.trainable_weights), self.trainable_weights)
        size = tf.shape(y)[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=size)
        return self.get_metrics_result()


@dataclass(frozen=True)
class Arrays:
    """Data in memory."""

    inputs: list[NDArray[np.float32]]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """See ``Data``."""
        inputs = [values[rows] for values in self.inputs]
        return (inputs[0] if len(inputs) == 1 else inputs), self.targets[rows]


class InputRows:
    """Rows of an InputSet as data whose targets are the images themselves, read from disk where memory is short."""

    def __init__(
        self,
        inputs: InputSet,
        rows: Rows,
        labels: NDArray[np.float32],
        *,
        label_in_target: bool,
        memory_limit: float,
    ) -> None:
        """``label_in_target``: targets are (n, D + T), image and label. ``memory_limit``: GB that may be held."""
        self._data: NDArray[np.float32] = inputs.data
        self._rows, self._labels, self._label_in_target = rows, labels[rows], label_in_target
        if len(rows) * inputs.data.shape[1] * 4 <= memory_limit * 2**30:
            self._data, self._rows = np.asarray(inputs.data[rows]), np.arange(len(rows))

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """See ``Data``."""
        images, labels = np.asarray(self._data[self._rows[rows]], np.float32), self._labels[rows]
        target = np.hstack([images, labels]) if self._label_in_target else images
        return (images if labels.shape[1] == 1 else [images, labels]), target


class SampledAccuracy:
    """The share of input values reconstructed within ``ACCURACY_TOLERANCE``, on a fixed random sample of values."""

    def __init__(
        self, owner: Autoencoder, inputs: InputSet, rows: Rows, validation_rows: Rows | None, seed: int
    ) -> None:
        """``owner``: the autoencoder being fitted; the sample is drawn from ``seed``."""
        values = inputs.data.shape[1]
        drawn = np.random.default_rng(seed).choice(values, min(_ACCURACY_SAMPLE, values), replace=False)
        self._measure = owner.sampled_accuracy(inputs, np.sort(drawn))
        self._rows = (rows, validation_rows)

    def measure_epoch(self, history: History) -> None:
        """Add this epoch's accuracy to ``history``."""
        for rows, found in zip(self._rows, (history.accuracy, history.validation_accuracy), strict=True):
            if rows is not None:
                found.append(self._measure(rows))
