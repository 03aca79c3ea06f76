"""Rounding to few bits, with gradients that pass through the rounding (Bengio et al. 2013, arXiv 1308.3432)."""

from __future__ import annotations

from typing import Any

from keras import ops


def quantize(values: Any, bits: int | None, *, symmetric: bool = False) -> Any:
    """Round to multiples of 2^(1 - bits) in [-1, 1).

    ``clip(round(x 2^(b-1)), -2^(b-1) + s, 2^(b-1) - 1) / 2^(b-1)``, with s = 1 where ``symmetric``; halves are rounded
    to even. The gradient is 1 everywhere.

    Args:
        values: Tensor of float32, any shape.
        bits: b, bits of a number with its sign. None: the values are returned as they are.
        symmetric: Whether -1 is left out, so that the range is symmetric about 0.
    """
    if bits is None:
        return values
    levels = 2 ** (bits - 1)
    rounded = ops.clip(ops.round(values * levels), -levels + symmetric, levels - 1) / levels
    return straight_through(values, rounded)


def hard_tanh(values: Any, bits: int | None) -> Any:
    """Clip to [-1, 1], then round as ``quantize`` does, symmetric. The gradient is 1 inside and 0 outside."""
    return quantize(ops.clip(values, -1.0, 1.0), bits, symmetric=True)


def straight_through(values: Any, rounded: Any) -> Any:
    """Return ``rounded`` to the last bit, with the gradient of ``values``.

    The order of the sums matters: ``values + (rounded - values)`` is not exactly ``rounded`` in float32.
    """
    return ops.stop_gradient(rounded) + (values - ops.stop_gradient(values))
