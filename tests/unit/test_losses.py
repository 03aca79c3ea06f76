"""The losses against their formulas, written out in NumPy, and their gradients against finite differences."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from specifications import specification

from pixal.train_model.keras_training.losses import ImageLoss, pointwise_loss, value_weights
from pixal.validation.loss_cut import raw_losses

NAMES = ("mse", "mae", "huber", "charbonnier", "masked_mse")
DELTA = 0.05
RESIDUALS = np.array([-0.7, -0.05, -0.0499, -1e-4, 0.0, 2e-4, 0.0501, 0.3, 1.0])

# (3, 2) pixels of 2 channels, of two types: half and two thirds of them are the part.
MASKS = np.array([[[1, 1], [1, 0], [0, 0]], [[0, 1], [1, 1], [0, 1]]], bool)
CHANNELS = (0.5, 2.0)


def formula(name: str, residual: float, delta: float = DELTA) -> float:
    size = abs(residual)
    if name == "mae":
        return size
    if name == "huber":
        return size**2 / 2 if size <= delta else delta * (size - delta / 2)
    if name == "charbonnier":
        return float(np.sqrt(residual**2 + 1e-6) - 1e-3)
    return residual**2


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_its_formula(name: str) -> None:
    expected = [formula(name, r) for r in RESIDUALS]
    np.testing.assert_allclose(np.asarray(pointwise_loss(name, DELTA)(RESIDUALS)), expected, rtol=1e-12)
    actual = np.asarray(pointwise_loss(name, DELTA)(RESIDUALS.astype(np.float32)))
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=1e-7)


def test_no_two_names_are_the_same_loss_but_the_masked_one() -> None:
    actual = {name: tuple(np.asarray(pointwise_loss(name, DELTA)(RESIDUALS))) for name in NAMES}
    assert len(set(actual.values())) == len(NAMES) - 1
    assert actual["mse"] == actual["masked_mse"]


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.5, 2.0])
def test_huber_and_its_slope_have_no_step_at_delta(delta: float) -> None:
    huber = pointwise_loss("huber", delta)
    around = np.array([delta * (1 - 1e-6), delta * (1 + 1e-6)])
    values = np.asarray(huber(around))
    assert values[0] == pytest.approx(delta**2 / 2, rel=1e-4)
    assert values[1] - values[0] == pytest.approx(delta * (around[1] - around[0]), rel=1e-3)
    assert float(huber(np.array(10.0))) == pytest.approx(formula("huber", 10.0, delta))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("channels", [CHANNELS, (3.0, 3.0), (1.0, 0.0)])
def test_value_weights_equal_channel_weights_inside_the_mask(masked: bool, channels: tuple[float, float]) -> None:
    actual = value_weights(MASKS, channels, masked=masked)
    if not masked and channels[0] == channels[1]:
        assert actual is None
        return
    assert actual is not None
    for kind, row, column, channel in np.ndindex(*MASKS.shape, 2):
        counts = MASKS[kind, row, column] or not masked
        share = MASKS[kind].mean() if masked else 1.0
        value = actual[kind].reshape(*MASKS.shape[1:], 2)[row, column, channel]
        assert value == pytest.approx(counts * channels[channel] / np.mean(channels) / share)
    np.testing.assert_allclose(actual.mean(1), 1, rtol=1e-6)


def naive(
    name: str, images: np.ndarray, actual: np.ndarray, weights: np.ndarray | None, labels: np.ndarray | None
) -> list[float]:
    """The loss of each image: the sum of weight times loss over all values, divided by their number."""
    losses = []
    for n, image in enumerate(images):
        total = 0.0
        for d, value in enumerate(image):
            kind = 0 if labels is None else int(np.argmax(labels[n]))
            total += (1.0 if weights is None else float(weights[kind, d])) * formula(name, value - actual[n, d])
        losses.append(total / len(image))
    return losses


WEIGHTS = {
    "plain": None,
    "channels": value_weights(MASKS[:1], CHANNELS, masked=False),
    "masked": value_weights(MASKS[:1], (1.0, 1.0), masked=True),
    "masked, channels, types": value_weights(MASKS, CHANNELS, masked=True),
}


def some_batch(kind: str, residuals: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Targets, reconstructions and labels of three images, float64."""
    generator = np.random.default_rng(2)
    images = generator.random((3, 12))
    labels = np.eye(2)[[0, 1, 0]] if "types" in kind else None
    return images, images + generator.choice(residuals, images.shape), labels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_image_loss_is_the_weighted_mean(name: str, kind: str) -> None:
    images, actual, labels = some_batch(kind, (-0.4, -0.02, 0.0, 0.02, 0.3))
    target = images if labels is None else np.hstack([images, labels])
    expected = naive(name, images, actual, WEIGHTS[kind], labels)
    exact = ImageLoss(name, DELTA, WEIGHTS[kind], dtype="float64")
    np.testing.assert_allclose(np.asarray(exact.call(target, actual)), expected, rtol=1e-12)
    assert float(exact(target, actual)) == pytest.approx(np.mean(expected), rel=1e-12)
    assert float(ImageLoss(name, DELTA, WEIGHTS[kind])(target, actual)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_value_without_weight_does_not_count_at_all() -> None:
    weights = np.array([[2.0, 0.0, 1.0, 1.0]], np.float32)
    image = np.zeros((1, 4), np.float32)
    loss = ImageLoss("masked_mse", DELTA, weights)
    assert float(loss(image, image + np.array([[0, 9, 0, 0]], np.float32))) == 0
    assert float(loss(image, image + np.array([[3, 0, 0, 0]], np.float32))) == pytest.approx(2 * 9 / 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_gradients_are_central_differences(name: str, kind: str) -> None:
    """In float64, with residuals on both sides of Huber's delta, of Charbonnier's epsilon and of 0."""
    images, actual, labels = some_batch(kind, (-0.4, -0.02, -5e-4, 5e-4, 0.02, 0.3))
    target = images if labels is None else np.hstack([images, labels])
    variable = tf.Variable(actual)
    with tf.GradientTape() as tape:
        value = ImageLoss(name, DELTA, WEIGHTS[kind], dtype="float64")(target, variable)
    gradient = tape.gradient(value, variable).numpy()

    step = 1e-6
    for n, d in np.ndindex(*actual.shape):
        moved = [actual.copy(), actual.copy()]
        moved[0][n, d] += step
        moved[1][n, d] -= step
        high, low = (np.mean(naive(name, images, m, WEIGHTS[kind], labels)) for m in moved)
        assert gradient[n, d] == pytest.approx((high - low) / (2 * step), rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_perfect_reconstruction_is_finite(name: str) -> None:
    variable = tf.Variable(np.full((2, 4), 0.5, np.float32))
    with tf.GradientTape() as tape:
        value = ImageLoss(name, DELTA)(np.full((2, 4), 0.5, np.float32), variable)
    assert float(value) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(tape.gradient(value, variable).numpy()).all()


@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_compiled_model_file_restores_its_loss(tmp_path: Path, kind: str) -> None:
    images, _, labels = some_batch(kind, (0.0,))
    target = images if labels is None else np.hstack([images, labels])
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(12)])
    model.compile(optimizer="adam", loss=ImageLoss("huber", 0.3, WEIGHTS[kind]))
    model.train_on_batch(images, target)
    model.save(tmp_path / "model.keras")
    actual = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert actual.loss.huber_delta == 0.3
    assert float(actual.test_on_batch(images, target)) == float(model.test_on_batch(images, target))
    assert float(actual.train_on_batch(images, target)) == float(model.train_on_batch(images, target))


def test_the_weights_of_a_large_image_are_small_in_a_file() -> None:
    mask = np.zeros((1, 500, 600), bool)
    mask[:, 40:460, 70:520] = True
    weights = value_weights(mask, (1.0, 0.5, 2.0, 1.0), masked=True)
    config = ImageLoss("mse", weights=weights).get_config()
    assert len(str(config)) < 50_000
    again = ImageLoss.from_config(config).get_config()
    assert again == config


@pytest.mark.parametrize("name", ["mse", "masked_mse", "mae", "huber", "charbonnier"])
def test_a_numeric_loss_cut_uses_the_loss_of_training(name: str) -> None:
    shape = (4, 5, 3)
    errors = np.random.default_rng(0).normal(0, 0.1, (2, *shape)).astype(np.float32)
    spec = specification(shape, loss_function=name)
    np.testing.assert_array_equal(raw_losses(errors, spec), pointwise_loss(name, spec.huber_delta)(errors))
