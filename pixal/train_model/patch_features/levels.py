"""Levels of features: which feature maps are compared together, and how distances of several levels become one."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

LEVEL_NAMES = ("fine", "middle", "coarse")
_MIN_SPREAD = 1e-6
_MEDIANS = 1.5  # the smallest spread, in medians of the standard deviation over the cells
_REACH = 2  # cells around a cell whose standard deviations count for it

Distances = NDArray[np.float32]
"""Distances of n images in the p cells of a level that lie on the part, (n, p)."""
Arrays = dict[str, NDArray[np.float32]]
"""Arrays by name."""


@dataclass(frozen=True)
class Level:
    """Feature maps that are joined on one grid.

    Attributes:
        maps: The indices of the backbone's feature maps.
        grid: The index of the map on whose grid they are joined.
        smoothing: Sigma of the Gaussian that smooths the distances, in cells.
    """

    maps: tuple[int, ...]
    grid: int
    smoothing: float = 0.0


def default_levels(count: int) -> list[Level]:
    """The levels of a backbone with ``count`` feature maps of strides 4, 8, 16 (and 32).

    Small defects show in fine maps alone; what is odd about a surface shows in coarse ones, over several cells.
    """
    if count < 3:
        return [Level((index,), index) for index in range(count)]
    return [Level((0,), 0), Level((1, 2), 1), Level(tuple(range(1, count)), 2, smoothing=1.0)]


@dataclass(frozen=True)
class Scale:
    """Statistics of the distances of good parts at a level.

    Attributes:
        center: The mean distance in each cell, (p,).
        spread: The largest standard deviation in a square of cells around each cell, but at least 1.5 times its median
            over the cells, (p,). So the cells count alike, but for those where good parts differ (a serial number). Few
            parts say little about one cell: next to cells that varied, one that never did may vary on the next part.
        unit: The number of spreads that stands for 1.
    """

    center: NDArray[np.float32]
    spread: NDArray[np.float32]
    unit: float

    def apply(self, distances: Distances) -> Distances:
        """Return how far distances exceed those of good parts, in units of ``unit``; 0 where they do not."""
        excess = np.maximum(distances - self.center, 0)
        return np.asarray(excess / (self.spread * np.float32(self.unit)), np.float32)


@dataclass(frozen=True)
class LearnedLevel:
    """The fitted arrays of one type at one level.

    Attributes:
        arrays: What the family learned.
        scale: The scale of the distances from it.
        left_out: The distances of the n fitted parts, each from a model without it, in this scale, (n, p). Not stored.
    """

    arrays: Arrays
    scale: Scale
    left_out: Distances

    def stored(self) -> Arrays:
        """The arrays to store."""
        scale = self.scale
        unit = np.array([scale.unit], np.float32)
        return self.arrays | {"center": scale.center, "spread": scale.spread, "unit": unit}

    @classmethod
    def from_stored(cls, stored: Arrays) -> LearnedLevel:
        """Rebuild it from what ``stored`` returned; raise KeyError if an array is missing."""
        arrays = dict(stored)
        scale = Scale(arrays.pop("center"), arrays.pop("spread"), float(arrays.pop("unit")[0]))
        return cls(arrays, scale, np.zeros((0, len(scale.center)), np.float32))


def scale_of(distances: Distances, cells: NDArray[np.bool_]) -> tuple[Scale, Distances]:
    """Return the scale of a level, and the distances in this scale, each with the moments of the other parts.

    The unit is the median, over good parts, of the largest of these values. So half of all good parts reach 1
    somewhere, on every level: no level hides another.

    Args:
        distances: Of good parts, (n, p), each from a model without it, smoothed. With one part there is no such model,
            and the scale changes nothing.
        cells: The cells that lie on the part, (h, w), p of them.
    """
    count, doubles = len(distances), distances.astype(np.float64)
    if count < 2:
        ones = np.ones(distances.shape[1], np.float32)
        return Scale(0 * ones, ones, 1.0), distances
    center = doubles.mean(0)
    squares = np.square(doubles - center)
    spread = _spread(squares.sum(0) / (count - 1), cells)
    if count < 3:  # one other part has no spread
        excess = 2 * np.maximum(doubles - center, 0) / spread
    else:
        # Without a part, whose deviation is d, the sum of squares loses d² n / (n - 1).
        rest = (squares.sum(0) - squares * (count / (count - 1))) / (count - 2)
        excess = np.stack(
            [
                np.maximum(deviation, 0) * (count / (count - 1)) / _spread(variance, cells)
                for deviation, variance in zip(doubles - center, rest, strict=True)
            ]
        )
    unit = max(float(np.median(excess.max(1))), 1e-6)
    scale = Scale(center.astype(np.float32), spread.astype(np.float32), unit)
    return scale, np.asarray(excess / unit, np.float32)


def _spread(variance: NDArray[np.float64], cells: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The ``spread`` of a scale, above 0, from the variance in each cell, (p,)."""
    deviation = np.sqrt(np.maximum(variance, 0))
    grid = np.zeros(cells.shape)
    grid[cells] = deviation
    nearby = cv2.dilate(grid, np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8))[cells]
    return np.asarray(np.maximum(nearby, max(_MEDIANS * float(np.median(deviation)), _MIN_SPREAD)), np.float64)


def smooth_cells(distances: Distances, cells: NDArray[np.bool_], sigma: float) -> Distances:
    """Smooth distances over the grid, with the weight of cells outside the part left out.

    Args:
        distances: (n, p).
        cells: The cells that lie on the part, (h, w), p of them.
        sigma: Cells; 0: unchanged.
    """
    if sigma == 0:
        return distances
    share = _blur(cells.astype(np.float32), sigma)[cells]
    grid = np.zeros(cells.shape, np.float32)
    smooth = np.empty_like(distances)
    for index, values in enumerate(distances):
        grid[cells] = values
        smooth[index] = _blur(grid, sigma)[cells] / share
    return smooth


def spread_out(distances: NDArray[np.float32], cells: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distances (p,) on the grid, (h, w).

    A cell outside ``cells`` has the mean of its neighbours there, or else of its next but one neighbours, or 0. A map
    on the part is interpolated from these values.
    """
    grid, known = np.zeros(cells.shape, np.float32), cells.copy()
    grid[cells] = distances
    for _ in range(2):
        share = cv2.boxFilter(known.astype(np.float32), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        total = cv2.boxFilter(grid, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        new = ~known & (share > 0.5)
        grid[new] = total[new] / share[new]
        known |= new
    return grid


def _blur(grid: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(grid, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.float32)
