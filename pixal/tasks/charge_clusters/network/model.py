"""Build the networks: from charge (n, rows, columns, slices) to the 14 outputs that ``likelihood.py`` describes."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from pixal.errors import ConfigError
from pixal.tasks.charge_clusters.network.layers import (
    HardTanh,
    Projections,
    Quantize,
    QuantizedAveragePooling2D,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedSeparableConv2D,
    WithinOne,
)
from pixal.tasks.charge_clusters.network.likelihood import OUTPUTS, first_weights
from pixal.tasks.charge_clusters.network.settings import FloatNetworkSettings, NetworkSettings

Shape = tuple[int, int, int]


def build_mdn(input_shape: Shape, settings: NetworkSettings | None = None) -> keras.Model:
    """Build the mixture density network with one component, small enough for a chip.

    With the default settings and an input of (13, 21, 2) it has 2,029 weights (Mach. Learn.: Sci. Technol. 2024,
    doi 10.1088/2632-2153/ad6a00). All layers are named, because names are part of saved files.

    Args:
        input_shape: Rows, columns and time slices of the charge, which is normalised to about [-1, 1].
        settings: The settings; None: the defaults.

    Raises:
        ConfigError: The sensor is too small for the kernel and the pooling window.
    """
    settings = settings or NetworkSettings()
    charge = keras.Input(input_shape, name="charge")
    hidden = charge
    if settings.quantize and settings.input_bits:
        hidden = Quantize(bits=settings.input_bits, name="input")(hidden)
    if settings.projections:
        hidden = Projections(bits=_bits(settings, settings.pool_bits), name="projections")(hidden)
    else:
        hidden = _convolutions(hidden, input_shape, settings)
        hidden = layers.Flatten(name="flat")(hidden)
    for index, units in enumerate(settings.hidden, 1):
        hidden = _dense(units, f"dense_{index}", settings, **_activity(settings))(hidden)
        hidden = _hard_tanh(hidden, f"dense_{index}", settings.dense_activation_bits, settings)
    outputs = _dense(OUTPUTS, "output", settings, **first_weights())(hidden)
    return keras.Model(charge, outputs, name="mdn")


def build_float(input_shape: Shape, settings: FloatNetworkSettings | None = None) -> keras.Model:
    """Build the larger network in float32: 3 x 3 convolutions and dense layers with ReLU.

    Args:
        input_shape: As of ``build_mdn``.
        settings: The settings; None: the defaults.
    """
    settings = settings or FloatNetworkSettings()
    charge = keras.Input(input_shape, name="charge")
    hidden = charge
    for index, filters in enumerate(settings.filters, 1):
        name = f"convolution_{index}"
        hidden = layers.Conv2D(filters, 3, padding="same", activation="relu", dtype="float32", name=name)(hidden)
    hidden = layers.AveragePooling2D(2, padding="same", name="pooling")(hidden)
    hidden = layers.Flatten(name="flat")(hidden)
    for index, units in enumerate(settings.hidden, 1):
        hidden = layers.Dense(units, activation="relu", dtype="float32", name=f"dense_{index}")(hidden)
    outputs = layers.Dense(OUTPUTS, dtype="float32", name="output", **first_weights())(hidden)
    return keras.Model(charge, outputs, name="float")


def _convolutions(hidden: Any, input_shape: Shape, settings: NetworkSettings) -> Any:
    """The two convolutions and the pooling layer."""
    height, width = (side - settings.kernel_size + 1 for side in input_shape[:2])
    if min(height, width) < settings.pool_size:
        raise ConfigError(
            f"model_training.model_options: clusters of {input_shape[0]} x {input_shape[1]} pixels are too small for "
            f"kernel_size {settings.kernel_size} and pool_size {settings.pool_size}; decrease one of them"
        )
    penalty = keras.regularizers.L1(settings.kernel_l1)
    bits, activation_bits = _bits(settings, settings.conv_bits), _bits(settings, settings.conv_activation_bits)
    hidden = QuantizedSeparableConv2D(
        settings.filters,
        settings.kernel_size,
        bits=bits,
        depthwise_regularizer=penalty,
        pointwise_regularizer=penalty,
        depthwise_constraint=WithinOne(),
        pointwise_constraint=WithinOne(),
        bias_constraint=WithinOne(),
        name="separable",
        **_activity(settings),
    )(hidden)
    hidden = _hard_tanh(hidden, "separable", settings.conv_activation_bits, settings)
    hidden = QuantizedConv2D(
        settings.filters, 1, bits=bits, name="convolution", **_kernel(settings), **_activity(settings)
    )(hidden)
    hidden = _hard_tanh(hidden, "convolution", settings.conv_activation_bits, settings)
    pool_bits = _bits(settings, settings.pool_bits)
    return QuantizedAveragePooling2D(settings.pool_size, activation_bits, bits=pool_bits, name="pooling")(hidden)


def _dense(units: int, name: str, settings: NetworkSettings, **options: Any) -> QuantizedDense:
    bits = _bits(settings, settings.dense_bits)
    return QuantizedDense(units, bits=bits, name=name, **(_kernel(settings) | options))


def _hard_tanh(hidden: Any, name: str, bits: int, settings: NetworkSettings) -> Any:
    """The activation after the layer ``name``, with batch normalisation before it if the settings ask for it."""
    if settings.batch_normalization:
        hidden = layers.BatchNormalization(dtype="float32", name=f"{name}_normalization")(hidden)
    return HardTanh(bits=_bits(settings, bits), name=f"{name}_tanh")(hidden)


def _bits(settings: NetworkSettings, bits: int) -> int | None:
    return bits if settings.quantize else None


def _kernel(settings: NetworkSettings) -> dict[str, Any]:
    return {
        "kernel_initializer": "he_normal",
        "kernel_regularizer": keras.regularizers.L1(settings.kernel_l1),
        "kernel_constraint": WithinOne(),
        "bias_constraint": WithinOne(),
    }


def _activity(settings: NetworkSettings) -> dict[str, Any]:
    """The penalty on the outputs of a layer; Keras divides it by the number of events in the batch."""
    return {"activity_regularizer": keras.regularizers.L2(settings.activity_l2)}
