"""A control chart of failure rates: which samples differ from the others by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class ControlChart:
    """A p-chart.

    Attributes:
        rates: (n,), the failure rate of each sample in [0, 1]; NaN for an empty sample.
        centre: The mean rate of all samples together.
        lower: (n,), the lower limit of each rate.
        upper: (n,), the upper limit of each rate.
        outside: (n,), -1 below the lower limit, 1 above the upper limit, else 0.
    """

    rates: NDArray[np.float64]
    centre: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    outside: NDArray[np.int64]


def p_chart(failed: ArrayLike, inspected: ArrayLike) -> ControlChart:
    """Shewhart's chart of the fraction that fails, for samples of different sizes.

    The limits are p ± 3 sqrt(p (1 - p) / n), clipped to [0, 1], where p is the mean rate of all samples and n the size
    of a sample (Montgomery, Introduction to Statistical Quality Control, section 7.2). They rest on the normal
    approximation, which is coarse where n p is below about 5: a single failure in a small sample can then be outside.

    Args:
        failed: (n,), the number of parts that failed in each sample.
        inspected: (n,), the number of parts in each sample.

    Raises:
        ValueError: The lengths differ, or more parts failed than were inspected.
    """
    failures, sizes = np.asarray(failed, np.float64), np.asarray(inspected, np.float64)
    if failures.shape != sizes.shape or failures.ndim != 1:
        raise ValueError(f"failed has shape {failures.shape} and inspected {sizes.shape}; use (n,) for both")
    if (failures < 0).any() or (failures > sizes).any():
        raise ValueError("failed must be between 0 and inspected")
    total = sizes.sum()
    centre = float(failures.sum() / total) if total else float("nan")
    known = sizes > 0
    rates, width = np.full(sizes.shape, np.nan), np.full(sizes.shape, np.nan)
    np.divide(failures, sizes, out=rates, where=known)
    np.divide(centre * (1 - centre), sizes, out=width, where=known)
    width = 3 * np.sqrt(width)
    lower, upper = np.clip(centre - width, 0, 1), np.clip(centre + width, 0, 1)
    # Rates that equal a limit up to rounding are inside: with all parts failing, rate and limits are 1.
    outside = (rates > upper + 1e-12).astype(np.int64) - (rates < lower - 1e-12)
    return ControlChart(rates, centre, lower, upper, outside)
