"""Run a Keras fit: learning rates, early stopping, best weights, checkpoints; and the custom training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import History
from pixal.train_model.keras_training.accuracy import Accuracy
from pixal.train_model.keras_training.data import Data
from pixal.train_model.keras_training.replicas import finite_everywhere, own_share, summed


def run_fit(
    model: Any,
    training: Data,
    validation: Data | None,
    *,
    epochs: int,
    batch_size: int,
    rate: Callable[[History], float],
    patience: int,
    min_delta: float,
    seed: int,
    accuracy: Accuracy | None,
    on_epoch: Callable[[int, float], None] | None,
    checkpoint: Checkpoint | None,
) -> History:
    """Fit a compiled Keras model batch by batch, in an order drawn from ``seed``; keep the best epoch's weights.

    ``rate``: the learning rate of the epoch after those of a history. With ``validation`` data the best epoch is that
    of the least validation loss, and ``patience`` epochs without an improvement of ``min_delta`` end the fit (0:
    never). Without, the last epoch is kept. A fit that is in the ``checkpoint`` goes on from there, to the number of
    epochs that it may name. (``Model.fit`` would do the same at ten times the cost: building its data pipeline anew
    each epoch takes longer than a step of a small network.)

    Raises ConfigError where the loss is no longer finite.
    """
    if checkpoint is not None and checkpoint.until:
        epochs, patience = checkpoint.until, 0
    fit = _Fit(model, seed)
    saved = checkpoint.fit_at_work() if checkpoint is not None else None
    if saved is not None:
        fit.restore(*saved)
    history = fit.history
    while len(history.loss) < epochs and not (patience and fit.waited >= patience):
        epoch = len(history.loss) + 1
        training.start(epoch)
        history.learning_rate.append(rate(history))
        model.optimizer.learning_rate = history.learning_rate[-1]
        history.loss.append(_run_epoch(model.train_on_batch, model, training, batch_size, fit.generator))
        if not np.isfinite(history.loss[-1]):
            raise ConfigError(
                f"the loss is {history.loss[-1]} in epoch {epoch}: training diverged; "
                "lower model_training.learning_rate"
            )
        if accuracy is not None:
            accuracy.measure_epoch(history)
        if validation is None:
            history.best_epoch = epoch
        else:
            fit.judge(_run_epoch(model.test_on_batch, model, validation, batch_size, None), min_delta)
        if on_epoch is not None:
            on_epoch(epoch, history.loss[-1])
        if checkpoint is not None:
            checkpoint.epoch_done(fit.state)
    if checkpoint is not None:
        checkpoint.fit_ended(fit.state)
    fit.keep_best()
    return history


class _Fit:
    """A fit at work: the model, and all else that its next epoch depends on."""

    def __init__(self, model: Any, seed: int) -> None:
        self.history = History()
        self.generator = np.random.default_rng(seed)
        self._model = model
        self._best: list[NDArray[Any]] = []

    @property
    def waited(self) -> int:
        """Epochs since the best one."""
        return len(self.history.validation_loss) - self.history.best_epoch

    def judge(self, loss: float, min_delta: float) -> None:
        """Note an epoch's validation loss, and its weights if they are the best so far."""
        history = self.history
        best = history.validation_loss[history.best_epoch - 1] if history.best_epoch else np.inf
        history.validation_loss.append(loss)
        if loss < best - min_delta:
            history.best_epoch = len(history.validation_loss)
            self._best = [variable.numpy() for variable in self._model.trainable_variables]

    def keep_best(self) -> None:
        """Put the model back to the best epoch, where there was one."""
        if self._best:
            for variable, value in zip(self._model.trainable_variables, self._best, strict=True):
                variable.assign(value)

    def state(self) -> tuple[Iterator[tuple[str, NDArray[Any]]], dict[str, Any]]:
        """What ``restore`` needs: arrays by name, and notes."""
        notes = {
            "epoch": len(self.history.loss),
            "history": asdict(self.history),
            "generator": self.generator.bit_generator.state,
        }
        return self._arrays(), notes

    def restore(self, arrays: dict[str, NDArray[Any]], notes: dict[str, Any]) -> None:
        """Be as ``state`` says."""
        self.history = History(**notes["history"])
        self.generator.bit_generator.state = notes["generator"]
        for index, variable in enumerate(self._variables):
            variable.assign(arrays[f"variable_{index}"])
        if self.history.best_epoch and self.history.validation_loss:
            count = len(self._model.trainable_variables)
            self._best = [arrays[f"best_{index}"] for index in range(count)]

    @property
    def _variables(self) -> list[Any]:
        return [*self._model.variables, *self._model.optimizer.variables]

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for index, variable in enumerate(self._variables):
            yield f"variable_{index}", variable.numpy()
        for index, value in enumerate(self._best):
            yield f"best_{index}", value


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


@keras.saving.register_keras_serializable("pixal")
class TapeModel(keras.Model):
    """A Keras model with its training step written out (``use_gradient_tape``): the place to change it."""

    def train_step(self, data: Any) -> Any:
        """One batch, shared by all replicas: forward, loss, gradients, update. The same numbers as Keras's own step."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        x, y, weights = own_share(x, y)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True), sample_weight=weights)
            scaled = self.optimizer.scale_loss(loss)
        gradients = finite_everywhere(tape.gradient(scaled, self.trainable_weights))
        self.optimizer.apply(gradients, self.trainable_weights)
        size = tf.shape(y)[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(summed(loss), sample_weight=size)
        return self.get_metrics_result()
