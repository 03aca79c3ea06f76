"""The training loop: learning rates, early stopping, best weights and checkpoints; and a custom training step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.history import History
from pixal.train_model.keras_training.accuracy import Accuracy
from pixal.train_model.keras_training.data import Data
from pixal.train_model.keras_training.replicas import (
    nan_if_not_finite_anywhere,
    replica_share,
    sum_over_replicas,
)
from pixal.train_model.state_file import FitState


@dataclass(frozen=True)
class FitSettings:
    """The settings of one fit.

    Attributes:
        epochs: The largest number of epochs.
        batch_size: Rows per training step.
        rate: Returns the learning rate of the epoch after those of a history.
        patience: Epochs without an improvement after which the fit stops; 0: never.
        min_delta: The smallest decrease of the validation loss that counts as an improvement.
        seed: Seed of the order of the rows.
    """

    epochs: int
    batch_size: int
    rate: Callable[[History], float]
    patience: int
    min_delta: float
    seed: int


def run_fit(
    model: Any,
    training: Data,
    validation: Data | None,
    settings: FitSettings,
    *,
    accuracy: Accuracy | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
    on_history: Callable[[str, History], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> History:
    """Fit a compiled Keras model batch by batch, and keep the weights of the best epoch.

    With validation data the best epoch is the one with the least validation loss; without them it is the last one.
    ``keras.Model.fit`` would do the same at ten times the cost: it builds its data pipeline in each epoch, which takes
    longer than a step of a small network.

    Args:
        model: The compiled model.
        training: The training data.
        validation: The validation data, or None.
        settings: The settings of the fit.
        accuracy: Measures the accuracy after each epoch.
        on_epoch: Called after each epoch with its number, from 1, and its loss.
        on_history: Called after each epoch with "" and the history so far; see ``FitControl``.
        checkpoint: Saves the state of the fit. An interrupted fit resumes from it, up to its ``target_epochs``.

    Raises:
        ConfigError: The loss is not finite.
    """
    epochs, patience = settings.epochs, settings.patience
    if checkpoint is not None and checkpoint.target_epochs:
        epochs, patience = checkpoint.target_epochs, 0
    fit = _Fit(model, settings.seed)
    state = checkpoint.take_fit_state() if checkpoint is not None else None
    if state is not None:
        fit.restore(state)
    history = fit.history
    while len(history.loss) < epochs and not (patience and fit.epochs_since_best >= patience):
        epoch = len(history.loss) + 1
        training.start(epoch)
        history.learning_rate.append(settings.rate(history))
        model.optimizer.learning_rate = history.learning_rate[-1]
        history.loss.append(_run_epoch(model.train_on_batch, model, training, settings.batch_size, fit.generator))
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
            loss = _run_epoch(model.test_on_batch, model, validation, settings.batch_size, None)
            fit.add_validation_loss(loss, settings.min_delta)
        history.times.append(time.time())
        if on_epoch is not None:
            on_epoch(epoch, history.loss[-1])
        if on_history is not None:
            on_history("", history)
        if checkpoint is not None:
            checkpoint.epoch_done(fit.state)
    if checkpoint is not None:
        checkpoint.last_epoch_done(partial(fit.state, with_times=False))
    fit.restore_best_weights()
    return history


class _Fit:
    """A running fit: the model and everything else that the next epoch depends on."""

    def __init__(self, model: Any, seed: int) -> None:
        self.history = History()
        self.generator = np.random.default_rng(seed)
        self._model = model
        self._best: list[NDArray[Any]] = []

    @property
    def epochs_since_best(self) -> int:
        return len(self.history.validation_loss) - self.history.best_epoch

    def add_validation_loss(self, loss: float, min_delta: float) -> None:
        """Add an epoch's validation loss; keep its weights if they are the best so far."""
        history = self.history
        best = history.validation_loss[history.best_epoch - 1] if history.best_epoch else np.inf
        history.validation_loss.append(loss)
        if loss < best - min_delta:
            history.best_epoch = len(history.validation_loss)
            self._best = [variable.numpy() for variable in self._model.trainable_variables]

    def restore_best_weights(self) -> None:
        """Set the model to the weights of the best epoch, if they were kept."""
        if self._best:
            for variable, value in zip(self._model.trainable_variables, self._best, strict=True):
                variable.assign(value)

    def state(self, *, with_times: bool = True) -> tuple[Iterator[tuple[str, NDArray[Any]]], dict[str, Any]]:
        """The state for ``restore``: arrays by name, and notes as JSON values."""
        notes = {
            "epoch": len(self.history.loss),
            "history": self.history.as_notes(with_times=with_times),
            "generator": self.generator.bit_generator.state,
        }
        return self._arrays(), notes

    def restore(self, state: FitState) -> None:
        """Continue from a state that ``state`` gave."""
        arrays, notes = state.arrays, state.notes
        self.history = History.from_notes(notes["history"])
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
    """Run ``step`` on all rows, in random order if there is a ``generator``; return the mean loss."""
    order = np.arange(len(data)) if generator is None else generator.permutation(len(data))
    total = 0.0
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        model.reset_metrics()  # some versions of Keras reset them in each step, others do not
        total += float(step(*data.batch(rows), return_dict=True)["loss"]) * len(rows)
    return total / len(order)


@keras.saving.register_keras_serializable("pixal")
class TapeModel(keras.Model):
    """A Keras model with its training step written out (``use_gradient_tape``), so that it can be changed."""

    def train_step(self, data: Any) -> Any:
        """Train on one batch, shared by all replicas. Gives the same numbers as the step of Keras."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        x, y, weights = replica_share(x, y)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True), sample_weight=weights)
            scaled = self.optimizer.scale_loss(loss)
        gradients = nan_if_not_finite_anywhere(tape.gradient(scaled, self.trainable_weights))
        self.optimizer.apply(gradients, self.trainable_weights)
        size = tf.shape(y)[0]
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(sum_over_replicas(loss), sample_weight=size)
        return self.get_metrics_result()
