"""A quantised network as integers: the form for a chip, its file, its size, and a forward pass in NumPy.

A value is an integer times 2^-f; f, the number of fraction bits, is the same for all values of one step. Weights and
sums are exact, and only the steps of kind ``round``, ``average`` and ``project`` round, halves to even. The result
equals that of the Keras network to the last bit. Nothing here needs Keras.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from pixal.config.section import Section
from pixal.errors import ModelError
from pixal.io.files import read_bytes, write_bytes
from pixal.tasks.charge_clusters.network.rounding import divide_half_even
from pixal.tasks.charge_clusters.network.settings import Bits, Side

Integers = NDArray[np.int64]
OUTPUT_NAMES = ("x", "L11", "y", "L22", "cotAlpha", "L33", "cotBeta", "L44", "L21", "L31", "L32", "L41", "L42", "L43")

_MAX_BYTES = 100_000_000


class Weights(Section):
    """Integers that stand for multiples of 2^(1 - bits).

    Attributes:
        bits: Bits of an integer, with its sign.
        values: Nested lists of integers.
    """

    bits: Bits
    values: list[Any]

    @field_validator("values")
    @classmethod
    def _fit_into_the_bits(cls, values: list[Any], info: ValidationInfo) -> list[Any]:
        array = np.asarray(values)  # raises ValueError if the lists are ragged
        limit = 2 ** (info.data.get("bits", 1) - 1)
        if array.dtype.kind != "i" or not array.size or array.min() < -limit or array.max() >= limit:
            raise ValueError(f"must be integers from {-limit} to {limit - 1}")
        return values

    @property
    def array(self) -> Integers:
        """The integers as an array."""
        return np.asarray(self.values, np.int64)


class Depthwise(Section):
    """A convolution of each channel alone, without padding; ``kernel`` is (rows, columns, channels)."""

    kind: Literal["depthwise"] = "depthwise"
    name: str
    kernel: Weights


class Dense(Section):
    """A product over the last axis, and a bias: a dense layer or a 1 x 1 convolution; ``kernel`` is (in, out)."""

    kind: Literal["dense"] = "dense"
    name: str
    kernel: Weights
    bias: Weights


class Round(Section):
    """Round to ``bits`` and clip to the symmetric range: a hard tanh."""

    kind: Literal["round"] = "round"
    name: str
    bits: Bits


class Average(Section):
    """Average windows of ``pool_size`` x ``pool_size``, and round to ``bits``."""

    kind: Literal["average"] = "average"
    name: str
    pool_size: Side
    bits: Bits


class Project(Section):
    """Sums of each row, then of each column, divided by 2^``range_bits`` and rounded to ``bits``."""

    kind: Literal["project"] = "project"
    name: str
    range_bits: Annotated[int, Field(ge=0, le=16)]
    bits: Bits


Step = Annotated[Depthwise | Dense | Round | Average | Project, Field(discriminator="kind")]


class IntegerNetwork(Section):
    """A network of integers.

    Attributes:
        format: Name and version of the file's format.
        input_shape: Rows, columns and slices.
        input_bits: Bits of the input.
        steps: What is done to the input, in this order.
        outputs: Names of the outputs.
    """

    format: Literal["pixal integer network 1"] = "pixal integer network 1"
    input_shape: tuple[int, int, int]
    input_bits: Bits
    steps: Annotated[list[Step], Field(min_length=1)]
    outputs: tuple[str, ...] = OUTPUT_NAMES

    def quantize_input(self, charge: NDArray[np.float32]) -> Integers:
        """The integers (n, rows, columns, slices) of normalised charge of the same shape."""
        limit = 2 ** (self.input_bits - 1) - 1
        scaled = np.rint(charge.astype(np.float32) * np.float32(limit + 1))
        return np.asarray(np.clip(scaled, -limit, limit), np.int64)

    def forward(self, inputs: Integers) -> tuple[Integers, int]:
        """Compute the outputs with integer arithmetic alone.

        Args:
            inputs: What ``quantize_input`` returns.

        Returns:
            The outputs (n, 14), and their number of fraction bits.

        Raises:
            ModelError: The input has another shape.
        """
        if inputs.shape[1:] != self.input_shape:
            raise ModelError(f"clusters of shape {inputs.shape[1:]} do not fit a network for {self.input_shape}")
        values, fraction = inputs, self.input_bits - 1
        for step in self.steps:
            values, fraction = apply_step(step, values, fraction)
        return values, fraction

    def predict(self, charge: NDArray[np.float32]) -> NDArray[np.float32]:
        """The outputs (n, 14) of normalised charge (n, rows, columns, slices), as the Keras network gives them."""
        values, fraction = self.forward(self.quantize_input(charge))
        return np.asarray(values / 2**fraction, np.float32)

    @property
    def weight_count(self) -> int:
        """Number of weights."""
        return sum(weights.array.size for weights in _all_weights(self.steps))

    @property
    def weight_bits(self) -> int:
        """Bits that hold all weights."""
        return sum(weights.array.size * weights.bits for weights in _all_weights(self.steps))

    @property
    def operations(self) -> dict[str, int]:
        """Number of multiplications and additions per event, and of multiplications by a weight that is not 0."""
        total = {"multiplications": 0, "additions": 0, "nonzero_multiplications": 0}
        values = np.zeros((1, *self.input_shape), np.int64)
        for step in self.steps:
            result, _ = apply_step(step, values, 0)
            for name, count in _operations(step, values, result).items():
                total[name] += count
            values = result
        return total

    def write(self, path: Path) -> None:
        """Write the network as JSON. The same network gives the same bytes."""
        write_bytes(path, (json.dumps(self.model_dump(mode="json"), separators=(",", ":")) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> IntegerNetwork:
        """Read what ``write`` wrote.

        Raises:
            ModelError: The file holds no such network.
        """
        try:
            return cls.model_validate_json(read_bytes(path, max_bytes=_MAX_BYTES))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ModelError(f"{path} is not a network of integers ({place}: {first['msg']})") from error


def apply_step(step: Any, values: Integers, fraction: int) -> tuple[Integers, int]:
    """Apply one step.

    Args:
        step: The step.
        values: Integers, (n, ...).
        fraction: Their number of fraction bits.

    Returns:
        The result, and its number of fraction bits.
    """
    if isinstance(step, Depthwise):
        return _depthwise(values, step.kernel.array), fraction + step.kernel.bits - 1
    if isinstance(step, Dense):
        kernel = step.kernel.array
        flat = values if values.shape[-1] == len(kernel) else values.reshape(len(values), -1)
        shift = fraction + step.kernel.bits - step.bias.bits
        return flat @ kernel + (step.bias.array << shift), fraction + step.kernel.bits - 1
    if isinstance(step, Round):
        return _rounded(values, fraction, step.bits, 2 ** (step.bits - 1) - 1), step.bits - 1
    if isinstance(step, Average):
        side, (count, height, width, channels) = step.pool_size, values.shape
        rows, columns = height // side, width // side
        inside = values[:, : rows * side, : columns * side]
        sums = inside.reshape(count, rows, side, columns, side, channels).sum(axis=(2, 4))
        return _rounded(sums, fraction, step.bits, 2 ** (step.bits - 1), side**2), step.bits - 1
    sums = np.concatenate([values.sum(axis=axis).reshape(len(values), -1) for axis in (2, 1)], axis=1)
    return _rounded(sums, fraction + step.range_bits, step.bits, 2 ** (step.bits - 1)), step.bits - 1


def _depthwise(values: Integers, kernel: Integers) -> Integers:
    windows = np.lib.stride_tricks.sliding_window_view(values, kernel.shape[:2], axis=(1, 2))
    return np.asarray(np.einsum("nrcsij,ijs->nrcs", windows, kernel))


def _rounded(values: Integers, fraction: int, bits: int, lowest: int, divisor: int = 1) -> Integers:
    """Divide by ``divisor``, round to ``bits`` with their sign, and clip to at least ``-lowest``."""
    shift = bits - 1 - fraction
    rounded = divide_half_even(values << max(shift, 0), divisor << max(-shift, 0))
    return np.asarray(np.clip(rounded, -lowest, 2 ** (bits - 1) - 1))


def _all_weights(steps: list[Any]) -> list[Weights]:
    return [getattr(step, name) for step in steps for name in ("kernel", "bias") if hasattr(step, name)]


def _operations(step: Any, values: Integers, result: Integers) -> dict[str, int]:
    """The operations of one step on one event."""
    if isinstance(step, Depthwise | Dense):
        kernel = step.kernel.array
        places = result.size // result.shape[-1]
        products = places * kernel.size
        bias = result.size if isinstance(step, Dense) else 0
        return {
            "multiplications": products,
            "nonzero_multiplications": places * int(np.count_nonzero(kernel)),
            "additions": products - result.size + bias,
        }
    if isinstance(step, Average):
        return {"additions": result.size * (step.pool_size**2 - 1)}
    if isinstance(step, Project):
        return {"additions": 2 * values.size - result.size}
    return {}
