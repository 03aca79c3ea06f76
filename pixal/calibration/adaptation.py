"""Adapt the false-alarm rate to how many good parts have failed so far (Gibbs and Candès 2021)."""

from __future__ import annotations

from collections.abc import Sequence

_STEP = 0.2  # of the requested rate: one false alarm lowers the rate by about this much
_SMALLEST, _LARGEST = 0.1, 3.0  # of the requested rate


def adapt_rate(requested: float, failed: Sequence[bool]) -> float:
    """Return the rate with which the next good parts fail as often as requested.

    After each good part, the rate a becomes a + s (r - e): r is the requested rate, e is 1 if the part failed and else
    0, and s is 0.2 r (Gibbs and Candès 2021, equation 2). So in the long run the requested share of good parts fails,
    even where good parts change. The rate stays between r / 10 and 3 r.

    Args:
        requested: The false-alarm rate that the user asks for, in (0, 1).
        failed: Whether each earlier good part failed, in the order of time.
    """
    rate = requested
    for has_failed in failed:
        rate += _STEP * requested * (requested - has_failed)
        rate = min(max(rate, _SMALLEST * requested), _LARGEST * requested)
    return rate
