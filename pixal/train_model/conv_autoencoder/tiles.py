"""Large images as overlapping tiles: where they lie, and how they are blended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """Tiles that cover an image (height, width); no larger than it, the whole of it where ``tile`` is None.

    ``overlap``: of neighbours, in pixels, at least, and smaller than a tile. ``frame``: height and width of a tile.
    """

    height: int
    width: int
    tile: int | None
    overlap: int

    @property
    def frame(self) -> tuple[int, int]:
        """Height and width of a tile."""
        return (self.height, self.width) if not self.tile else (min(self.tile, self.height), min(self.tile, self.width))

    def places(self) -> list[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        (height, width), (rows, columns) = self.frame, self._starts()
        return [(slice(row, row + height), slice(column, column + width)) for row in rows for column in columns]

    def windows(self) -> list[Images]:
        """What each pixel of each tile (h, w) counts: smooth, and 1 in sum over the tiles at each pixel."""
        sides = zip((self.height, self.width), self.frame, self._starts(), strict=True)
        rows, columns = (_shares(size, tile, starts, self.overlap) for size, tile, starts in sides)
        return [np.outer(row, column).astype(np.float32) for row in rows for column in columns]

    def blend(self, tiles: Iterator[Images]) -> Images:
        """The image (H, W, C) of its tiles (h, w, C)."""
        found: Images | None = None
        for place, window, tile in zip(self.places(), self.windows(), tiles, strict=True):
            if found is None:
                found = np.zeros((self.height, self.width, tile.shape[-1]), np.float32)
            found[place] += tile * window[..., None]
        if found is None:
            raise ValueError("an image has a tile at least")
        return found

    def _starts(self) -> list[list[int]]:
        sides = zip((self.height, self.width), self.frame, strict=True)
        return [starts(size, tile, min(self.overlap, tile - 1)) for size, tile in sides]


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """The first pixels of the fewest tiles that cover ``size`` pixels with ``overlap`` at least, evenly spaced."""
    count = 1 + -(-(size - tile) // (tile - overlap))
    return [int(start) for start in np.linspace(0, size - tile, count).round()]


def _shares(size: int, tile: int, firsts: list[int], overlap: int) -> NDArray[np.float64]:
    """What each of a tile's pixels counts, (tiles, tile), along one side: rising over the overlap as a squared sine."""
    ramp = np.sin(np.pi / 2 * np.minimum(1, (np.arange(tile) + 0.5) / max(1, overlap))) ** 2
    window = ramp * ramp[::-1]
    total = np.zeros(size)
    for first in firsts:
        total[first : first + tile] += window
    return np.stack([window / total[first : first + tile] for first in firsts])
