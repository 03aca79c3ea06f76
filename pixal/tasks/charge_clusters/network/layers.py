"""Keras layers whose weights and outputs have few bits. All compute in float32, in which their sums are exact."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from pixal.tasks.charge_clusters.network.quantization import hard_tanh, quantize, straight_through
from pixal.tasks.charge_clusters.network.rounding import divide_half_even


@keras.saving.register_keras_serializable("pixal")
class WithinOne(keras.constraints.Constraint):
    """Clips weights to [-1, 1] after each step, because larger ones would all be rounded to the same value."""

    def __call__(self, weights: Any) -> Any:
        """The clipped weights."""
        return ops.clip(weights, -1.0, 1.0)


class _QuantizedLayer(layers.Layer):
    """What all layers with ``bits`` share: the setting itself, and float32 also with mixed precision."""

    def __init__(self, *arguments: Any, bits: int | None = None, **options: Any) -> None:
        super().__init__(*arguments, **(options | {"dtype": "float32"}))
        self.bits = bits

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras rebuilds the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {"bits": self.bits}


@keras.saving.register_keras_serializable("pixal")
class QuantizedSeparableConv2D(_QuantizedLayer, layers.SeparableConv2D):
    """A depthwise and a 1 x 1 convolution, without an activation. Kernels are rounded symmetrically.

    The sums between the two convolutions are not rounded, so the two are computed as one, with the product of their
    kernels: TensorFlow's depthwise convolution takes a third of a training step longer. ``bits``: of the weights;
    None: float32.
    """

    def call(self, inputs: Any) -> Any:
        """Convolve images (n, H, W, C)."""
        depthwise = quantize(self.depthwise_kernel, self.bits, symmetric=True)  # (side, side, C, 1)
        pointwise = quantize(self.pointwise_kernel, self.bits, symmetric=True)  # (1, 1, C, filters)
        outputs = ops.conv(inputs, depthwise * pointwise, strides=list(self.strides), padding=self.padding)
        return outputs + quantize(self.bias, self.bits)


@keras.saving.register_keras_serializable("pixal")
class QuantizedConv2D(_QuantizedLayer, layers.Conv2D):
    """A convolution without an activation. ``bits``: of the weights; None: float32."""

    def call(self, inputs: Any) -> Any:
        """Convolve images (n, H, W, C)."""
        kernel = quantize(self.kernel, self.bits)
        outputs = ops.conv(inputs, kernel, strides=list(self.strides), padding=self.padding)
        return outputs + quantize(self.bias, self.bits)


@keras.saving.register_keras_serializable("pixal")
class QuantizedDense(_QuantizedLayer, layers.Dense):
    """A dense layer without an activation. ``bits``: of the weights; None: float32."""

    def call(self, inputs: Any) -> Any:
        """Transform values (n, D)."""
        return ops.matmul(inputs, quantize(self.kernel, self.bits)) + quantize(self.bias, self.bits)


@keras.saving.register_keras_serializable("pixal")
class Quantize(_QuantizedLayer):
    """Rounds its input symmetrically, see ``quantize``."""

    def call(self, inputs: Any) -> Any:
        """Round values of any shape."""
        return quantize(inputs, self.bits, symmetric=True)


@keras.saving.register_keras_serializable("pixal")
class HardTanh(_QuantizedLayer):
    """Clips to [-1, 1] and rounds, see ``hard_tanh``."""

    def call(self, inputs: Any) -> Any:
        """Transform values of any shape."""
        return hard_tanh(inputs, self.bits)


@keras.saving.register_keras_serializable("pixal")
class QuantizedAveragePooling2D(_QuantizedLayer):
    """Averages windows and rounds the averages, halves to even.

    Args:
        pool_size: Side of a window. Rows and columns that do not fill a window are left out.
        input_bits: Bits of the input, which is an output of ``HardTanh``; None if ``bits`` is None.
        bits: Bits of the output; None: float32.
    """

    def __init__(self, pool_size: int, input_bits: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.pool_size, self.input_bits = pool_size, input_bits

    def call(self, inputs: Any) -> Any:
        """Average images (n, H, W, C)."""
        means = ops.average_pool(inputs, self.pool_size, padding="valid")
        if self.bits is None or self.input_bits is None:
            return means
        values_per_sum = self.pool_size**2 * 2 ** (self.input_bits - 1)
        levels = 2 ** (self.bits - 1)
        sums = ops.cast(ops.round(means * values_per_sum), "int32")
        rounded = ops.clip(divide_half_even(sums * levels, values_per_sum), -levels, levels - 1)
        return straight_through(means, ops.cast(rounded, "float32") / levels)

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras rebuilds the layer."""
        return super().get_config() | {"pool_size": self.pool_size, "input_bits": self.input_bits}


@keras.saving.register_keras_serializable("pixal")
class Projections(_QuantizedLayer):
    """Sums over rows and over columns, divided by ``RANGE`` and rounded: (n, H, W, C) to (n, (H + W) C).

    Rows first: for each row its sums, one per slice; then the same for each column.
    """

    RANGE = 8  # a sum over a row or column of up to 16 hit pixels is rarely larger

    def call(self, inputs: Any) -> Any:
        """Project images (n, H, W, C)."""
        height, width, channels = inputs.shape[1:]
        per_row = ops.reshape(ops.sum(inputs, axis=2), (-1, height * channels))
        per_column = ops.reshape(ops.sum(inputs, axis=1), (-1, width * channels))
        return quantize(ops.concatenate([per_row, per_column], axis=1) / self.RANGE, self.bits)
