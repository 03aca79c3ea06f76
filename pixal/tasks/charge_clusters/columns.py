"""The columns of the parquet files."""

from __future__ import annotations

from collections.abc import Sequence

LABEL_COLUMNS = ("x-midplane", "y-midplane", "cotAlpha", "cotBeta")
"""The columns of the four targets, in the order of ``TARGETS``."""
AT_EDGE = "original_atEdge"
"""Whether a cluster reaches the edge of the array (bool)."""
CHARGE_AT_EDGE = "chargeOriginal_atEdge"
"""The charge on the outermost pixels, in electrons."""


def charge_columns(slices: Sequence[int], pixels: int) -> list[str]:
    """The columns of the charges of some slices: ``slice * pixels + row * columns + column``, as text."""
    return [str(index * pixels + pixel) for index in slices for pixel in range(pixels)]
