"""The training loop on batches from disk: it can be interrupted, and continued, at any step.

``pixal.train_model.keras_training.fitting`` keeps all rows, or their file, in one array, and saves its state between
epochs. Here an epoch can take hours, and the events are in many compressed files; so the loop is another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.progress import progress_bar
from pixal.tasks.charge_clusters.shards import EventStream
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.history import History
from pixal.train_model.state_file import FitState

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamFitSettings:
    """The settings of a fit.

    Attributes:
        epochs: The largest number of epochs.
        rate: Returns the learning rate of the epoch after those of a history.
        patience: Epochs without an improvement after which the fit stops; 0: never.
        min_delta: The smallest decrease of the validation loss that counts as an improvement.
        warm_up_epochs: The number of first epochs that are trained with the loss of the warm-up.
        set_warm_up: Switches that loss on and off; the validation loss is without it.
    """

    epochs: int
    rate: Callable[[History], float]
    patience: int
    min_delta: float
    warm_up_epochs: int = 0
    set_warm_up: Callable[[bool], None] = lambda _: None


class StreamFit:
    """A running fit: the model and everything else that the next step depends on.

    Attributes:
        history: One value per finished epoch.
    """

    def __init__(self, model: Any, training: EventStream, validation: EventStream, *, quiet: bool) -> None:
        """Prepare a fit.

        Args:
            model: The compiled Keras model.
            training: Batches to train on.
            validation: Batches whose loss decides which epoch is best.
            quiet: Show no progress bar.
        """
        self.history = History()
        self._model, self._training, self._validation, self._quiet = model, training, validation, quiet
        self._step, self._total = 0, 0.0  # of the current epoch: steps done, and the sum of the losses of their events
        self._best: list[NDArray[Any]] = []

    def run(
        self,
        settings: StreamFitSettings,
        checkpoint: Checkpoint,
        on_epoch: Callable[[int], None] | None = None,
        *,
        on_history: Callable[[str, History], None] | None = None,
    ) -> History:
        """Fit up to the last epoch, and set the model to the weights of the best one.

        Args:
            settings: The settings of the fit.
            checkpoint: Saves the state of the fit. An interrupted fit resumes from it, up to its ``target_epochs``.
            on_epoch: Called after each epoch with its number, from 1.
            on_history: Called after each epoch with "" and the history so far; see ``FitControl``.

        Raises:
            ConfigError: The loss is not finite.
            Stopped: The run is asked to stop, and is saved.
        """
        epochs, patience = settings.epochs, settings.patience
        if checkpoint.target_epochs:
            epochs, patience = checkpoint.target_epochs, 0
        state = checkpoint.take_fit_state()
        if state is not None:
            self.restore(state)
        history = self.history
        while len(history.loss) < epochs and not (patience and self._epochs_since_best >= patience):
            epoch = len(history.loss) + 1
            self._model.optimizer.learning_rate = rate = settings.rate(history)
            settings.set_warm_up(epoch <= settings.warm_up_epochs)
            self._run_epoch(epoch, epochs, checkpoint)
            settings.set_warm_up(False)
            history.learning_rate.append(rate)
            history.loss.append(self._total / len(self._training))
            self._step, self._total = 0, 0.0
            self._add_validation_loss(self._validation_loss(), settings.min_delta)
            history.times.append(time.time())
            text = "epoch %d of %d: loss %.4f, validation %.4f"
            _log.info(text, epoch, epochs, history.loss[-1], history.validation_loss[-1])
            if on_epoch is not None:
                on_epoch(epoch)
            if on_history is not None:
                on_history("", history)
            checkpoint.epoch_done(self.state)
        checkpoint.last_epoch_done(partial(self.state, with_times=False))
        for variable, value in zip(self._model.weights, self._best, strict=True):
            variable.assign(value)
        return history

    def state(self, *, with_times: bool = True) -> tuple[Iterator[tuple[str, NDArray[Any]]], dict[str, Any]]:
        """What ``restore`` needs: arrays by name, and notes as JSON values."""
        notes = {"history": self.history.as_notes(with_times=with_times), "step": self._step, "total": self._total}
        return self._arrays(), notes | {"epoch": len(self.history.loss) + bool(self._step)}

    def restore(self, state: FitState) -> None:
        """Continue from a state that ``state`` gave."""
        arrays, notes = state.arrays, state.notes
        self.history = History.from_notes(notes["history"])
        self._step, self._total = int(notes["step"]), float(notes["total"])
        for index, variable in enumerate(self._variables):
            variable.assign(arrays[f"variable_{index}"])
        if self.history.best_epoch:
            self._best = [arrays[f"best_{index}"] for index in range(len(self._model.weights))]

    def _run_epoch(self, epoch: int, epochs: int, checkpoint: Checkpoint) -> None:
        """Train on the batches of an epoch that are not done yet."""
        name, count = f"epoch {epoch}/{epochs}", len(self._training)
        with progress_bar(total=count, title=name, unit="event", leave=False, quiet=self._quiet) as bar:
            for charge, labels in self._training.batches(epoch, self._step):
                loss = self._loss(self._model.train_on_batch, charge, labels)
                if not np.isfinite(loss):
                    raise ConfigError(
                        f"the loss is {loss} in epoch {epoch}: training diverged; lower model_training.learning_rate"
                    )
                self._total += loss * len(labels)
                self._step += 1
                bar.update(len(labels))
                if self._step < self._training.steps:  # the state after the last step is that after the epoch
                    checkpoint.epoch_done(self.state)

    def _validation_loss(self) -> float:
        total = 0.0
        for charge, labels in self._validation.batches(1):
            total += self._loss(self._model.test_on_batch, charge, labels) * len(labels)
        return total / len(self._validation)

    def _loss(self, step: Callable[..., Any], charge: NDArray[np.float32], labels: NDArray[np.float32]) -> float:
        self._model.reset_metrics()  # some versions of Keras reset them in each step, others do not
        return float(step(charge, labels, return_dict=True)["loss"])

    def _add_validation_loss(self, loss: float, min_delta: float) -> None:
        """Add an epoch's validation loss; keep its weights if they are the best so far."""
        history = self.history
        best = history.validation_loss[history.best_epoch - 1] if history.best_epoch else np.inf
        history.validation_loss.append(loss)
        if loss < best - min_delta or not history.best_epoch:
            history.best_epoch = len(history.validation_loss)
            self._best = [variable.numpy() for variable in self._model.weights]

    @property
    def _epochs_since_best(self) -> int:
        return len(self.history.validation_loss) - self.history.best_epoch

    @property
    def _variables(self) -> list[Any]:
        return [*self._model.weights, *self._model.optimizer.variables]

    def _arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        for index, variable in enumerate(self._variables):
            yield f"variable_{index}", variable.numpy()
        for index, value in enumerate(self._best):
            yield f"best_{index}", value
