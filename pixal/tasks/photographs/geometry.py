"""Boxes, points and matrices in the pixels of an image."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixal.config.section import Count

Matrix = NDArray[np.float64]
"""A 3x3 matrix that maps pixels (x, y, 1) of one frame to another."""

Points = NDArray[np.floating]
"""(N, 2) points (x, y) in pixels."""


class Box(NamedTuple):
    """A box in the pixels of an image. Files hold it as a list of its four fields.

    Attributes:
        x: Column of the left edge.
        y: Row of the upper edge.
        width: Width in pixels.
        height: Height in pixels.
    """

    x: Annotated[int, Field(ge=0)]
    y: Annotated[int, Field(ge=0)]
    width: Count
    height: Count

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the box: ``image[box.window]`` is the image inside it."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    @staticmethod
    def around(mask: NDArray[np.bool_]) -> Box:
        """The smallest box that contains a mask (H, W); of no size if the mask is empty."""
        return Box(*cv2.boundingRect(mask.view(np.uint8)))

    @staticmethod
    def of_window(rows: slice, columns: slice) -> Box:
        """The box of a window, see ``window``."""
        return Box(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)

    def joined(self, other: Box) -> Box:
        """The smallest box that contains both."""
        x, y = min(self.x, other.x), min(self.y, other.y)
        right = max(self.x + self.width, other.x + other.width)
        bottom = max(self.y + self.height, other.y + other.height)
        return Box(x, y, right - x, bottom - y)
