"""The training loop with a scripted model: best weights, early stopping, order of rows; and the training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixal.errors import ConfigError
from pixal.inputs import InputSet, InputSetWriter
from pixal.train_model.autoencoder.coefficients import CoefficientLoss
from pixal.train_model.history import History
from pixal.train_model.keras_training.data import Arrays, InputRows
from pixal.train_model.keras_training.fitting import FitSettings, run_fit
from pixal.train_model.keras_training.losses import ImageLoss
from pixal.train_model.state_file import FitState


class Variable:
    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def numpy(self) -> Any:
        return np.float32(self.value)

    def assign(self, value: float) -> None:
        self.value = float(value)


class Optimizer:
    def __init__(self) -> None:
        self.rates: list[float] = []
        self.variables = [Variable()]

    @property
    def learning_rate(self) -> float:
        return self.variables[0].value

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.variables[0].value = value
        self.rates.append(value)


class Scripted:
    """A Keras model whose validation losses are given; its only weight counts the epochs."""

    def __init__(self, validation_losses: list[float], batches: int = 1, training_loss: float = 1.0) -> None:
        self.trainable_variables = self.variables = [Variable()]
        self.optimizer = Optimizer()
        self.script = list(validation_losses)
        self.batches, self.training_loss = batches, training_loss
        self.seen: list[list[float]] = []

    def reset_metrics(self) -> None:
        pass

    def train_on_batch(self, x: Any, y: Any, return_dict: bool) -> dict[str, float]:
        self.seen.append(np.asarray(x)[:, 0].tolist())
        if len(self.seen) % self.batches == 0:
            self.trainable_variables[0].value += 1
        return {"loss": self.training_loss / len(self.seen)}

    def test_on_batch(self, x: Any, y: Any, return_dict: bool) -> dict[str, float]:
        return {"loss": self.script[int(self.trainable_variables[0].value) - 1]}


class Kept:
    """A checkpoint in memory, with JSON and copies like a file; it stops the fit after an epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.target_epochs: int | None = None
        self.saved: tuple[dict[str, Any], dict[str, Any]] | None = None

    def epoch_done(self, state: Any) -> None:
        arrays, notes = state()
        self.saved = ({name: np.array(array) for name, array in arrays}, json.loads(json.dumps(notes)))
        if notes["epoch"] == self.stop_after:
            raise KeyboardInterrupt

    def take_fit_state(self) -> Any:
        return None if self.saved is None else FitState(*self.saved)

    def last_epoch_done(self, state: Any) -> None:
        if self.stop_after is None:
            self.epoch_done(state)


def rows(count: int) -> Arrays:
    values = np.arange(count, dtype=np.float32)[:, None]
    return Arrays([values], values)


def fit(model: Scripted, *, training: Arrays | None = None, validation: bool = True, **options: Any) -> History:
    settings: dict[str, Any] = {
        "epochs": len(model.script) or 5,
        "batch_size": 10,
        "rate": lambda past: 0.1 / (1 + len(past.loss)),
        "patience": 0,
        "min_delta": 0.0,
        "seed": 1,
    }
    settings |= {key: options.pop(key) for key in list(options) if key in settings}
    return run_fit(model, training or rows(4), rows(2) if validation else None, FitSettings(**settings), **options)


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    model = Scripted([5, 3, 4, 2, 6, 2, 7])
    history = fit(model)
    assert history.best_epoch == 4
    assert model.trainable_variables[0].value == 4
    assert history.validation_loss == [5, 3, 4, 2, 6, 2, 7]
    assert history.loss == [pytest.approx(1 / n) for n in range(1, 8)]


def test_each_epoch_is_reported_with_its_curves_as_it_ends() -> None:
    seen: list[tuple[str, int, int, int]] = []

    def report(name: str, history: History) -> None:
        assert history.times == sorted(history.times)
        seen.append((name, len(history.loss), len(history.learning_rate), len(history.times)))

    fit(Scripted([5, 3, 4]), on_history=report)
    assert seen == [("", 1, 1, 1), ("", 2, 2, 2), ("", 3, 3, 3)]


@pytest.mark.parametrize(("patience", "epochs", "best"), [(0, 9, 8), (1, 3, 2), (2, 6, 4), (3, 7, 4), (4, 9, 8)])
def test_patience_counts_epochs_without_improvement(patience: int, epochs: int, best: int) -> None:
    model = Scripted([5, 3, 4, 2.5, 2.5, 4, 4, 2, 5])
    history = fit(model, patience=patience)
    assert (len(history.validation_loss), history.best_epoch) == (epochs, best)
    assert model.trainable_variables[0].value == best


def test_min_delta_is_the_least_improvement_that_counts() -> None:
    losses = [1.0, 0.95, 0.91, 0.85, 0.84]
    assert fit(Scripted(losses)).best_epoch == 5
    assert fit(Scripted(losses), min_delta=0.1).best_epoch == 4
    assert fit(Scripted(losses), min_delta=0.5).best_epoch == 1
    assert len(fit(Scripted(losses), min_delta=0.5, patience=2).loss) == 3


def test_without_validation_the_last_epoch_is_kept() -> None:
    model = Scripted([])
    history = fit(model, validation=False, epochs=6, patience=1)
    assert (history.best_epoch, history.validation_loss, len(history.loss)) == (6, [], 6)
    assert model.trainable_variables[0].value == 6


def test_each_epoch_uses_every_row_once_in_an_order_set_by_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        model = Scripted([], batches=3)
        fit(model, training=rows(7), validation=False, epochs=2, batch_size=3, seed=seed)
        assert [len(batch) for batch in model.seen] == [3, 3, 1] * 2
        epochs = [[row for batch in part for row in batch] for part in (model.seen[:3], model.seen[3:])]
        assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 2
        assert epochs[0] != epochs[1]
        orders.append(epochs)
    assert orders[0] == orders[1] != orders[2]


def test_the_loss_of_an_epoch_is_the_mean_over_all_its_rows() -> None:
    class Counting(Scripted):
        """Its loss is the mean of the values in the batch."""

        def train_on_batch(self, x: Any, y: Any, return_dict: bool) -> dict[str, float]:
            return {"loss": float(np.mean(x, dtype=float))}

        test_on_batch = train_on_batch

    values = np.array([[1.0], [2], [3], [4], [5], [6], [40]], np.float32)
    data = Arrays([values], values)
    settings = FitSettings(epochs=2, batch_size=3, rate=lambda past: 0.1, patience=0, min_delta=0, seed=0)
    history = run_fit(Counting([]), data, data, settings)
    assert history.loss == history.validation_loss == [pytest.approx(61 / 7)] * 2


def test_each_epoch_is_reported_and_has_its_learning_rate() -> None:
    calls: list[tuple[int, float]] = []
    model = Scripted([])
    history = fit(model, validation=False, epochs=5, on_epoch=lambda n, loss: calls.append((n, loss)))
    assert calls == list(enumerate(history.loss, 1))
    assert history.learning_rate == model.optimizer.rates == [0.1, 0.05, 0.1 / 3, 0.025, 0.02]


@pytest.mark.parametrize("stopped", range(1, 7))
@pytest.mark.parametrize("validation", [True, False])
def test_an_interrupted_fit_resumes_with_the_same_numbers(stopped: int, validation: bool) -> None:
    losses = [5, 3, 4, 2.5, 2.6, 2.7, 2.8, 2.9]
    options: dict[str, Any] = {"training": rows(7), "validation": validation, "patience": 3, "epochs": 7}
    whole = Scripted(losses, batches=3)
    expected = fit(whole, batch_size=3, **options)
    first, second = Scripted(losses, batches=3), Scripted(losses, batches=3)
    kept = Kept(stopped)
    with pytest.raises(KeyboardInterrupt):
        fit(first, batch_size=3, checkpoint=kept, **options)
    second.trainable_variables[0].value = 77.0  # whatever a new model starts with
    second.seen = [[]] * len(first.seen)  # the scripted loss counts the batches
    kept.stop_after = None
    actual = fit(second, batch_size=3, checkpoint=kept, **options)
    assert actual == expected
    assert actual.best_epoch == (4 if validation else 7)
    assert first.seen + second.seen[len(first.seen) :] == whole.seen
    assert second.trainable_variables[0].value == whole.trainable_variables[0].value
    assert [*first.optimizer.rates, *second.optimizer.rates] == whole.optimizer.rates


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_fit_that_diverges_fails_loudly(loss: float) -> None:
    """Weights that are not numbers would pass every part: no comparison with them is true."""
    with pytest.raises(ConfigError, match="learning_rate"):
        fit(Scripted([1.0, 1.0], training_loss=loss))


@pytest.mark.parametrize("types", [1, 2])
@pytest.mark.parametrize("label_in_target", [False, True])
def test_rows_from_disk_equal_rows_in_memory(tmp_path: Path, types: int, label_in_target: bool) -> None:
    generator = np.random.default_rng(0)
    names = ("back", "front")[:types]
    path = tmp_path / "out.npz"
    with InputSetWriter(path, (3, 4, 2), ("R", "G"), names if types > 1 else ()) as out:
        for n in range(9):
            out.append(generator.random((3, 4, 2)).astype(np.float32), f"{n}.png", names[n % types])
    inputs = InputSet.load(path)
    labels = np.ones((9, 1), np.float32) if inputs.labels is None else inputs.labels
    chosen = np.array([8, 1, 4, 5, 2])
    streamed, held = (
        InputRows(inputs, chosen, labels, label_in_target=label_in_target, memory_limit=limit) for limit in (1e-9, 1.0)
    )
    assert streamed._images is None
    assert held._images is not None
    assert not isinstance(held._images, np.memmap)
    assert len(streamed) == len(held) == 5
    for part in (np.array([0, 3]), np.array([4, 2, 1])):
        images = inputs.data[chosen[part]]
        for data in (streamed, held):
            x, y = data.batch(part)
            np.testing.assert_array_equal(x if types == 1 else x[0], images)
            if types > 1:
                np.testing.assert_array_equal(x[1], labels[chosen[part]])
            expected = np.hstack([images, labels[chosen[part]]]) if label_in_target else images
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("counted", [30, 12])
def test_the_loss_of_coefficients_is_the_mean_squared_error_of_the_images(counted: int) -> None:
    generator = np.random.default_rng(3)
    basis = np.linalg.qr(generator.standard_normal((30, 4)))[0].T
    images, scale = generator.random((6, 30)), 2.5
    actual = generator.standard_normal((6, 4))
    coefficients = images @ basis.T / scale
    outside = images - images @ basis.T @ basis
    rest = (outside**2).sum(1) / scale**2
    target = np.column_stack([coefficients, rest, np.full(6, scale**2 / counted)]).astype(np.float32)
    expected = ((images - actual * scale @ basis) ** 2).sum(1) / counted
    np.testing.assert_allclose(
        np.asarray(CoefficientLoss().call(target, actual.astype(np.float32))), expected, rtol=1e-5
    )
    if counted == 30:
        whole = np.asarray(
            ImageLoss("mse").call(images.astype(np.float32), (actual * scale @ basis).astype(np.float32))
        )
        np.testing.assert_allclose(whole, expected, rtol=1e-5)


def test_target_epochs_of_a_checkpoint_replace_epochs_and_patience() -> None:
    losses = [5, 4, 4, 4, 4, 3, 4]
    kept = Kept()
    history = fit(Scripted(losses), epochs=9, patience=2, checkpoint=kept)
    assert len(history.loss) == 4
    kept.target_epochs = 7
    model = Scripted(losses)
    history = fit(model, epochs=9, patience=2, checkpoint=kept)
    assert (len(history.loss), history.best_epoch) == (7, 6)
    assert history.validation_loss == losses
    assert model.trainable_variables[0].value == 6  # the best epoch's
    assert kept.saved is not None
    assert kept.saved[0]["variable_0"] == 7  # training would continue from the last epoch
