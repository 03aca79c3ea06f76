"""The convolutional autoencoder: its network, its error, its settings and its files."""

from __future__ import annotations

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
from pixal.tasks.photographs.settings import PhotographParameters
from pixal.train_model.conv_autoencoder.model import ConvAutoencoder
from pixal.train_model.conv_autoencoder.network import STAGES, Halving, ReflectionPadding, conv_autoencoder
from pixal.train_model.conv_autoencoder.options import ConvAutoencoderOptions, ConvSpecification
from pixal.train_model.conv_autoencoder.tile_training import TileLoss
from pixal.train_model.family import FitControl
from pixal.train_model.history import History
from pixal.train_model.keras_training.losses import gaussian_nll, pointwise_loss

SHAPE = (13, 18, 2)
GOOD = np.arange(8)


@pytest.fixture(autouse=True, scope="module")
def _deterministic_tensorflow() -> Iterator[None]:
    tf.config.experimental.enable_op_determinism()
    yield
    keras.backend.clear_session()


def params(types: int = 1, options: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """The specification of a tiny network, trained for two epochs."""
    weights = settings.pop("channel_weights", [1.0, 1.0])
    memory = settings.pop("memory_limit", 4.0)
    tiny = {"n_epochs": 2, "batchsize": 8, "metric_accuracy": False, "one_hot_encoding": types > 1}
    parameters = PhotographParameters.model_validate({"model_training": tiny | settings})
    return parameters.model_training.model_dump() | {
        "model_options": ConvAutoencoderOptions(**{"poolings": 1, "bottleneck": 3} | (options or {})).model_dump(),
        "input_dim": int(np.prod(SHAPE)),
        "shape": list(SHAPE),
        "channels": ["R", "G"],
        "channel_weights": weights,
        "types": ["back", "front"][:types],
        "memory_limit": memory,
    }


def part_masks(types: int = 1) -> np.ndarray:
    masks = np.zeros((types, *SHAPE[:2]), bool)
    masks[:, 2:11, 2:16] = True
    return masks


def good_parts(types: int = 1, count: int = 12) -> InputSet:
    """An image under changing light, with noise; 0.9 outside the part."""
    generator = np.random.default_rng(0)
    light = 1 + 0.1 * generator.normal(size=(count, 1, 1, 1))
    images = light * (0.3 + 0.3 * generator.random(SHAPE)) + 0.01 * generator.normal(size=(count, *SHAPE))
    data = np.where(part_masks()[0][..., None], images, 0.9).reshape(count, -1).astype(np.float32)
    names = tuple(f"{index}.png" for index in range(count))
    if types == 1:
        return InputSet(data, SHAPE, ("R", "G"), names)
    return InputSet(
        data, SHAPE, ("R", "G"), names, np.eye(2, dtype=np.float32)[np.arange(count) % 2], ("back", "front")
    )


def fitted(types: int = 1, validation: bool = False, **settings: Any) -> tuple[ConvAutoencoder, History]:
    model = ConvAutoencoder(params(types, **settings))
    rows = np.arange(8, 12) if validation else None
    return model, model.fit(good_parts(types), GOOD, part_masks(types), FitControl(validation_rows=rows))


def weights_of(model: ConvAutoencoder) -> list[np.ndarray]:
    return [np.asarray(value) for value in model.model.get_weights()]


@pytest.fixture(scope="module")
def learned() -> tuple[ConvAutoencoder, History]:
    return fitted(n_epochs=60, learning_rate=0.01)


@pytest.fixture(scope="module")
def brief() -> tuple[ConvAutoencoder, History]:
    return fitted()


def network(size: str, height: int, width: int, **options: Any) -> tuple[Any, Any]:
    spec = ConvSpecification.read(params(options={"size": size, **options}) | {"spread": [0.1, 0.2]})
    return conv_autoencoder(height, width, spec, ConvAutoencoderOptions.model_validate(spec.model_options))


@pytest.mark.parametrize(("height", "width", "poolings"), [(13, 18, 1), (5, 33, 3), (16, 32, 3), (1, 1, 2)])
def test_images_of_any_size_are_padded_and_cropped_back(height: int, width: int, poolings: int) -> None:
    model, encoder = network("redux", height, width, poolings=poolings)
    divisor = 2**poolings
    assert model.output_shape == (None, height, width, 2)
    assert encoder.output_shape == (None, -(-height // divisor), -(-width // divisor), 3)


def test_padding_reflects_the_image() -> None:
    image = np.random.default_rng(0).random((2, 3, 5, 2)).astype(np.float32)
    padded = ReflectionPadding(((2, 5), (1, 0)))(image)
    np.testing.assert_array_equal(padded, np.pad(image, ((0, 0), (2, 5), (1, 0), (0, 0)), mode="reflect"))


def test_pooling_equals_that_of_keras() -> None:
    images = np.random.default_rng(0).normal(size=(2, 4, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(Halving()(images), keras.layers.MaxPooling2D()(images))


def test_no_connection_bypasses_the_bottleneck() -> None:
    """If the bottleneck is 0, the output does not depend on the input."""
    model, _ = network("redux", 16, 16, poolings=2)
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(1).normal(0, 0.3, variable.shape))
    model.get_layer("bottleneck").kernel.assign(np.zeros(model.get_layer("bottleneck").kernel.shape))
    images = np.random.default_rng(0).random((2, 16, 16, 2)).astype(np.float32)
    output = np.asarray(model(images))
    assert np.abs(output).max() > 0
    np.testing.assert_array_equal(output[0], output[1])


def test_the_output_is_0_before_training_and_the_large_network_has_the_channels_of_vgg16() -> None:
    model, _ = network("redux", 8, 8, poolings=2)
    assert not np.asarray(model(np.ones((1, 8, 8, 2), np.float32))).any()
    assert STAGES["large"] == (64, 128, 256, 512, 512)
    for stage, size in enumerate(STAGES["redux"][:2], start=1):
        assert model.get_layer(f"encoder_{stage}_sum").output.shape[-1] == size
        assert model.get_layer(f"decoder_{stage}_sum").output.shape[-1] == size


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["mse", "huber", "gaussian"])
def test_the_loss_is_the_weighted_mean_in_units_of_the_spread(name: str, weighted: bool) -> None:
    generator, spread = np.random.default_rng(4), np.array([0.02, 0.3], np.float32)
    values, weights = generator.random((2, 3, 4, 5, 2)).astype(np.float32)
    output = generator.normal(size=(3, 4, 5, 4)).astype(np.float32)
    loss_function = "mse" if name == "gaussian" else name
    spec = ConvSpecification.read(params(loss_function=loss_function) | {"spread": spread.tolist()})
    loss = TileLoss(spec, gaussian=name == "gaussian", weighted=weighted)
    if name == "gaussian":
        expected = np.asarray(gaussian_nll(values - output[..., :2], output[..., 2:]))
    else:
        pointwise = pointwise_loss(name, 0.05)
        output = output[..., :2]
        expected = np.asarray(pointwise(values - output)) / np.asarray(pointwise(spread))
    target = values if not weighted else np.concatenate([values, weights], axis=-1)
    expected = (expected * weights if weighted else expected).mean((1, 2, 3))
    np.testing.assert_allclose(np.asarray(loss.call(target, tf.constant(output))), expected, rtol=1e-5)


def test_it_learns_good_parts_and_finds_a_planted_spot(
    learned: tuple[ConvAutoencoder, History],
) -> None:
    model, history = learned
    inputs, mask = good_parts(), part_masks()[0]
    images = inputs.images()
    mean = images[GOOD].mean(0)
    assert history.loss[-1] < 0.5 * history.loss[0]
    residual = model.error(inputs, np.arange(8, 12))[:, mask]
    assert (residual**2).mean() < 0.5 * ((images[8:] - mean)[:, mask] ** 2).mean()
    spot = images[8:9].copy()
    spot[0, 5:8, 8:11] += 0.3
    error = np.abs(model.error(InputSet(spot.reshape(1, -1), SHAPE, ("R", "G"), ("spot",)), slice(None))[0]).max(-1)
    assert error[5:8, 8:11].min() > np.quantile(error[mask], 0.9)


def test_pixels_outside_the_part_change_nothing(brief: tuple[ConvAutoencoder, History]) -> None:
    model, inputs, mask = brief[0], good_parts(), part_masks()[0]
    images = inputs.images()
    images[:, ~mask] = np.random.default_rng(5).random((len(images), int((~mask).sum()), 2))
    changed = InputSet(images.reshape(len(images), -1), SHAPE, inputs.channels, inputs.names)
    other_model = ConvAutoencoder(params())
    history = other_model.fit(changed, GOOD, part_masks())
    assert history == brief[1]
    for method in ("error", "latent"):
        expected = getattr(model, method)(inputs, slice(None))
        assert getattr(other_model, method)(changed, slice(None)).tobytes() == expected.tobytes()
    assert not model.error(inputs, slice(None))[:, ~mask].any()
    assert model.error(inputs, slice(None))[:, mask].all()


def test_the_error_of_a_part_does_not_depend_on_other_parts(brief: tuple[ConvAutoencoder, History]) -> None:
    model, inputs = brief[0], good_parts()
    together = model.error(inputs, slice(None))
    assert model.error(inputs, np.array([7, 2])).tobytes() == together[[7, 2]].tobytes()
    assert model.latent(inputs, slice(0, 0)).shape == (0, 64 * 3)


def test_tiles_give_nearly_the_error_of_the_whole_image(brief: tuple[ConvAutoencoder, History], tmp_path: Path) -> None:
    """With the same weights, the errors differ slightly, near the borders of tiles."""
    brief[0].save(tmp_path)
    record = brief[0].spec.model_dump()
    tiled = ConvAutoencoder.load(
        tmp_path, record | {"model_options": record["model_options"] | {"tile": 16, "overlap": 8}}
    )
    assert len(tiled.grid.windows()) == 2  # type: ignore[attr-defined]
    whole, on_tiles = (model.error(good_parts(), slice(None)) for model in (brief[0], tiled))
    assert np.sqrt(((whole - on_tiles) ** 2).mean()) < 0.2 * np.sqrt((whole**2).mean())


def test_a_fit_on_tiles_keeps_its_best_epoch_and_measures_its_accuracy() -> None:
    model, history = fitted(validation=True, options={"tile": 16, "overlap": 4}, metric_accuracy=True)
    assert history.best_epoch == 1 + int(np.argmin(history.validation_loss))
    for values in (history.accuracy, history.validation_accuracy):
        assert len(values) == 2
        assert all(0 < value < 1 for value in values)
    assert model.grid.tile_shape == (13, 16)


@pytest.mark.slow
def test_with_gaussian_output_errors_are_relative_to_the_standard_deviations() -> None:
    model, history = fitted(options={"output": "gaussian"}, n_epochs=30, learning_rate=0.01)
    assert history.loss[-1] < history.loss[0]
    inputs, mask = good_parts(), part_masks()[0]
    labels = np.ones((len(inputs), 1), np.float32)
    _, deviation = next(model._deviations(inputs.rows(slice(0, 1)), labels[:1]))
    output = np.asarray(model.model(deviation[None]))[0]
    sigma = np.exp(output[..., 2:] / 2)
    expected = (deviation - output[..., :2]) * np.sqrt((sigma[mask] ** 2).mean(0)) / sigma
    np.testing.assert_allclose(model.error(inputs, slice(0, 1))[0][mask], expected[mask], rtol=1e-2, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("types", "settings"),
    [
        (1, {"masked_loss": True, "channel_weights": [1.0, 0.0], "optimizer": "sgd", "regularization": "l2"}),
        (2, {"loss_function": "masked_mse", "mixed_precision": True, "options": {"dropout": 0.3}}),
    ],
)
def test_settings_train_and_a_loaded_model_gives_the_same_bits(
    tmp_path: Path, types: int, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """Weights and errors are float32 for any precision of the arithmetic."""
    if settings.get("mixed_precision"):
        request.addfinalizer(partial(keras.mixed_precision.set_global_policy, "float32"))
        keras.mixed_precision.set_global_policy("mixed_float16")
    model, history = fitted(types, **settings)
    assert np.isfinite(history.loss).all()
    if settings.get("channel_weights"):  # the loss does not depend on the second channel
        assert not np.asarray(model.model.get_layer("output").kernel)[:, :, 1].any()
    half = model.model.get_layer("encoder_1_convolution_1").compute_dtype == "float16"
    assert half == bool(settings.get("mixed_precision"))
    assert {value.dtype for value in weights_of(model)} == {np.dtype(np.float32)}
    inputs = good_parts(types)
    model.save(tmp_path)
    loaded = ConvAutoencoder.load(tmp_path, model.spec)
    for method in ("error", "latent"):
        before, after = (getattr(each, method)(inputs, slice(None)) for each in (model, loaded))
        assert before.dtype == np.float32
        assert before.tobytes() == after.tobytes()
    whole = keras.saving.load_model(tmp_path / f"{model.spec.model_name}.keras")
    tile = np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32)
    np.testing.assert_array_equal(whole(tile), model.model(tile))
    (tmp_path / f"{model.spec.model_name}.weights.means.npz").unlink()
    with pytest.raises(ModelError, match="does not exist; run train"):
        ConvAutoencoder.load(tmp_path, model.spec)


@pytest.mark.slow
def test_gradient_tape_and_xla_give_the_same_numbers(brief: tuple[ConvAutoencoder, History]) -> None:
    model, history = fitted(use_gradient_tape=True, jit_compile=True)
    assert model.spec.jit_compile
    np.testing.assert_allclose(history.loss[0], brief[1].loss[0], rtol=1e-5)  # before any step
    np.testing.assert_allclose(history.loss, brief[1].loss, rtol=1e-3)  # Adam's first steps amplify rounding
    error, expected = (each.error(good_parts(), slice(None)) for each in (model, brief[0]))
    np.testing.assert_allclose(error, expected, atol=1e-3)


def test_steps_that_exceed_the_memory_limit_are_made_smaller_or_refused() -> None:
    def large_model(**options: Any) -> ConvAutoencoder:
        large = {"shape": [3000, 4000, 4], "input_dim": 3000 * 4000 * 4}
        large |= {"channels": list("RGBH"), "channel_weights": [1.0] * 4}
        return ConvAutoencoder(params(options=options, memory_limit=4.0) | large)

    with pytest.raises(ConfigError, match=r"step of a 3000x4000 image needs about \d+\.\d GB.*set tile"):
        large_model(tile=None)._batch_size()
    assert large_model(tile=256)._batch_size() == 8
    assert 1 <= large_model(tile=256, size="large")._batch_size() < 8


def test_invalid_options_are_refused() -> None:
    for options, message in (
        ({"size": "huge"}, "redux"),
        ({"tile": 32, "overlap": 17}, "more than half a tile"),
        ({"dropout": 1.0}, "less than 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ConvAutoencoderOptions(**options)
    with pytest.raises(ConfigError, match="output_activation"):
        ConvAutoencoder(params(output_activation="sigmoid")).build_model(int(np.prod(SHAPE)))


def test_augmentation_changes_the_fit() -> None:
    plain, augmented = (fitted(augmentation={"copies": copies, "shift": 2.0})[0] for copies in (0, 2))
    assert not np.allclose(plain.error(good_parts(), GOOD), augmented.error(good_parts(), GOOD), atol=1e-5)
