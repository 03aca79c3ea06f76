"""The autoencoder: its network, its losses on coefficients and on images, its files and its settings."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixal.errors import ConfigError, ModelError
from pixal.inputs import InputSet
from pixal.io.records import read_record, write_record
from pixal.registry import MODELS
from pixal.tasks.photographs.settings import PhotographParameters
from pixal.train_model.autoencoder.coefficients import CoefficientLoss
from pixal.train_model.autoencoder.model import Autoencoder
from pixal.train_model.autoencoder.projection import SubspaceFitter
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import FitControl, family_named
from pixal.train_model.history import History
from pixal.train_model.keras_training import keras_family
from pixal.train_model.keras_training.fitting import FitSettings, TapeModel
from pixal.train_model.keras_training.optimization import build_optimizer

SHAPE = (6, 8, 2)
VALUES = 96
ALL = np.arange(8)


@pytest.fixture(autouse=True, scope="module")
def _as_the_train_command_sets_it() -> Iterator[None]:
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(0)  # without a seed, deterministic mode refuses random operations
    yield
    keras.backend.clear_session()


def params(types: int = 1, **settings: Any) -> dict[str, Any]:
    """The specification of a tiny network, trained for two epochs."""
    tiny = {"autoencoder_architecture": [8, 4], "n_epochs": 2, "batchsize": 4, "metric_accuracy": False}
    weights = settings.pop("channel_weights", [1.0, 1.0])
    parameters = PhotographParameters.model_validate(
        {"model_training": tiny | {"one_hot_encoding": types > 1, "learning_rate": 0.01} | settings}
    )
    return parameters.model_training.model_dump() | {
        "input_dim": VALUES,
        "shape": list(SHAPE),
        "channels": ["R", "G"],
        "channel_weights": weights,
        "types": ["back", "front"][:types],
        "memory_limit": 4.0,
    }


def part_masks(types: int = 1, alike: bool = True) -> np.ndarray:
    masks = np.zeros((types, *SHAPE[:2]), bool)
    masks[:, 1:5, 1:7] = True
    if not alike:
        masks[1, :, 5:] = False
    return masks


def good_parts(types: int = 1, count: int = 8, alike: bool = True) -> InputSet:
    """Images with three directions of variation and noise; 0 outside the part."""
    generator = np.random.default_rng(0)
    weights = generator.normal(0, 0.1, (count, 3))
    data = 0.5 + weights @ generator.normal(0, 1, (3, VALUES)) + generator.normal(0, 0.02, (count, VALUES))
    kinds = np.arange(count) % types
    masks = np.repeat(part_masks(types, alike)[..., None], 2, axis=3).reshape(types, -1)
    data = (data.clip(0, 1) * masks[kinds]).astype(np.float32)
    names = tuple(f"{n}.png" for n in range(count))
    if types == 1:
        return InputSet(data, SHAPE, ("R", "G"), names)
    return InputSet(data, SHAPE, ("R", "G"), names, np.eye(types, dtype=np.float32)[kinds], ("back", "front"))


def fitted(
    types: int = 1, *, alike: bool = True, rows: np.ndarray = ALL, **settings: Any
) -> tuple[Autoencoder, History]:
    model = Autoencoder(params(types, **settings))
    return model, model.fit(good_parts(types, alike=alike), rows, part_masks(types, alike))


def weights_of(model: Autoencoder) -> list[np.ndarray]:
    return [variable.numpy() for variable in model.model.variables]


def same(first: Autoencoder, second: Autoencoder) -> bool:
    pairs = zip(weights_of(first), weights_of(second), strict=True)
    return all(a.shape == b.shape and bool(np.array_equal(a, b)) for a, b in pairs)


@pytest.fixture(scope="module")
def plain() -> tuple[Autoencoder, History]:
    """A fit with which others are compared."""
    return fitted()


def projection_of(activation: str, types: int = 1) -> tuple[SubspaceProjection, InputSet, np.ndarray]:
    inputs = good_parts(types)
    labels = np.ones((8, 1), np.float32) if types == 1 else inputs.labels
    assert labels is not None
    layer = SubspaceProjection(VALUES, 5, types, activation)
    layer.set_subspace(SubspaceFitter(inputs, labels, 4.0).fit([ALL], 5)[0].subspace)
    return layer, inputs, labels


@pytest.mark.parametrize("types", [1, 2])
def test_the_projection_layer_agrees_with_linear_algebra(types: int) -> None:
    layer, inputs, labels = projection_of("linear", types)
    subspace = SubspaceFitter(inputs, labels, 4.0).fit([ALL], 5)[0].subspace
    given = labels if types > 1 else None
    actual = np.asarray(layer(inputs.data, given))
    np.testing.assert_allclose(actual, subspace.coefficients(inputs.data, labels), atol=1e-5)
    back = np.asarray(layer(actual, given, inverse=True))
    means = labels @ subspace.mean
    np.testing.assert_allclose(back, means + (inputs.data - means) @ subspace.basis.T @ subspace.basis, atol=1e-5)
    assert layer.trainable_variables == []


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_activations_are_linear_for_small_deviations_and_bounded_for_large_ones(activation: str) -> None:
    layer, inputs, _ = projection_of(activation)
    linear, *_ = projection_of("linear")
    inside = inputs.data.mean(0) > 0.05
    for size, tolerance in ((1e-3, 0.02), (1e-2, 0.2)):
        small = np.full((1, 5), size, np.float32)
        none = np.zeros((1, 5), np.float32)
        step, expected = (
            np.asarray(one(small, inverse=True)) - np.asarray(one(none, inverse=True)) for one in (layer, linear)
        )
        np.testing.assert_allclose(step[:, inside], expected[:, inside], atol=tolerance * abs(expected).max())
    np.testing.assert_allclose(
        np.asarray(layer(none, inverse=True))[:, inside], np.asarray(linear(none, inverse=True))[:, inside], atol=1e-5
    )
    for sign in (-1, 1):
        large = np.asarray(layer(np.full((1, 5), sign * 300, np.float32), inverse=True))
        assert np.isfinite(large).all()
        low, high = {"sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, np.inf)}[activation]
        assert low <= large.min()
        assert large.max() <= high
    assert np.asarray(linear(np.full((1, 5), 300, np.float32), inverse=True)).min() < -1


@pytest.mark.parametrize("sizes", [[8, 4], [9, 7, 5, 3], [6]])
def test_the_decoder_mirrors_the_encoder(sizes: list[int]) -> None:
    model = Autoencoder(params(autoencoder_architecture=sizes, input_projection="none"))
    model.build_model(VALUES)
    core = next(layer for layer in model.model.layers if layer.name == "core")
    dense = [layer.units for layer in core.layers if isinstance(layer, keras.layers.Dense)]
    assert dense == [*sizes, *sizes[-2::-1], VALUES] if len(sizes) > 1 else dense == [6, VALUES]
    latent = core.get_layer("latent")
    assert latent.units == sizes[-1]
    assert core.get_layer("output").activation is keras.activations.linear


def test_the_network_has_one_input_per_component_of_the_projection() -> None:
    model = Autoencoder(params(projection_rank=5))
    model.build_model(VALUES)
    core = next(layer for layer in model.model.layers if layer.name == "core")
    assert core.input_shape == (None, 5)
    assert core.get_layer("output").units == 5
    assert model.model.output_shape == (None, VALUES)


def test_a_label_has_its_own_latent_layer() -> None:
    model = Autoencoder(params(2, label_latent_size=3, input_projection="none"))
    model.build_model(VALUES)
    core = next(layer for layer in model.model.layers if layer.name == "core")
    assert core.get_layer("label_latent").units == 3
    assert core.get_layer("joined_latent").output.shape == (None, 4 + 3)
    assert [tensor.shape for tensor in model.model.inputs] == [(None, VALUES), (None, 2)]
    images = good_parts(2).data
    first, second = (model.reconstruct(images, np.tile(label, (8, 1)).astype("f4")) for label in ([1, 0], [0, 1]))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("kind", "l1", "l2"), [("l1", 0.01, 0), ("l2", 0, 0.02), ("l1_l2", 0.01, 0.02), (None, 0, 0)])
def test_regularization_adds_the_penalty_of_the_kernels(kind: str | None, l1: float, l2: float) -> None:
    settings = {"regularization": kind, "l1_regularization": 0.01, "l2_regularization": 0.02}
    model = Autoencoder(params(projection_rank=5, **settings))
    model.build_model(VALUES)
    core = next(layer for layer in model.model.layers if layer.name == "core")
    kernels = [core.get_layer(name).kernel.numpy() for name in ("encoder_1", "latent", "decoder_1")]
    expected = sum(l1 * np.abs(kernel).sum() + l2 * (kernel**2).sum() for kernel in kernels)
    assert float(sum(model.model.losses)) == pytest.approx(expected, rel=1e-5)


def test_input_noise_is_added_only_in_training() -> None:
    for noise in (0.0, 0.5):
        model = Autoencoder(params(input_projection="none", input_noise=noise))
        model.build_model(VALUES)
        images = [good_parts().data]
        quiet, loud = (np.asarray(model.model(images, training=training)) for training in (False, True))
        assert np.array_equal(quiet, loud) == (noise == 0)
        np.testing.assert_array_equal(quiet, np.asarray(model.model(images, training=False)))


@pytest.mark.slow
def test_every_output_activation_trains_and_reconstructs_good_parts() -> None:
    """With the projection, the errors are close to those of the linear activation, and outputs are in its bounds."""
    inputs = good_parts()
    far = InputSet(inputs.data * 40 - 20, SHAPE, inputs.channels, inputs.names)
    errors = {}
    for activation, low, high in (("linear", -99, 99), ("sigmoid", 0, 1), ("tanh", -1, 1), ("relu", 0, 99)):
        model, history = fitted(output_activation=activation, n_epochs=40, input_noise=0.0, projection_rank=3)
        assert history.loss[-1] < 0.8 * history.loss[0]
        errors[activation] = float(np.mean(model.error(inputs, ALL) ** 2))
        made = far.images() - model.error(far, ALL)
        assert low <= made.min()
        assert made.max() <= high
    assert max(errors.values()) < 1.5 * errors["linear"]


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "relu"])
def test_output_activation_without_projection(activation: str) -> None:
    model = Autoencoder(params(input_projection="none", output_activation=activation))
    model.build_model(VALUES)
    core = next(layer for layer in model.model.layers if layer.name == "core")
    assert core.get_layer("output").activation is getattr(keras.activations, activation)


@pytest.mark.parametrize(
    ("types", "loss", "alike", "penalty"),
    [
        (1, "masked_mse", True, "l1"),
        (2, "mse", False, "l1_l2"),
        (2, "masked_mse", True, None),
        (2, "masked_mse", False, None),
    ],
)
def test_the_loss_of_coefficients_trains_like_the_loss_of_images(
    types: int, loss: str, alike: bool, penalty: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"loss_function": loss, "optimizer": "sgd", "learning_rate": 0.5, "regularization": penalty}
    settings |= {"l1_regularization": 1e-3, "l2_regularization": 1e-3}
    histories = []
    for quadratic in (True, False):
        if not quadratic:
            monkeypatch.setattr(Autoencoder, "_is_quadratic", lambda *_: False)
        model = Autoencoder(params(types, **settings))
        histories.append(
            model.fit(
                good_parts(types, alike=alike),
                ALL[:6],
                part_masks(types, alike),
                FitControl(validation_rows=np.array([6, 7])),
            )
        )
    np.testing.assert_allclose(histories[0].loss, histories[1].loss, rtol=1e-5)
    np.testing.assert_allclose(histories[0].validation_loss, histories[1].validation_loss, rtol=1e-5)
    assert histories[0].loss[1] != histories[0].loss[0]


def test_the_reported_loss_agrees_with_the_reconstructions() -> None:
    """With a learning rate of almost 0, the losses agree with the error of the trained model."""
    model = Autoencoder(params(learning_rate=1e-30, input_noise=0.0, optimizer="sgd", n_epochs=1))
    inputs = good_parts()
    history = model.fit(inputs, ALL[:6], part_masks(), FitControl(validation_rows=np.array([6, 7])))
    error = model.error(inputs, ALL)
    assert history.loss[0] == pytest.approx(np.mean(error[:6] ** 2), rel=1e-4)
    assert history.validation_loss[0] == pytest.approx(np.mean(error[6:] ** 2), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "kind", "l1", "l2"), [("mse", "l1", 0.01, 0), ("mse", "l2", 0, 0.02), ("mae", "l1_l2", 0.01, 0.02)]
)
def test_both_losses_contain_the_penalty(loss: str, kind: str, l1: float, l2: float) -> None:
    """The loss ``mse`` is computed from coefficients, ``mae`` from images."""
    no_steps = {"learning_rate": 1e-30, "input_noise": 0.0, "optimizer": "sgd", "n_epochs": 1, "loss_function": loss}
    settings = {"regularization": kind, "l1_regularization": 0.01, "l2_regularization": 0.02}
    model, history = fitted(**no_steps, **settings)
    assert isinstance(model._trained.loss, CoefficientLoss) == (loss == "mse")
    error = model.error(good_parts(), ALL)
    core = model.model.get_layer("core")
    kernels = [core.get_layer(name).kernel.numpy() for name in ("encoder_1", "latent", "decoder_1")]
    penalty = sum(l1 * np.abs(kernel).sum() + l2 * (kernel**2).sum() for kernel in kernels)
    assert penalty > 0.01
    expected = np.mean(error**2 if loss == "mse" else np.abs(error)) + penalty
    assert history.loss == [pytest.approx(expected, rel=1e-5)]


def test_training_reduces_the_loss() -> None:
    _, history = fitted(n_epochs=60, input_noise=0.0)
    assert history.loss[-1] < 0.7 * history.loss[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"regularization": "l1_l2", "loss_function": "mae", "output_activation": "sigmoid", "optimizer": "rmsprop"},
        {"types": 2, "n_epochs": 5, "batchsize": 3},
        {"mixed_precision": True, "regularization": "l2", "loss_function": "huber", "n_epochs": 5},
    ],
    ids=["images", "coefficients, labels", "float16"],
)
def test_the_tape_takes_the_same_steps_as_keras(settings: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if settings.get("mixed_precision"):
        request.addfinalizer(partial(keras.mixed_precision.set_global_policy, "float32"))
        keras.mixed_precision.set_global_policy("mixed_float16")
    tape_model, tape_history = fitted(use_gradient_tape=True, **settings)
    keras_model, keras_history = fitted(**settings)
    assert tape_history == keras_history
    assert same(tape_model, keras_model)
    for model, step in ((tape_model, TapeModel.train_step), (keras_model, keras.Model.train_step)):
        assert type(model._trained).train_step is step
        assert not model._trained.run_eagerly
        scaled = isinstance(model._trained.optimizer, keras.optimizers.LossScaleOptimizer)
        assert scaled == settings.get("mixed_precision", False)


def test_the_loop_takes_the_same_steps_as_keras_fit() -> None:
    model, history = fitted(batchsize=8, n_epochs=4, input_noise=0.0)
    calls: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras_family, "run_fit", lambda *given, **_: calls.append(given) or History())
        again, _ = fitted(batchsize=8, n_epochs=4, input_noise=0.0)
    keras_model, data, _, _ = calls[0]
    inputs, targets = data.batch(ALL)
    actual = keras_model.fit(inputs, targets, batch_size=8, epochs=4, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose(actual, history.loss, rtol=1e-5)  # the same rows, summed in another order
    for weights, expected_weights in zip(weights_of(model), weights_of(again), strict=True):
        np.testing.assert_allclose(weights, expected_weights, atol=1e-5)


def test_equal_seeds_give_equal_models_and_others_do_not(plain: tuple[Autoencoder, History]) -> None:
    again, history = fitted()
    assert history == plain[1]
    assert same(again, plain[0])
    other, _ = fitted(seed=43)
    assert not same(other, plain[0])


def test_a_second_fit_starts_from_new_weights() -> None:
    inputs = good_parts()
    fresh = Autoencoder(params(projection_rank=4))
    fresh_history = fresh.fit(inputs, ALL[:4], part_masks())
    used = Autoencoder(params(projection_rank=4))
    used.fit(inputs, ALL[4:], part_masks())
    assert not same(used, fresh)
    assert used.fit(inputs, ALL[:4], part_masks()) == fresh_history
    assert same(used, fresh)


@pytest.mark.parametrize(
    "setting",
    [
        {"batchsize": 8},
        {"learning_rate": 0.02},
        {"optimizer": "rmsprop"},
        {"loss_function": "charbonnier"},
        {"output_activation": "sigmoid"},
    ],
    ids=lambda setting: ", ".join(setting),
)
def test_each_setting_changes_the_model(setting: dict[str, Any], plain: tuple[Autoencoder, History]) -> None:
    assert not same(fitted(**setting)[0], plain[0])


def test_the_settings_of_the_fit_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[FitSettings] = []
    monkeypatch.setattr(keras_family, "run_fit", lambda *given, **_: calls.append(given[3]) or History())
    settings = {"n_epochs": 7, "batchsize": 3, "patience": 5, "min_delta": 0.25, "seed": 9}
    model, _ = fitted(**settings)
    model.fit(good_parts(), ALL, part_masks(), FitControl(learning_rates=[0.3, 0.2, 0.1, 0.4]))
    held_out, whole = calls
    names = ("epochs", "batch_size", "patience", "min_delta", "seed")
    assert tuple(getattr(held_out, name) for name in names) == tuple(settings.values())
    assert held_out.rate(History()) == 0.01
    # With given learning rates, training does not stop early.
    assert tuple(getattr(whole, name) for name in names) == (4, 3, 0, 0.25, 9)
    assert [whole.rate(History(loss=[1.0] * past)) for past in range(4)] == [0.3, 0.2, 0.1, 0.4]


def test_huber_delta_reaches_the_loss() -> None:
    no_steps = {"learning_rate": 1e-30, "input_noise": 0.0, "optimizer": "sgd"}
    model, history = fitted(loss_function="huber", huber_delta=0.02, **no_steps)
    size = np.abs(model.error(good_parts(), ALL))
    expected = np.where(size <= 0.02, size**2 / 2, 0.02 * (size - 0.01)).mean()
    assert history.loss == [pytest.approx(expected, rel=1e-4)] * 2


def test_a_masked_loss_is_the_mean_over_the_part(plain: tuple[Autoencoder, History]) -> None:
    masked = fitted(masked_loss=True)[1]
    # The inputs and reconstructions are 0 outside the part: only the denominator differs.
    assert masked.loss[0] == pytest.approx(plain[1].loss[0] * SHAPE[0] * SHAPE[1] / part_masks()[0].sum(), rel=1e-3)


def test_channel_weights_are_the_weights_of_the_loss() -> None:
    only_second = {"channel_weights": [0.0, 1.0], "learning_rate": 1e-30, "input_noise": 0.0, "loss_function": "mae"}
    model, history = fitted(**only_second, optimizer="sgd")
    error = model.error(good_parts(), ALL)
    assert history.loss[0] == pytest.approx(np.abs(error[..., 1]).mean(), rel=1e-4)


def test_memory_limit_decides_whether_data_stays_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(keras_family, "run_fit", lambda *data, **_: calls.append(data[1]) or History())
    inputs, rows = good_parts(), np.array([3, 5])
    for limit in (1e-9, 4.0):
        Autoencoder(params(loss_function="mae") | {"memory_limit": limit}).fit(inputs, rows, part_masks())
    streamed, held = calls
    assert streamed._images is None
    assert held._images.shape == (2, VALUES)
    np.testing.assert_array_equal(streamed.batch(np.array([1]))[1], held.batch(np.array([1]))[1])


@pytest.mark.parametrize("projection", ["auto", "none"])
def test_accuracy_is_the_fraction_of_values_within_0_02(projection: str) -> None:
    model = Autoencoder(params(2, metric_accuracy=True, input_projection=projection, n_epochs=1))
    inputs = good_parts(2)
    history = model.fit(inputs, ALL[:6], part_masks(2), FitControl(validation_rows=np.array([6, 7])))
    error = np.abs(model.error(inputs, ALL))
    assert history.accuracy == [pytest.approx(np.mean(error[:6] <= 0.02), abs=2e-3)]
    assert history.validation_accuracy == [pytest.approx(np.mean(error[6:] <= 0.02), abs=2e-3)]


def test_hybrid_mode_keeps_the_projection_on_the_cpu() -> None:
    for hybrid in (False, True):
        model = Autoencoder(params(HYBRID_MODE=hybrid, projection_rank=4))
        model.build_model(VALUES)
        assert model.model.get_layer("projection").on_cpu is hybrid
        assert model.reconstruct(good_parts().data, np.ones((8, 1), np.float32)).shape == (8, VALUES)


@pytest.mark.parametrize(
    "name",
    ["adam", "SGD", "rmsprop", "AdamW", "adagrad", "adadelta", "Adamax", "nadam", "ftrl", "lion", "lamb", "Adafactor"],
)
def test_every_optimizer_of_keras_can_be_named(name: str) -> None:
    actual = build_optimizer(name, 0.02)
    assert type(actual).__name__.lower() == name.lower()
    assert float(actual.learning_rate.numpy()) == pytest.approx(0.02)
    variable = keras.Variable(np.ones((3, 2), np.float32))
    actual.apply([keras.ops.ones((3, 2))], [variable])
    assert (variable.numpy() < 1).all()


def test_the_optimizer_uses_the_learning_rate_of_the_schedule() -> None:
    model, history = fitted(learning_rate=0.02, learning_rate_schedule="cosine")
    assert history.learning_rate == pytest.approx([0.02, 0.0002])
    assert float(model._trained.optimizer.learning_rate.numpy()) == pytest.approx(0.0002)


@pytest.mark.parametrize("name", ["adamant", "optimizer", "LossScaleOptimizer", ""])
def test_an_unknown_optimizer_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"model_training\.optimizer.*'{name}'"):
        build_optimizer(name, 0.1)


def test_a_plateau_lowers_the_learning_rate_of_the_fit() -> None:
    settings = {"learning_rate_schedule": "plateau", "plateau_patience": 2, "plateau_factor": 0.1, "min_delta": 1e9}
    model = Autoencoder(params(n_epochs=6, **settings))
    history = model.fit(good_parts(), ALL[:6], part_masks(), FitControl(validation_rows=ALL[6:]))
    # The first epoch counts as an improvement.
    assert history.learning_rate == pytest.approx([0.01, 0.01, 0.01, 0.001, 0.001, 0.0001])


def test_the_chosen_rank_is_stored(plain: tuple[Autoencoder, History]) -> None:
    assert plain[0].spec.projection_rank == 3


def test_error_is_input_minus_reconstruction(plain: tuple[Autoencoder, History]) -> None:
    inputs = good_parts(count=37)  # more than one chunk
    expected = inputs.data - np.asarray(plain[0].model([inputs.data]))
    whole = plain[0].error(inputs, np.arange(37))
    np.testing.assert_allclose(whole, expected.reshape(-1, *SHAPE), atol=1e-6)
    np.testing.assert_allclose(plain[0].error(inputs, slice(3, 9)), whole[3:9], atol=1e-6)
    np.testing.assert_allclose(plain[0].error(inputs, np.array([30, 2])), whole[[30, 2]], atol=1e-6)
    assert plain[0].error(inputs, slice(0, 0)).shape == (0, *SHAPE)


def test_a_planted_defect_has_the_largest_error(plain: tuple[Autoencoder, History]) -> None:
    good = good_parts()
    marked = good.data.copy()
    place = np.ravel_multi_index((3, 4, 1), SHAPE)
    marked[2, place] += 0.8
    bad = InputSet(marked, SHAPE, good.channels, good.names)
    change = plain[0].error(bad, ALL) - plain[0].error(good, ALL)
    assert np.unravel_index(np.abs(change).argmax(), change.shape) == (2, 3, 4, 1)
    assert change[2, 3, 4, 1] > 0.3


@pytest.mark.parametrize(
    ("extension", "types", "settings"),
    [
        ("keras", 2, {}),
        ("h5", 1, {"loss_function": "huber", "use_gradient_tape": True}),
        ("keras", 1, {"input_projection": "none", "masked_loss": True, "output_activation": "sigmoid"}),
    ],
    ids=["keras, labels", "h5, tape", "keras, no projection"],
)
def test_a_loaded_model_gives_the_same_bits(
    tmp_path: Path, extension: str, types: int, settings: dict[str, Any]
) -> None:
    model, _ = fitted(types, model_file_extension=extension, model_name="My-model_1.2", n_epochs=1, **settings)
    written = model.save(tmp_path / "model")
    endings = (extension, "weights.h5", "inference.npz")
    assert {path.name for path in written} == {f"My-model_1.2.{ending}" for ending in endings}
    assert sorted((tmp_path / "model").iterdir()) == sorted(written)
    inputs = good_parts(types)
    expected = model.error(inputs, ALL)

    write_record(tmp_path / "model_training.yaml", model.spec.model_dump())
    params = read_record(tmp_path / "model_training.yaml")
    weights_path = tmp_path / "model" / "My-model_1.2.weights.h5"
    again = Autoencoder(params)  # the three lines of the contract
    again.build_model(input_dim=params["input_dim"])
    again.load_weights(str(weights_path))
    np.testing.assert_array_equal(again.error(inputs, ALL), expected)
    np.testing.assert_array_equal(Autoencoder.load(tmp_path / "model", params).error(inputs, ALL), expected)

    whole = keras.models.load_model(tmp_path / "model" / f"My-model_1.2.{extension}", safe_mode=True)
    given = [inputs.data] if types == 1 else [inputs.data, inputs.labels]
    actual = np.asarray(whole(given, training=False))
    np.testing.assert_array_equal(inputs.data - actual, expected.reshape(8, -1))


@pytest.mark.parametrize(
    ("types", "settings"),
    [
        (2, {"use_gradient_tape": True, "loss_function": "mae"}),
        (1, {"model_file_extension": "h5", "input_projection": "none"}),
    ],
    ids=["keras, labels, tape", "h5, no projection"],
)
def test_equal_models_give_equal_files(tmp_path: Path, types: int, settings: dict[str, Any]) -> None:
    """Also at another time, and in a process that has already built other models."""
    files = []
    for folder in ("first", "second"):
        model, _ = fitted(types, n_epochs=1, **settings)
        files.append([path.read_bytes() for path in model.save(tmp_path / folder)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zipfile.time, "localtime", lambda *_: time.gmtime(0.4e9))  # the time that zipfile stores
            fitted(3 - types, n_epochs=1)
    assert files[0] == files[1]
    assert len(files[0]) == 3


def test_saved_files_do_not_contain_the_optimizer(tmp_path: Path) -> None:
    for settings in ({}, {"loss_function": "mae"}):
        model, _ = fitted(n_epochs=1, autoencoder_architecture=[200, 100], **settings)
        values = sum(weights.size for weights in weights_of(model))
        for path in model.save(tmp_path):
            assert path.stat().st_size < 4 * values + 60_000


def test_weights_of_another_model_are_refused(tmp_path: Path, plain: tuple[Autoencoder, History]) -> None:
    plain[0].save(tmp_path)
    path = tmp_path / f"{plain[0].spec.model_name}.weights.h5"
    for change in ({"autoencoder_architecture": [8, 4, 4]},):
        other = Autoencoder(plain[0].spec.model_dump() | change)
        other.build_model(VALUES)
        with pytest.raises(ModelError, match=r"does not match this model.*train again") as error:
            other.load_weights(path)
        assert path.name in str(error.value)
    other = Autoencoder(plain[0].spec)
    other.build_model(VALUES)
    half = tmp_path / "half.weights.h5"  # another name: HDF5 remembers the content of files it has open
    half.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"half\.weights\.h5"):
        other.load_weights(half)
    with pytest.raises(ModelError, match=r"none\.weights\.h5 does not exist; run train"):
        other.load_weights(tmp_path / "none.weights.h5")


@pytest.mark.parametrize("types", [("back", "side"), ("front", "back"), ("side",), ("back", "front", "side"), ()])
def test_unknown_types_and_types_in_another_order_are_refused(types: tuple[str, ...]) -> None:
    """Otherwise an unknown type would be treated as the type with the same index."""
    model = Autoencoder(params(2, projection_rank=3))
    model.build_model(VALUES)
    good = good_parts(2)
    labels = np.eye(len(types), dtype=np.float32)[np.zeros(8, int)] if types else None
    other = InputSet(good.data, SHAPE, good.channels, good.names, labels, types)
    message = "type side was never trained" if "side" in types else "the types .* are not the model's"
    message = message if types else "the inputs do not name the type of each part"
    for use in (lambda: model.error(other, ALL), lambda: model.latent(other, ALL)):
        with pytest.raises(ModelError, match=rf"{message}.*\(trained: back, front\)"):
            use()
    with pytest.raises(ModelError, match=message):
        Autoencoder(params(2)).fit(other, ALL, part_masks(2))


@pytest.mark.parametrize(("projection", "types"), [("auto", 2), ("none", 1)])
def test_the_latent_vector_is_the_output_of_the_encoder(projection: str, types: int) -> None:
    model, _ = fitted(types, input_projection=projection)
    inputs = good_parts(types)
    core = model.model.get_layer("core")
    values = inputs.data
    if projection == "auto":
        labels = None if types == 1 else inputs.labels
        values = np.asarray(model.model.get_layer("projection")(inputs.data, labels))
    for name in ("encoder_1", "latent"):
        kernel, bias = (variable.numpy() for variable in core.get_layer(name).variables)
        values = np.maximum(values @ kernel + bias, 0)
    actual = model.latent(inputs, ALL)
    assert actual.shape == (8, 4)
    np.testing.assert_allclose(actual, values, atol=1e-5)
    np.testing.assert_allclose(model.latent(inputs, np.array([6, 1])), values[[6, 1]], atol=1e-5)
    assert model.latent(inputs, slice(0, 0)).shape == (0, 4)


@pytest.mark.parametrize(("projection", "loss"), [("auto", "mse"), ("none", "charbonnier")])
def test_one_good_part_gives_finite_losses_and_errors(projection: str, loss: str) -> None:
    model, history = fitted(rows=ALL[:1], input_projection=projection, loss_function=loss, n_epochs=3)
    assert np.isfinite(history.loss).all()
    error = model.error(good_parts(), ALL)
    assert np.isfinite(error).all()
    if projection == "auto":  # every image is reconstructed as that part
        np.testing.assert_allclose(error.reshape(8, -1), good_parts().data - good_parts().data[0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("types", "settings"),
    [
        (1, {"learning_rate_schedule": "plateau", "plateau_patience": 1, "min_delta": 0.1}),
        (2, {"loss_function": "huber", "use_gradient_tape": True, "learning_rate_schedule": "cosine"}),
    ],
    ids=["coefficients", "images, labels"],
)
def test_a_resumed_fit_gives_the_same_bits(
    tmp_path: Path, types: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fit is interrupted in an epoch that was not saved, and resumed by a new model as in a new process."""
    settings = {"n_epochs": 7, **settings}
    arguments: Any = (good_parts(types), ALL[:6], part_masks(types))
    model = Autoencoder(params(types, **settings))
    expected = model.fit(*arguments, FitControl(validation_rows=ALL[6:]))
    monkeypatch.setattr("pixal.train_model.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("pixal.train_model.checkpoint._SHARE", 0.0)

    def killed(epoch: int, loss: float) -> None:
        if epoch == 5:
            raise SystemExit

    shape = (8, *SHAPE)
    cut = Autoencoder(params(types, **settings))
    with pytest.raises(SystemExit), Checkpoint(tmp_path, {}, shape, resume=False) as checkpoint:
        cut.fit(*arguments, FitControl(validation_rows=ALL[6:], on_epoch=killed, checkpoint=checkpoint))
    calls: list[int] = []
    again = Autoencoder(params(types, **settings))
    with Checkpoint(tmp_path, {}, shape, resume=True) as checkpoint:
        control = FitControl(validation_rows=ALL[6:], on_epoch=lambda n, _: calls.append(n), checkpoint=checkpoint)
        actual = again.fit(*arguments, control)
    assert calls[0] == 5
    assert actual == expected
    assert same(again, model)


def test_using_a_model_that_is_not_built_is_an_error(tmp_path: Path) -> None:
    empty = Autoencoder(params())
    for use in (empty.error, empty.latent):
        with pytest.raises(ModelError, match="neither trained nor loaded"):
            use(good_parts(), ALL)
    with pytest.raises(ModelError, match="call build_model before"):
        empty.load_weights(tmp_path / "x.weights.h5")
    with pytest.raises(ModelError, match="projection_rank"):
        empty.build_model(VALUES)
    lacking = params()
    del lacking["autoencoder_architecture"]
    with pytest.raises(ModelError, match="lack 'autoencoder_architecture'"):
        Autoencoder(lacking | {"projection_rank": 3}).build_model(VALUES)
    with pytest.raises(ModelError, match="lack 'input_dim'"):
        Autoencoder.load(tmp_path, {key: value for key, value in params().items() if key != "input_dim"})


def test_families_are_found_by_name() -> None:
    assert family_named("autoencoder") is Autoencoder
    assert all(family_named(name) for name in MODELS.builtin)
    with pytest.raises(ConfigError, match=r"'autoencodr' is not one of autoencoder, .*nearest is autoencoder"):
        family_named("autoencodr")


def test_folds_are_cheap_with_a_projection_only() -> None:
    assert Autoencoder(params()).folds_are_cheap
    assert not Autoencoder(params(input_projection="none")).folds_are_cheap


def test_xla_gives_the_same_numbers() -> None:
    (model, history), (plain, expected) = (fitted(jit_compile=on, input_noise=0.0) for on in (True, False))
    assert model._trained.jit_compile
    assert not plain._trained.jit_compile
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-4)
    for weights, expected_weights in zip(weights_of(model), weights_of(plain), strict=True):
        np.testing.assert_allclose(weights, expected_weights, atol=1e-4)


@pytest.mark.parametrize(
    "setting",
    [{"copies": 3}, {"flip_horizontal": 0.9}, {"flip_vertical": 0.9}, {"shift": 2.0}, {"light": 0.3}],
)
def test_augmentation_changes_the_fit(setting: dict[str, Any], plain: tuple[Autoencoder, History]) -> None:
    one_copy, _ = fitted(augmentation={"copies": 1})
    model, _ = fitted(augmentation={"copies": 1} | setting)
    assert not same(model, one_copy)
    assert not same(one_copy, plain[0])
    without, _ = fitted(augmentation={**setting, "copies": 0})
    assert same(without, plain[0])


def test_copies_of_held_out_parts_are_in_no_fit() -> None:
    """A fit without some rows does not depend on them, whether the fits were prepared together or not."""
    rows, settings = np.arange(6), {"augmentation": {"copies": 2, "shift": 1.0}, "projection_rank": 3}
    inputs, masks = good_parts(), part_masks()
    model = Autoencoder(params(**settings))
    model.prepare_fits(inputs, [rows, ALL])
    model.fit(inputs, rows, masks, FitControl(validation_rows=np.array([6, 7])))
    other = InputSet(inputs.data.copy(), SHAPE, inputs.channels, inputs.names)
    other.data[6:] = other.data[:2]
    again = Autoencoder(params(**settings))
    again.fit(other, rows, masks, FitControl(validation_rows=np.array([6, 7])))
    np.testing.assert_allclose(model.error(inputs, rows), again.error(other, rows), atol=1e-4)
