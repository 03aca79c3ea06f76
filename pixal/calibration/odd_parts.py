"""Odd training parts: a few good parts whose held-out scores are far above all others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration

_FEWEST = 10  # with fewer scores, the gaps below an odd one tell little
_ENOUGH = 99  # from here on, the threshold for 1 % of false alarms needs no fitted tail
_LEVEL = 0.02  # how often the gap below the largest score is called too wide if no part is odd
_SHARE = 20  # at most one part in this many is odd


def find_odd_parts(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Find held-out good parts whose scores are no sample of those of good parts.

    If the upper half of the scores has an exponential tail, then the gap below the j-th largest score, multiplied by
    j, has the same exponential distribution for all j (Rényi 1953). So a gap that is far larger than those below it
    separates odd parts from the others. With the sum S of the q gaps below it, a gap d, both multiplied by their j, is
    as large by chance with the probability (1 + d / S) ** -q. At most one part in 20 is odd, but one in any case.

    Args:
        scores: (N,), the scores of held-out good parts.

    Returns:
        (N,), which parts are odd: none if N is below 10 or at least 99.
    """
    count = len(scores)
    is_odd = np.zeros(count, bool)
    if not _FEWEST <= count < _ENOUGH:
        return is_odd
    order = np.argsort(-scores, kind="stable")
    highest = scores[order[: count // 2 + 1]]
    gaps = np.arange(1, len(highest)) * -np.diff(highest)
    for above in range(1, max(1, count // _SHARE) + 1):
        below = gaps[above:]
        rest = float(below.sum())
        if rest > 0 and (1 + gaps[above - 1] / rest) ** -len(below) < _LEVEL:
            is_odd[order[:above]] = True
    return is_odd


def leave_out_odd_parts(
    calibration: Calibration, is_selected: NDArray[np.bool_]
) -> tuple[Calibration, NDArray[np.intp]]:
    """Return the calibration with the scores of a sample of good parts only.

    Args:
        calibration: With the scores of N held-out parts, none of them left out.
        is_selected: (N,), which parts were chosen for their high scores.

    Returns:
        The calibration without the scores of selected and of odd parts, and the positions of the odd ones.
    """
    without = calibration.without(is_selected)
    positions = np.delete(np.arange(len(calibration.scores)), without.selected)
    odd_parts = positions[find_odd_parts(without.scores)]
    is_left_out = np.zeros(len(calibration.scores), bool)
    is_left_out[np.concatenate([without.selected, odd_parts])] = True
    return calibration.without(is_left_out), odd_parts
