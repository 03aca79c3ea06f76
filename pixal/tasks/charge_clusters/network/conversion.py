"""From a trained Keras network to integers, and to a Keras network of standard layers for ``hls4ml``."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.tasks.charge_clusters.network import integers
from pixal.tasks.charge_clusters.network.layers import (
    HardTanh,
    Projections,
    Quantize,
    QuantizedAveragePooling2D,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedSeparableConv2D,
)
from pixal.tasks.charge_clusters.network.quantization import quantize

FLOAT32_BITS = 24  # integers of up to so many bits, and their sums, are exact in float32


def to_integers(model: keras.Model) -> integers.IntegerNetwork:
    """Convert a trained network to integers.

    Args:
        model: A network of ``build_mdn`` with quantisation, an input of few bits, and no batch normalisation.

    Raises:
        ModelError: The network has no form as integers, or the Keras network rounds its sums, so that the two would
            differ.
    """
    first, *rest = (layer for layer in model.layers if not isinstance(layer, layers.InputLayer | layers.Flatten))
    is_rounded = isinstance(first, Quantize) and all(getattr(layer, "bits", None) for layer in rest)
    if not is_rounded or first.bits is None:
        raise ModelError(
            "this network has no form as integers: train it with quantize true, a value of input_bits, and "
            "batch_normalization false"
        )
    network = integers.IntegerNetwork(
        input_shape=tuple(model.input_shape[1:]),
        input_bits=first.bits,
        steps=[step for layer in rest for step in _steps(layer)],
    )
    check_sums(network)
    return network


def check_sums(network: integers.IntegerNetwork) -> None:
    """Check that no sum can exceed the integers that float32 holds exactly.

    Raises:
        ModelError: A sum can; the message names the step.
    """
    for step, (largest, _) in zip(network.steps, largest_values(network), strict=True):
        bits = largest.bit_length()
        if bits > FLOAT32_BITS:
            raise ModelError(
                f"the sums of {step.name} need up to {bits} bits, and float32 holds {FLOAT32_BITS} exactly; "
                "train with fewer bits"
            )


def largest_values(network: integers.IntegerNetwork) -> list[tuple[int, int]]:
    """The largest integer that each step can give for any input, and its number of fraction bits."""
    values = np.full((1, *network.input_shape), 2 ** (network.input_bits - 1), np.int64)
    fraction, result = network.input_bits - 1, []
    for step in network.steps:
        values, fraction = integers.apply_step(_absolute(step), values, fraction)
        result.append((int(values.max()), fraction))
    return result


def _absolute(step: Any) -> Any:
    """The step with the absolute values of its weights: it gives the largest sums of inputs up to a size."""
    weights = {name: getattr(step, name) for name in ("kernel", "bias") if hasattr(step, name)}
    update = {
        name: value.model_copy(update={"values": np.abs(value.array).tolist()}) for name, value in weights.items()
    }
    return step.model_copy(update=update)


def _steps(layer: Any) -> list[Any]:
    """The steps of one layer."""
    bits: int = layer.bits
    if isinstance(layer, QuantizedSeparableConv2D):
        depthwise = ops.convert_to_numpy(layer.depthwise_kernel)[..., 0]
        pointwise = ops.convert_to_numpy(layer.pointwise_kernel)[0, 0]
        return [
            integers.Depthwise(name=f"{layer.name}_depthwise", kernel=_weights(depthwise, bits, symmetric=True)),
            integers.Dense(
                name=layer.name,
                kernel=_weights(pointwise, bits, symmetric=True),
                bias=_weights(layer.bias, bits),
            ),
        ]
    if isinstance(layer, QuantizedConv2D | QuantizedDense):
        kernel = ops.convert_to_numpy(layer.kernel)
        kernel = kernel.reshape(kernel.shape[-2:])  # of a 1 x 1 convolution: (1, 1, in, out)
        return [integers.Dense(name=layer.name, kernel=_weights(kernel, bits), bias=_weights(layer.bias, bits))]
    if isinstance(layer, HardTanh):
        return [integers.Round(name=layer.name, bits=bits)]
    if isinstance(layer, QuantizedAveragePooling2D):
        return [integers.Average(name=layer.name, pool_size=layer.pool_size, bits=bits)]
    if isinstance(layer, Projections):
        return [integers.Project(name=layer.name, range_bits=layer.RANGE.bit_length() - 1, bits=bits)]
    raise ModelError(f"layer {layer.name} has no form as integers")


def _weights(values: Any, bits: int, *, symmetric: bool = False) -> integers.Weights:
    rounded = ops.convert_to_numpy(quantize(values, bits, symmetric=symmetric))
    return integers.Weights(bits=bits, values=_scaled(rounded, bits).tolist())


def _scaled(rounded: NDArray[np.float32], bits: int) -> NDArray[np.int64]:
    return np.asarray(np.rint(rounded.astype(np.float64) * 2 ** (bits - 1)), np.int64)
