"""A network of integers as a Keras model of standard layers and a configuration, which ``hls4ml`` converts."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from pixal.errors import ModelError
from pixal.tasks.charge_clusters.network import integers
from pixal.tasks.charge_clusters.network.conversion import largest_values


def to_hls(network: integers.IntegerNetwork) -> tuple[keras.Model, dict[str, Any]]:
    """Return what ``hls4ml.converters.convert_from_keras_model`` takes: a model, and its ``hls_config``.

    Weights have their rounded values. Rounding and clipping are in the types of the configuration: an activation that
    is linear in Keras has the type ``ap_fixed<b,1,AP_RND_CONV,AP_SAT_SYM>``, which rounds halves to even and saturates
    as a hard tanh does. So the Keras model alone, without these types, gives other outputs.

    Args:
        network: The network of integers.

    Raises:
        ModelError: The network sees projections, for which there is no standard layer.
    """
    values = inputs = keras.Input(network.input_shape, name="charge")
    precision: dict[str, Any] = {"charge": {"Precision": {"result": _fixed(network.input_bits)}}}
    kernels: dict[str, list[Any]] = {}
    for step, (largest, fraction) in zip(network.steps, largest_values(network), strict=True):
        if isinstance(step, integers.Dense) and values.shape[-1] != len(step.kernel.array):
            values = layers.Flatten(name="flat")(values)
        layer, kernels[step.name], types = _layer(step, len(values.shape), largest, fraction)
        values = layer(values)
        precision[step.name] = {"Precision": types}
    model = keras.Model(inputs, values, name="hls")
    for name, weights in kernels.items():
        model.get_layer(name).set_weights(weights)
    config = {"Model": {"Precision": "ap_fixed<32,16>", "ReuseFactor": 1, "Strategy": "Latency"}}
    return model, config | {"LayerName": precision}


def _layer(step: Any, rank: int, largest: int, fraction: int) -> tuple[Any, list[Any], dict[str, str]]:
    """The Keras layer of a step, its weights, and the types of its numbers."""
    sums = f"ap_fixed<{largest.bit_length() + 1},{largest.bit_length() + 1 - fraction}>"
    if isinstance(step, integers.Depthwise):
        kernel = _values(step.kernel)[..., None]
        layer = layers.DepthwiseConv2D(kernel.shape[:2], use_bias=False, name=step.name)
        return layer, [kernel], {"weight": _fixed(step.kernel.bits), "accum": sums, "result": sums}
    if isinstance(step, integers.Dense):
        kernel, bias = _values(step.kernel), _values(step.bias)
        types = {"weight": _fixed(step.kernel.bits), "bias": _fixed(step.bias.bits), "accum": sums, "result": sums}
        if rank == 2:
            return layers.Dense(kernel.shape[1], name=step.name), [kernel, bias], types
        return layers.Conv2D(kernel.shape[1], 1, name=step.name), [kernel[None, None], bias], types
    if isinstance(step, integers.Round):
        return layers.Activation("linear", name=step.name), [], {"result": _fixed(step.bits, "AP_SAT_SYM")}
    if isinstance(step, integers.Average):
        return layers.AveragePooling2D(step.pool_size, name=step.name), [], {"result": _fixed(step.bits, "AP_SAT")}
    raise ModelError(f"{step.name}: hls4ml has no layer for projections; train with projections false")


def _fixed(bits: int, overflow: str = "") -> str:
    """The type of numbers of ``bits`` in [-1, 1); with ``overflow``, values are rounded, halves to even."""
    return f"ap_fixed<{bits},1,AP_RND_CONV,{overflow}>" if overflow else f"ap_fixed<{bits},1>"


def _values(weights: integers.Weights) -> Any:
    return (weights.array / 2 ** (weights.bits - 1)).astype(np.float32)
