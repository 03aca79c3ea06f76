"""Integer division that rounds as the networks do. Needs neither NumPy nor Keras."""

from __future__ import annotations

from typing import Any


def divide_half_even(numerator: Any, denominator: int) -> Any:
    """Divide integers and round to the nearest integer, halves to even.

    Floating-point division would not do: a compiler may replace it by a product with the rounded reciprocal.

    Args:
        numerator: A NumPy array or a Keras tensor of integers, with room for twice its values plus ``denominator``.
        denominator: Above 0.
    """
    up = (2 * numerator + denominator) // (2 * denominator)
    down = -((denominator - 2 * numerator) // (2 * denominator))
    return down + (up - down) * ((up + 1) % 2)  # up and down differ at halves only; then the even one is taken
