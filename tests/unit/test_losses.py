"""The losses against their formulas, written out in NumPy, and their gradients against finite differences."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from pixal.train_model.losses import ImageLoss, pointwise_loss

NAMES = ("mse", "mae", "huber", "charbonnier", "masked_mse")
DELTA = 0.05
RESIDUALS = np.array([-0.7, -0.05, -0.0499, -1e-4, 0.0, 2e-4, 0.0501, 0.3, 1.0])


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
    found = np.asarray(pointwise_loss(name, DELTA)(RESIDUALS.astype(np.float32)))
    np.testing.assert_allclose(found, [formula(name, r) for r in RESIDUALS], rtol=2e-4, atol=1e-7)


def test_no_two_names_are_the_same_loss_but_the_masked_one() -> None:
    found = {name: tuple(np.asarray(pointwise_loss(name, DELTA)(RESIDUALS))) for name in NAMES}
    assert len(set(found.values())) == len(NAMES) - 1
    assert found["mse"] == found["masked_mse"]


@pytest.mark.parametrize("delta", [0.01, 0.05, 0.5, 2.0])
def test_huber_and_its_slope_have_no_step_at_delta(delta: float) -> None:
    huber = pointwise_loss("huber", delta)
    around = np.array([delta * (1 - 1e-6), delta * (1 + 1e-6)])
    values = np.asarray(huber(around))
    assert values[0] == pytest.approx(delta**2 / 2, rel=1e-4)
    assert values[1] - values[0] == pytest.approx(delta * (around[1] - around[0]), rel=1e-3)
    assert float(huber(np.array(10.0))) == pytest.approx(formula("huber", 10.0, delta))


def naive(
    name: str, images: np.ndarray, found: np.ndarray, weights: np.ndarray | None, labels: np.ndarray | None
) -> list[float]:
    """The loss of each image: the sum of weight times loss over all values, divided by their number."""
    losses = []
    for n, image in enumerate(images):
        total = 0.0
        for d, value in enumerate(image):
            kind = 0 if labels is None else int(np.argmax(labels[n]))
            total += (1.0 if weights is None else float(weights[kind, d])) * formula(name, value - found[n, d])
        losses.append(total / len(image))
    return losses


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["plain", "weighted", "labelled"])
def test_image_loss_is_the_weighted_mean(name: str, kind: str) -> None:
    generator = np.random.default_rng(1)
    images, found = generator.random((2, 5, 12)).astype(np.float32)
    weights = labels = None
    if kind == "weighted":
        weights = generator.random((1, 12)).astype(np.float32)
    if kind == "labelled":
        weights = generator.random((2, 12)).astype(np.float32) * (np.arange(12) > [[3], [6]])
        labels = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1]]
    target = images if labels is None else np.hstack([images, labels])
    loss = ImageLoss(name, DELTA, weights)
    expected = naive(name, images, found, weights, labels)
    np.testing.assert_allclose(np.asarray(loss.call(target, found)), expected, rtol=1e-4)
    assert float(loss(target, found)) == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_value_without_weight_does_not_count_at_all() -> None:
    weights = np.array([[2.0, 0.0, 1.0, 1.0]], np.float32)
    image = np.zeros((1, 4), np.float32)
    loss = ImageLoss("masked_mse", DELTA, weights)
    assert float(loss(image, image + np.array([[0, 9, 0, 0]], np.float32))) == 0
    assert float(loss(image, image + np.array([[3, 0, 0, 0]], np.float32))) == pytest.approx(2 * 9 / 4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    generator = np.random.default_rng(2)
    images = generator.random((3, 8))
    found = images + generator.choice([-0.4, -0.02, 0.02, 0.3], images.shape)
    weights = generator.random((2, 8)).astype(np.float32)
    labels = np.eye(2)[[0, 1, 0]]
    target = tf.constant(np.hstack([images, labels]), tf.float32)
    loss = ImageLoss(name, DELTA, weights)
    variable = tf.Variable(found, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(target, variable)
    gradient = tape.gradient(value, variable).numpy()

    step = 1e-6
    for n, d in np.ndindex(*found.shape):
        moved = [found.copy(), found.copy()]
        moved[0][n, d] += step
        moved[1][n, d] -= step
        high, low = (np.mean(naive(name, images, m, weights, labels)) for m in moved)
        assert gradient[n, d] == pytest.approx((high - low) / (2 * step), rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_of_a_perfect_reconstruction_is_finite(name: str) -> None:
    variable = tf.Variable(np.full((2, 4), 0.5, np.float32))
    with tf.GradientTape() as tape:
        value = ImageLoss(name, DELTA)(np.full((2, 4), 0.5, np.float32), variable)
    assert float(value) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(tape.gradient(value, variable).numpy()).all()


def test_image_loss_is_known_to_keras() -> None:
    assert keras.saving.get_registered_object("pixal>ImageLoss") is ImageLoss
