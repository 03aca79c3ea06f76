"""Learning-rate schedules compared with those of Keras, and the rates of the final fit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from pixal.config.schema import ModelTraining
from pixal.tasks.photographs.settings import PhotographParameters
from pixal.train_model.history import History
from pixal.train_model.keras_training.schedule import learning_rate, typical_rates


def settings(**asked: Any) -> ModelTraining:
    return PhotographParameters.model_validate({"model_training": {"learning_rate": 0.2} | asked}).model_training


def rates(epochs: int, losses: list[float] | None = None, **asked: Any) -> list[float]:
    """Return the rate of each epoch for these validation losses."""
    history, chosen = History(), settings(**asked)
    for epoch in range(epochs):
        history.learning_rate.append(learning_rate(chosen, history))
        history.loss.append(1.0)
        if losses is not None:
            history.validation_loss.append(losses[epoch])
    return history.learning_rate


def test_a_constant_rate_does_not_change() -> None:
    assert rates(5, [1.0] * 5) == [0.2] * 5


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_cosine_equals_the_schedule_of_keras(epochs: int) -> None:
    actual = rates(epochs, learning_rate_schedule="cosine", learning_rate_end=0.1, n_epochs=epochs)
    other = keras.optimizers.schedules.CosineDecay(0.2, max(1, epochs - 1), alpha=0.1)
    np.testing.assert_allclose(actual, [float(other(step)) for step in range(epochs)], rtol=1e-5)
    assert actual[0] == 0.2
    assert (np.diff(actual) < 0).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("min_delta", [0.0, 0.05])
def test_plateau_equals_the_callback_of_keras(seed: int, min_delta: float) -> None:
    losses = np.abs(np.random.default_rng(seed).normal(1, 0.2, 60)).tolist()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.2), loss="mse")
    other = keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=3, min_delta=min_delta, min_lr=0.2 * 0.01)
    other.set_model(model)
    other.on_train_begin()
    expected = []
    for epoch, loss in enumerate(losses):
        expected.append(float(model.optimizer.learning_rate.numpy()))
        other.on_epoch_end(epoch, {"val_loss": loss})
    asked = {"learning_rate_schedule": "plateau", "plateau_patience": 3, "plateau_factor": 0.5, "min_delta": min_delta}
    np.testing.assert_allclose(rates(60, losses, **asked), expected, rtol=1e-5)
    assert min(expected) < 0.05


def test_plateau_has_a_lower_limit_and_needs_a_validation_loss() -> None:
    asked = {"learning_rate_schedule": "plateau", "plateau_patience": 1, "learning_rate_end": 0.3}
    assert rates(6, [1.0] * 6, **asked) == [0.2, 0.2, 0.1, 0.06, 0.06, 0.06]
    assert rates(6, None, **asked) == [0.2] * 6


def test_the_final_fit_uses_the_median_rates_of_the_folds_still_running() -> None:
    rates_of_folds = ([4.0, 4, 2, 1], [4.0, 2, 2], [4.0, 4, 4, 4])

    def fits(*best_epochs: int) -> list[History]:
        return [
            History(learning_rate=values, best_epoch=best)
            for values, best in zip(rates_of_folds, best_epochs, strict=True)
        ]

    assert typical_rates(fits(4, 3, 4)) == [4, 4, 2, 2.5]
    assert typical_rates(fits(1, 2, 4)) == [4, 4]
    assert typical_rates(fits(2, 0, 1)) == [4, 4]  # the median of 1 and 2, rounded up; 0: a fit without epochs
    assert typical_rates([History(), History()]) is None
