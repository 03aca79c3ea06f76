"""Robust statistics: estimates that a few pixels with defects do not decide."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_TUKEY = 4.685  # 95 % efficiency for normal noise
_NORMAL = 1.4826  # standard deviation of normal noise in units of its median absolute value


def biweight(squared: NDArray[Any]) -> NDArray[Any]:
    """Compute Tukey's biweight of residuals, 1 at 0 and 0 from 4.685 standard deviations on.

    Args:
        squared: Squared residuals in units of their variance.
    """
    weight: NDArray[Any] = np.maximum(1 - squared / _TUKEY**2, 0) ** 2
    return weight


def robust_scale(median: Any, smallest: float) -> Any:
    """Compute the standard deviation of residuals from the median of their absolute values.

    Args:
        median: The median, of one or more kinds of residuals.
        smallest: What is returned where the median is smaller than of such noise.
    """
    return np.maximum(_NORMAL * median, smallest)
