"""Overlapping tiles of a large image: where they are, and how they are blended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Tiles that cover an image. A tile is never larger than the image.

    Attributes:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        tile: Height and width of a tile, pixels; None: the whole image is one tile.
        overlap: Smallest overlap of neighbouring tiles, pixels; smaller than a tile.
    """

    height: int
    width: int
    tile: int | None
    overlap: int

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of a tile, pixels."""
        if not self.tile:
            return self.height, self.width
        return min(self.tile, self.height), min(self.tile, self.width)

    def windows(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        (height, width), (rows, columns) = self.tile_shape, self._starts()
        return [(slice(row, row + height), slice(column, column + width)) for row in rows for column in columns]

    def blending_weights(self) -> list[Images]:
        """The weight of each pixel of each tile, (h, w) per tile. They are smooth and sum to 1 at each pixel."""
        sides = zip((self.height, self.width), self.tile_shape, self._starts(), strict=True)
        rows, columns = (_side_weights(size, tile, starts, self.overlap) for size, tile, starts in sides)
        return [np.outer(row, column).astype(np.float32) for row in rows for column in columns]

    def blend(self, tiles: Iterator[Images]) -> Images:
        """Blend tiles (h, w, C), in the order of ``windows``, to an image (H, W, C)."""
        image: Images | None = None
        for window, weights, tile in zip(self.windows(), self.blending_weights(), tiles, strict=True):
            if image is None:
                image = np.zeros((self.height, self.width, tile.shape[-1]), np.float32)
            image[window] += tile * weights[..., None]
        if image is None:
            raise ValueError("an image needs at least one tile")
        return image

    def _starts(self) -> list[list[int]]:
        """The first rows, and the first columns, of the tiles."""
        sides = zip((self.height, self.width), self.tile_shape, strict=True)
        return [tile_starts(size, tile, min(self.overlap, tile - 1)) for size, tile in sides]


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """Compute the first pixels of evenly spaced tiles along one side: as few as possible.

    Args:
        size: Length of the side, pixels.
        tile: Length of a tile, at most ``size``.
        overlap: Smallest overlap of neighbouring tiles, smaller than ``tile``.
    """
    count = 1 + -(-(size - tile) // (tile - overlap))
    return [int(start) for start in np.linspace(0, size - tile, count).round()]


def _side_weights(size: int, tile: int, starts: list[int], overlap: int) -> NDArray[np.float64]:
    """The weights along one side, (tiles, tile). They increase over the overlap as a squared sine."""
    ramp = np.sin(np.pi / 2 * np.minimum(1, (np.arange(tile) + 0.5) / max(1, overlap))) ** 2
    weights = ramp * ramp[::-1]
    total = np.zeros(size)
    for start in starts:
        total[start : start + tile] += weights
    return np.stack([weights / total[start : start + tile] for start in starts])
