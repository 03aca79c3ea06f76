"""The networks for charge clusters: their quantisation, likelihood, settings, and storage."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pixal.errors import ConfigError
from pixal.tasks.charge_clusters.network.rounding import divide_half_even
from pixal.tasks.charge_clusters.network.settings import FloatNetworkSettings, NetworkSettings

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from pixal.tasks.charge_clusters.network import layers as cluster_layers  # noqa: E402
from pixal.tasks.charge_clusters.network.likelihood import (  # noqa: E402
    FIRST_DIAGONAL,
    MEANS,
    SMALLEST_DIAGONAL,
    WarmUpLikelihood,
    negative_log_likelihood,
    split_output,
)
from pixal.tasks.charge_clusters.network.model import build_float, build_mdn  # noqa: E402
from pixal.tasks.charge_clusters.network.quantization import hard_tanh, quantize  # noqa: E402
from pixal.train_model.keras_training.saving import save_model  # noqa: E402

SHAPE = (13, 21, 2)


def blobs(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Clusters as Gaussian spots, and the scaled targets: two positions and two widths."""
    labels = np.random.default_rng(seed).uniform(-1, 1, (count, 4)).astype(np.float32)
    rows, columns, slices = (np.linspace(-1, 1, size) for size in shape)
    x, y, cot_alpha, cot_beta = (labels[:, target, None] for target in range(4))
    across = np.exp(-(((columns - 0.5 * x) / (0.2 + 0.1 * cot_alpha)) ** 2))
    along = np.exp(-(((rows - 0.5 * y) / (0.3 + 0.2 * cot_beta)) ** 2))
    rise = (slices + 2) / 3
    return np.einsum("nr,nc,s->nrcs", along, across, rise).astype(np.float32), labels


def randomised(model: Any, seed: int = 1) -> Any:
    """Give every weight a value within the range of the quantiser and beyond."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(
            np.abs(generator.normal(0, 0.5, weight.shape))
            if "variance" in weight.name
            else generator.normal(0, 0.5, weight.shape)
        )
    return model


@pytest.mark.parametrize("bits", [4, None])
def test_a_separable_convolution_equals_its_two_convolutions(bits):
    layer = cluster_layers.QuantizedSeparableConv2D(5, 3, bits=bits)
    inputs = np.round(np.random.default_rng(3).uniform(-128, 127, (4, *SHAPE))).astype(np.float32) / 128
    layer.build(inputs.shape)
    randomised(layer)
    kernels = [quantize(kernel, bits, symmetric=True) for kernel in (layer.depthwise_kernel, layer.pointwise_kernel)]
    expected = keras.ops.separable_conv(inputs, *kernels, padding="valid") + quantize(layer.bias, bits)
    outputs = layer(inputs)
    if bits is None:
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    else:
        np.testing.assert_array_equal(outputs, expected)  # all sums are exact


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
@pytest.mark.parametrize("symmetric", [False, True])
def test_quantize_gives_the_nearest_level(bits: int, symmetric: bool) -> None:
    values = np.concatenate([np.linspace(-2, 2, 4001), [1e6, -1e6, 3.3, 1e-30]]).astype(np.float32)
    levels = np.arange(-(2 ** (bits - 1)) + symmetric, 2 ** (bits - 1)) / 2 ** (bits - 1)
    rounded = keras.ops.convert_to_numpy(quantize(values, bits, symmetric=symmetric))
    assert np.isin(rounded, levels.astype(np.float32)).all()
    distances = np.abs(values[:, None].astype(np.float64) - levels).min(axis=1)
    np.testing.assert_allclose(np.abs(values.astype(np.float64) - rounded), distances, atol=0)


def test_halves_are_rounded_to_even() -> None:
    eighths = np.float32([0.5, 1.5, 2.5, -0.5, -1.5]) / 8
    np.testing.assert_array_equal(quantize(eighths, 4) * 8, [0, 2, 2, 0, -2])


def test_gradients_pass_through_the_rounding() -> None:
    values = tf.constant([-3.0, -0.999, -0.3, 0.0, 0.3, 0.999, 3.0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(values)
        rounded, clipped = quantize(values, 4), hard_tanh(values, 4)
    np.testing.assert_array_equal(tape.gradient(rounded, values), np.ones(7))
    np.testing.assert_array_equal(tape.gradient(clipped, values), [0, 1, 1, 1, 1, 1, 0])


@pytest.mark.parametrize("denominator", [1, 2, 9, 16, 36])
def test_division_with_halves_to_even(denominator: int) -> None:
    numerators = np.arange(-200, 201)
    expected = [round(int(numerator) / denominator) for numerator in numerators]  # Python rounds halves to even
    np.testing.assert_array_equal(divide_half_even(numerators, denominator), expected)
    np.testing.assert_array_equal(divide_half_even(keras.ops.convert_to_tensor(numerators), denominator), expected)


@pytest.mark.parametrize(("pool", "input_bits", "bits"), [(3, 4, 8), (2, 4, 3), (4, 8, 4), (3, 8, 4)])
def test_pooling_rounds_the_exact_average(pool: int, input_bits: int, bits: int) -> None:
    levels = 2 ** (input_bits - 1)
    integers = np.random.default_rng(0).integers(-levels + 1, levels, (50, 7, 9, 2))
    layer = cluster_layers.QuantizedAveragePooling2D(pool, input_bits, bits=bits)
    pooled = keras.ops.convert_to_numpy(layer((integers / levels).astype(np.float32)))
    rows, columns = 7 // pool, 9 // pool
    inside = integers[:, : rows * pool, : columns * pool]
    sums = inside.reshape(50, rows, pool, columns, pool, 2).sum(axis=(2, 4))
    expected = np.clip(
        divide_half_even(sums * 2 ** (bits - 1), pool**2 * levels), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    )
    np.testing.assert_array_equal(pooled * 2 ** (bits - 1), expected)


def test_published_number_of_weights() -> None:
    model = build_mdn(SHAPE)
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.weights}
    assert counts == {"separable": 33, "convolution": 30, "dense_1": 1456, "dense_2": 272, "output": 238}
    assert model.count_params() == 2029
    assert model.output_shape == (None, 14)


def test_the_network_is_the_chain_of_rounded_steps() -> None:
    """The whole network against loops over pixels."""
    model = randomised(build_mdn(SHAPE))
    charge, _ = blobs(2)
    weights = [keras.ops.convert_to_numpy(weight).astype(np.float64) for weight in model.weights]
    depthwise, pointwise, bias, kernel, bias_2, *dense = weights

    def rounded(values: np.ndarray, bits: int, symmetric: int = 0) -> np.ndarray:
        levels = 2 ** (bits - 1)
        return np.clip(np.rint(values * levels), -levels + symmetric, levels - 1) / levels

    image = rounded(charge, 8, 1)
    first = np.zeros((2, 11, 19, 5))
    for row, column in np.ndindex(11, 19):
        window = image[:, row : row + 3, column : column + 3]
        each = np.einsum("nijc,ijc->nc", window, rounded(depthwise[..., 0], 4, 1))
        first[:, row, column] = each @ rounded(pointwise[0, 0], 4, 1) + rounded(bias, 4)
    first = rounded(first, 4, 1)
    second = rounded(first @ rounded(kernel[0, 0], 4) + rounded(bias_2, 4), 4, 1)
    hidden = rounded(second[:, :9, :18].reshape(2, 3, 3, 6, 3, 5).mean(axis=(2, 4)), 8).reshape(2, -1)
    for index in (0, 2):
        hidden = rounded(hidden @ rounded(dense[index], 8) + rounded(dense[index + 1], 8), 8, 1)
    expected = hidden @ rounded(dense[4], 8) + rounded(dense[5], 8)
    np.testing.assert_array_equal(model(charge), expected.astype(np.float32))


def test_likelihood_equals_that_of_scipy() -> None:
    generator = np.random.default_rng(0)
    outputs = generator.uniform(0.1, 1, (20, 14)).astype(np.float32)
    truth = generator.normal(0, 1, (20, 4)).astype(np.float32)
    mean, cholesky = split_output(outputs.astype(np.float64))
    assert isinstance(cholesky, np.ndarray)
    assert np.array_equal(cholesky, np.tril(cholesky))
    np.testing.assert_allclose(mean, outputs[:, [0, 2, 4, 6]])
    np.testing.assert_allclose(cholesky[:, [2, 3], [0, 2]], outputs[:, [9, 13]])
    covariance = cholesky @ cholesky.transpose(0, 2, 1)
    expected = [
        -multivariate_normal(centre, matrix).logpdf(value)
        for centre, matrix, value in zip(mean, covariance, truth, strict=True)
    ]
    np.testing.assert_allclose(negative_log_likelihood(truth, outputs), expected, rtol=2e-4)


def test_the_loss_of_the_warm_up_is_the_squared_error_but_for_a_constant() -> None:
    generator = np.random.default_rng(0)
    outputs, truth = tf.Variable(generator.normal(0, 1, (20, 14)), dtype="float32"), generator.normal(0, 1, (20, 4))
    loss = WarmUpLikelihood()
    np.testing.assert_array_equal(loss(truth, outputs), negative_log_likelihood(truth, outputs))
    loss.is_warm_up.assign(True)
    with tf.GradientTape() as tape:
        losses = loss(truth, outputs)
    squares = np.square(truth - outputs.numpy()[:, MEANS]).sum(1)
    constant = losses.numpy() - squares / (2 * FIRST_DIAGONAL**2)
    np.testing.assert_allclose(constant, 4 * np.log(FIRST_DIAGONAL) + 2 * np.log(2 * np.pi), rtol=1e-4)
    gradient = tape.gradient(losses, outputs).numpy()
    assert gradient[:, MEANS].all()
    assert not np.delete(gradient, MEANS, axis=1).any()


def test_outliers_and_impossible_diagonals_have_finite_gradients() -> None:
    outputs = tf.Variable(np.zeros((3, 14), np.float32))
    outputs.assign(tf.tensor_scatter_nd_update(outputs, [[0, 1], [1, 1], [2, 1]], [0.5, 0.5, -1.0]))
    truth = np.zeros((3, 4), np.float32)
    truth[:, 0] = 0.1, 1e4, 0.1
    with tf.GradientTape() as tape:
        losses = negative_log_likelihood(truth, outputs)
    gradient = tape.gradient(losses, outputs).numpy()
    assert np.isfinite(losses).all()
    assert np.isfinite(gradient).all()
    assert (gradient[:, 0] < 0).all(), "a larger mean of x lowers the loss"
    assert gradient[1, 0] == pytest.approx(-1e4 / (0.5 + SMALLEST_DIAGONAL) ** 2, rel=1e-3)
    assert (gradient[1:, 1] < 0).all(), "a larger diagonal lowers the loss of an outlier"


CHANGED: dict[str, Any] = {
    "quantize": False,
    "input_bits": 2,
    "conv_bits": 3,
    "conv_activation_bits": 3,
    "pool_bits": 4,
    "dense_bits": 4,
    "dense_activation_bits": 4,
    "filters": 4,
    "kernel_size": 5,
    "pool_size": 2,
    "hidden": [16],
    "batch_normalization": True,
    "projections": True,
    "kernel_l1": 0.5,
    "activity_l2": 0.5,
}


def test_every_setting_is_tried() -> None:
    assert set(CHANGED) == set(NetworkSettings.model_fields)


@pytest.mark.parametrize("name", CHANGED)
def test_each_setting_takes_effect(name: str) -> None:
    model = build_mdn(SHAPE, NetworkSettings(**{name: CHANGED[name]}))
    shapes, outputs, loss = default_network()
    if [weight.shape for weight in model.weights] != shapes:
        return
    is_penalty = name in ("kernel_l1", "activity_l2")
    assert np.array_equal(randomised(model)(blobs(20)[0]), outputs) == is_penalty
    assert not is_penalty or float(sum(model.losses)) != loss


@cache
def default_network() -> tuple[list[Any], np.ndarray, float]:
    """Shapes of the weights, outputs and penalty of the network with the default settings."""
    model = randomised(build_mdn(SHAPE))
    outputs = np.asarray(model(blobs(20)[0]))
    return [weight.shape for weight in model.weights], outputs, float(sum(model.losses))


def test_quantisation_off_rounds_nothing() -> None:
    model = randomised(build_mdn(SHAPE, NetworkSettings(quantize=False)))
    charge, _ = blobs(4)
    outputs = np.asarray(model(charge))
    assert (outputs * 2**14 % 1 != 0).any()
    assert np.abs(outputs - np.asarray(model(charge + np.float32(1e-4)))).max() > 0


@pytest.mark.parametrize("shape", [(16, 16, 2), (13, 21, 20)])
@pytest.mark.parametrize("projections", [False, True])
def test_other_sensors(shape: tuple[int, int, int], projections: bool) -> None:
    model = build_mdn(shape, NetworkSettings(projections=projections))
    assert np.isfinite(model(blobs(3, shape)[0])).all()
    if projections:
        height, width, slices = shape
        assert model.get_layer("projections").output.shape == (None, (height + width) * slices)


def test_projections_are_the_sums() -> None:
    charge, _ = blobs(3)
    sums = np.asarray(cluster_layers.Projections()(charge)) * cluster_layers.Projections.RANGE
    np.testing.assert_allclose(sums[:, :26], charge.sum(axis=2).reshape(3, -1), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(sums[:, 26:], charge.sum(axis=1).reshape(3, -1), rtol=1e-5, atol=1e-9)


def test_a_sensor_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"4 x 21 pixels are too small for kernel_size 3 and pool_size 3"):
        build_mdn((4, 21, 2))


@pytest.mark.parametrize(
    "settings",
    [NetworkSettings(), NetworkSettings(batch_normalization=True), NetworkSettings(projections=True), None],
    ids=["default", "batch normalisation", "projections", "float"],
)
def test_a_stored_network_gives_the_same_outputs(settings: NetworkSettings | None, tmp_path: Path) -> None:
    model = build_float(SHAPE, FloatNetworkSettings(filters=[4])) if settings is None else build_mdn(SHAPE, settings)
    model.compile("adam", negative_log_likelihood)
    model.optimizer.build(model.trainable_variables)
    charge, labels = blobs(16)
    save_model(randomised(model), tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras", safe_mode=True)
    np.testing.assert_array_equal(loaded(charge), model(charge))
    np.testing.assert_array_equal(loaded.loss(labels, loaded(charge)), negative_log_likelihood(labels, model(charge)))


@pytest.mark.slow
def test_training_learns_positions_and_keeps_weights_in_range() -> None:
    """With seeds 0 to 5 the deviations of the positions were at most 0.28, and the loss fell by at least 0.7."""
    keras.utils.set_random_seed(0)
    charge, labels = blobs(4000)
    model = build_mdn(SHAPE, NetworkSettings(kernel_l1=0.0, activity_l2=0.0))
    model.compile(keras.optimizers.Adam(0.003), negative_log_likelihood, jit_compile=False)
    history = model.fit(charge, labels, batch_size=50, epochs=6, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0] - 0.4
    new_charge, new_labels = blobs(500, seed=9)
    mean, _ = split_output(np.asarray(model(new_charge)))
    deviations = np.std(mean - new_labels, axis=0)  # 0.58 for a model that knows nothing
    assert max(deviations[:2]) < 0.4
    assert max(float(keras.ops.max(keras.ops.abs(weight))) for weight in model.weights) <= 1


def test_parity_with_qkeras() -> None:
    """The outputs of the published model code on the same weights."""
    pytest.importorskip("qkeras", reason="qkeras-v3 is not installed")
    ours = randomised(build_mdn(SHAPE, NetworkSettings(input_bits=None)))
    theirs = published_model()
    theirs.set_weights(ours.get_weights())
    charge, _ = blobs(500)
    charge = charge + np.random.default_rng(3).normal(0, 0.3, charge.shape).astype(np.float32)
    assert np.abs(np.asarray(ours(charge)) - np.asarray(theirs(charge))).max() == 0


def published_model() -> Any:
    """The network of the publication, in the words of QKeras."""
    import qkeras

    def weights(bits: int, symmetric: int = 0) -> Any:
        return qkeras.quantized_bits(bits, 0, symmetric, alpha=1)

    hidden = inputs = keras.Input(SHAPE)
    hidden = qkeras.QSeparableConv2D(
        5,
        3,
        depthwise_quantizer=weights(4, 1),
        pointwise_quantizer=weights(4, 1),
        bias_quantizer=weights(4),
    )(hidden)
    hidden = qkeras.QActivation("quantized_tanh(4, 0, 1)")(hidden)
    hidden = qkeras.QConv2D(5, 1, kernel_quantizer=weights(4), bias_quantizer=weights(4))(hidden)
    hidden = qkeras.QActivation("quantized_tanh(4, 0, 1)")(hidden)
    hidden = keras.layers.AveragePooling2D(3)(hidden)
    hidden = qkeras.QActivation("quantized_bits(8, 0, alpha=1)")(hidden)
    hidden = keras.layers.Flatten()(hidden)
    for units in (16, 16):
        hidden = qkeras.QDense(units, kernel_quantizer=weights(8), bias_quantizer=weights(8))(hidden)
        hidden = qkeras.QActivation("quantized_tanh(8, 0, 1)")(hidden)
    outputs = qkeras.QDense(14, kernel_quantizer=weights(8), bias_quantizer=weights(8))(hidden)
    return keras.Model(inputs, outputs)
