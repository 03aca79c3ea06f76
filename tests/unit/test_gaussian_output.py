"""The Gaussian output of the autoencoder: its likelihood equals that of SciPy, and known deviations are recovered.

``python tests/unit/test_gaussian_output.py`` updates the stored map after an intended change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from scipy.stats import norm

from pixal.calibration.calibration import calibrate
from pixal.calibration.maps import calibrated_maps
from pixal.config.schema import ModelTraining
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.train_model.autoencoder.gaussian_coefficients import GaussianCoefficientLoss, gaussian_data
from pixal.train_model.autoencoder.log_variance import LogVariance, mean_squared_residuals, means_only
from pixal.train_model.autoencoder.model import Autoencoder
from pixal.train_model.autoencoder.projection import SubspaceFitter
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection
from pixal.train_model.family import FitControl
from pixal.train_model.keras_training.losses import (
    VARIANCES,
    GaussianLoss,
    bounded_log_variance,
    gaussian_nll,
    value_weights,
)

DATA = Path(__file__).parent / "data"
INPUT, STORED = DATA / "golden.npz", DATA / "golden_gaussian_output.npz"
Values = NDArray[Any]


def build(shape: tuple[int, int, int], types: int = 1, **settings: Any) -> Autoencoder:
    given = {"autoencoder_architecture": [16, 4], "n_epochs": 60, "batchsize": 16, "metric_accuracy": False}
    given |= {"model_options": {"output": "gaussian"}, "one_hot_encoding": types > 1, "patience": 0}
    checked = ModelTraining.model_validate(given | settings)
    Autoencoder.set_up(checked)
    described = {"shape": list(shape), "input_dim": int(np.prod(shape)), "types": ["back", "front"][:types]}
    described |= {"channels": list("RGB")[: shape[2]], "channel_weights": [1.0] * shape[2], "memory_limit": 1.0}
    return Autoencoder(checked.model_dump() | described)


def inputs_of(images: Values, kinds: Values | None = None) -> InputSet:
    count, *shape = images.shape
    names, channels = tuple(f"{number}.png" for number in range(count)), tuple("RGB"[: shape[2]])
    data = images.reshape(count, -1).astype(np.float32)
    if kinds is None:
        return InputSet(data, tuple(shape), channels, names)  # type: ignore[arg-type]
    return InputSet(data, tuple(shape), channels, names, np.eye(2, dtype=np.float32)[kinds], ("back", "front"))  # type: ignore[arg-type]


def ones(count: int) -> NDArray[np.float32]:
    return np.ones((count, 1), np.float32)


def test_within_its_bounds_the_likelihood_agrees_with_scipy() -> None:
    residuals, sigmas = np.meshgrid([-0.5, -0.01, 0.0, 1e-4, 0.3], [1.5e-3, 1e-2, 0.1, 0.3])
    raw = 2 * np.log(sigmas)
    inside = np.exp(0.5 * np.asarray(bounded_log_variance(raw)))
    np.testing.assert_allclose(inside, sigmas, rtol=0.05)
    np.testing.assert_allclose(inside[1:3], sigmas[1:3], rtol=0.005)
    expected = -norm.logpdf(residuals, scale=inside) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(np.asarray(gaussian_nll(residuals, raw)), expected, rtol=1e-9)
    actual = np.asarray(gaussian_nll(residuals.astype(np.float32), raw.astype(np.float32)))
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("raw", [-1e6, -60.0, -18.42, -5.0, 0.0, 40.0, 1e6])
@pytest.mark.parametrize("residual", [0.0, 1e-7, 1.0])
def test_every_prediction_gives_a_finite_loss_and_gradient(raw: float, residual: float) -> None:
    given = tf.Variable([residual, raw], dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = gaussian_nll(given[0], given[1])
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, given).numpy()).all()
    low, high = np.log(VARIANCES)
    assert low - 1e-5 <= float(bounded_log_variance(given[1])) <= high + 1e-5


def test_bounded_log_variances_increase_with_log_variances() -> None:
    bounded = np.asarray(bounded_log_variance(np.linspace(-40, 20, 2001)))
    assert (np.diff(bounded) >= 0).all()


def test_the_loss_is_the_weighted_mean_and_can_be_saved() -> None:
    generator = np.random.default_rng(0)
    weights = generator.random((2, 6)).astype(np.float32)
    label = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    truth, mean, raw = (generator.normal(0, scale, (3, 6)).astype(np.float32) for scale in (0.1, 0.1, 3.0))
    expected = [
        np.mean(
            [weights[row @ [0, 1]].astype(np.float64)[i] * float(gaussian_nll(t[i] - m[i], v[i])) for i in range(6)]
        )
        for row, t, m, v in zip(label.astype(int), truth, mean, raw, strict=True)
    ]
    loss = GaussianLoss(weights=weights)
    given = np.hstack([truth, label]), np.hstack([mean, raw])
    np.testing.assert_allclose(np.asarray(loss.call(*given)), expected, rtol=1e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(again, GaussianLoss)
    np.testing.assert_array_equal(np.asarray(again.call(*given)), np.asarray(loss.call(*given)))
    plain = GaussianLoss()
    np.testing.assert_allclose(
        np.asarray(plain.call(truth, given[1])), np.asarray(gaussian_nll(truth - mean, raw)).mean(1)
    )


def scattered(count: int = 160) -> tuple[InputSet, Values]:
    """Images (n, 24, 40, 2) whose noise is four times as large on the right, and increases with their contrast."""
    generator = np.random.default_rng(4)
    shape = (24, 40, 2)
    contrast = generator.uniform(-1, 1, (count, 1, 1, 1))
    sigma = np.full(shape, 0.01)
    sigma[:, 20:] = 0.04
    sigma = sigma * np.exp(0.7 * contrast * [1.0, 0.0])  # in the first channel only
    pattern = generator.normal(0, 0.1, shape)
    images = 0.5 + contrast * pattern + sigma * generator.normal(size=(count, *shape))
    return inputs_of(images), sigma


def test_known_standard_deviations_are_recovered_per_pixel_and_per_image() -> None:
    inputs, sigma = scattered()
    model = build(inputs.shape, n_epochs=30, learning_rate=0.01)
    masks = np.ones((1, *inputs.shape[:2]), bool)
    model.fit(inputs, np.arange(120), masks)
    new = np.arange(120, 160)
    actual = model.deviation(inputs.rows(new), ones(40)).reshape(-1, *inputs.shape)
    clear = np.r_[0:12, 28:40]  # not within nine pixels of the step: a maximum over six pixels, and its blur
    ratio = actual[:, :, clear] / sigma[new][:, :, clear]
    assert np.abs(np.log(np.median(ratio, axis=(1, 2)))).mean() < 0.1
    assert np.abs(np.log(ratio)).mean() < 0.25
    # The noise of an image increases with its contrast, in the first channel only.
    steps = np.log(actual[:, 5, 5]) @ np.eye(2)
    contrast = np.log(sigma[new][:, 5, 5, 0])
    assert np.corrcoef(steps[:, 0], contrast)[0, 1] > 0.95
    assert steps[:, 1].std() < 0.1 < 0.25 < steps[:, 0].std()


@pytest.mark.parametrize("types", [1, 2])
def test_the_loss_from_coefficients_equals_that_of_whole_images(types: int) -> None:
    generator = np.random.default_rng(6)
    kinds = np.arange(14) % 2 if types == 2 else None
    inputs = inputs_of(generator.random((14, 8, 9, 3)), kinds)
    labels = ones(14) if types == 1 else np.asarray(inputs.labels)
    masks = generator.random((types, 8, 9)) > 0.3
    weights = value_weights(masks, (1.0, 2.0, 0.5), masked=True)
    assert weights is not None
    fit = SubspaceFitter(inputs, labels, 1.0).fit([np.arange(10)], 4)[0].subspace
    projection = SubspaceProjection(216, 4, types)
    projection.set_subspace(fit)
    layer = LogVariance(inputs.shape, types)
    layer.set_level(generator.uniform(5e-5, 2e-4, (types, 216)).astype(np.float32), masks)
    actual, gains = (generator.normal(0, 0.5, (14, size)).astype(np.float32) for size in (4, 3))

    label = None if types == 1 else labels
    outputs = np.hstack([projection(actual, label, inverse=True), layer(gains, label)])
    truth = inputs.data if types == 1 else np.hstack([inputs.data, labels])
    expected = np.asarray(GaussianLoss(weights=weights).call(truth, outputs))
    rows = np.arange(14)
    data = gaussian_data(inputs, rows, labels, fit, layer.level.numpy(), weights)
    given, target = data.batch(rows)
    np.testing.assert_allclose(given if types == 1 else given[0], np.asarray(projection(inputs.data, label)), atol=1e-5)
    loss = GaussianCoefficientLoss(4, 3)
    np.testing.assert_allclose(np.asarray(loss.call(target, np.hstack([actual, gains]))), expected, rtol=1e-3)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert (again.rank, again.channels) == (4, 3)


def test_the_error_is_in_units_of_sigma_times_the_mean_sigma_of_the_part() -> None:
    inputs, _ = scattered(40)
    mask = np.zeros((1, *inputs.shape[:2]), bool)
    mask[0, 2:-2, 3:-3] = True
    model = build(inputs.shape, n_epochs=5)
    model.fit(inputs, np.arange(30), mask)
    images = inputs.rows(slice(30, 40))
    difference = images - model.reconstruct(images, ones(10))
    np.testing.assert_array_equal(model.difference(inputs, slice(30, 40)).reshape(10, -1), difference)
    level = np.exp(model._log_variance.level.numpy()).reshape(inputs.shape)
    unit = np.sqrt([np.mean(level[mask[0], channel]) for channel in range(2)])
    expected = (difference / model.deviation(images, ones(10))).reshape(-1, *inputs.shape) * unit
    np.testing.assert_allclose(model.error(inputs, slice(30, 40)), expected, rtol=1e-4, atol=1e-7)


def test_the_level_depends_on_the_part_only() -> None:
    generator = np.random.default_rng(1)
    squared, mask = generator.random((2, 12 * 14 * 2)).astype(np.float32), np.zeros((2, 12, 14), bool)
    mask[0, 2:9, 3:11], mask[1, 1:5, 1:5] = True, True
    layers = [LogVariance((12, 14, 2), 2) for _ in range(2)]
    layers[0].set_level(squared, mask)
    outside = ~np.repeat(mask[..., None], 2, axis=3).reshape(2, -1)
    layers[1].set_level(np.where(outside, 5, squared).astype(np.float32), mask)
    levels = [layer.level.numpy() for layer in layers]
    np.testing.assert_array_equal(levels[0][~outside], levels[1][~outside])
    np.testing.assert_array_equal(*(layer.unit.numpy() for layer in layers))
    assert np.isfinite(levels[0]).all()


def test_residuals_and_means_equal_those_of_numpy_per_type() -> None:
    generator = np.random.default_rng(2)
    kinds = np.arange(40) % 2
    inputs = inputs_of(generator.random((40, 3, 4, 1)), kinds)
    rows, labels = np.arange(1, 38), np.asarray(inputs.labels)
    means = means_only(inputs, rows, labels)
    squared = mean_squared_residuals(inputs, rows, labels, means)
    subspace = SubspaceFitter(inputs, labels, 1.0).fit([rows], 3)[0].subspace
    left = mean_squared_residuals(inputs, rows, labels, subspace)
    for kind in (0, 1):
        own = inputs.data[rows][kinds[rows] == kind]
        np.testing.assert_allclose(means.mean[kind], own.mean(0), rtol=1e-5)
        np.testing.assert_allclose(squared[kind], own.var(0), rtol=1e-4)
        inside = (own - own.mean(0)) @ subspace.basis.T @ subspace.basis
        np.testing.assert_allclose(left[kind], ((own - own.mean(0) - inside) ** 2).mean(0), rtol=1e-3)


@pytest.mark.parametrize(("types", "projection"), [(1, "auto"), (2, "auto"), (2, "none")])
def test_a_loaded_model_and_a_second_fit_give_the_same_bits(types: int, projection: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    kinds = np.arange(12) % 2 if types == 2 else None
    inputs = inputs_of(generator.random((12, 8, 9, 2)), kinds)
    masks = np.zeros((types, 8, 9), bool)
    masks[:, 1:-1, 1:-1] = True
    model = build(inputs.shape, types, n_epochs=3, input_projection=projection)
    model.fit(inputs, np.arange(10), masks, FitControl(validation_rows=np.arange(10, 12)))
    first = model.error(inputs, slice(None))
    assert first.shape == (12, 8, 9, 2)
    if projection == "auto":  # without projection, the network is built again, which takes long
        model.fit(inputs, np.arange(10), masks, FitControl(validation_rows=np.arange(10, 12)))
        np.testing.assert_array_equal(model.error(inputs, slice(None)), first)
    files = model.save(tmp_path)
    loaded = Autoencoder.load(tmp_path, model.spec)
    for ask in ("error", "latent", "difference"):
        actual, other = (getattr(one, ask)(inputs, slice(None)) for one in (model, loaded))
        assert actual.tobytes() == other.tobytes(), ask
    whole = keras.saving.load_model(files[0])
    given = [inputs.data] if types == 1 else [inputs.data, np.asarray(inputs.labels)]
    np.testing.assert_array_equal(np.asarray(whole(given)), model._predict(inputs.data, np.asarray(given[-1])))


@pytest.mark.parametrize(("count", "projection"), [(1, "auto"), (2, "auto"), (1, "none")])
def test_one_or_two_good_images_give_finite_errors(count: int, projection: str) -> None:
    inputs = inputs_of(np.random.default_rng(5).random((4, 8, 9, 2)))
    model = build(inputs.shape, n_epochs=3, input_projection=projection, metric_accuracy=True)
    model.fit(inputs, np.arange(count), np.ones((1, 8, 9), bool))
    assert np.isfinite(model.error(inputs, slice(None))).all()
    assert np.isfinite(model.latent(inputs, slice(None))).all()


@pytest.mark.parametrize("loss", ["mae", "huber", "charbonnier", "masked_mse"])
def test_other_losses_are_refused(loss: str) -> None:
    with pytest.raises(ConfigError, match=f"loss_function: {loss} cannot be used with output gaussian"):
        build((8, 9, 1), loss_function=loss)


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model_options\.output: input should be 'values' or 'gaussian'"):
        build((8, 9, 1), model_options={"output": "laplace"})


def golden() -> Values:
    """The calibrated maps of the new parts of the stored input, as in ``test_golden.py``."""
    images = load_arrays(INPUT)["images"]
    inputs, folds = inputs_of(images), [np.arange(0, 3), np.arange(3, 6), np.arange(6, 9)]
    mask = np.zeros(images.shape[1:3], bool)
    mask[1:-1, 1:-1] = True
    model = build(inputs.shape, n_epochs=4, batchsize=4, autoencoder_architecture=[8, 4], projection_rank=4)
    held_out = np.empty((9, *inputs.shape), np.float32)
    for fold in folds:
        model.fit(inputs, np.setdiff1d(np.arange(9), fold), mask[None], FitControl(validation_rows=fold))
        held_out[fold] = model.error(inputs, fold)
    model.fit(inputs, np.arange(9), mask[None])
    settings: dict[str, Any] = {"mask": mask, "weights": np.ones(2, np.float32), "smoothing": 1.0}
    variance = calibrate(held_out, folds, **settings).variance
    return calibrated_maps(model.error(inputs, np.arange(9, len(inputs))), variance, **settings)


@pytest.mark.slow
def test_the_map_of_the_stored_input_agrees_with_the_stored_map() -> None:
    actual = golden()
    np.testing.assert_allclose(actual, load_arrays(STORED)["maps"], rtol=1e-3, atol=1e-4)
    assert actual[1].max() > 2 * actual[0].max()  # the spot


if __name__ == "__main__":
    save_arrays(STORED, maps=golden())
