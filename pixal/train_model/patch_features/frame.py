"""The region of an image that a backbone sees."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


class Frame:
    """The region of an image that the network sees: the image is resized, and then cropped to its centre.

    Attributes:
        size: (h, w) of what the network sees, pixels.
    """

    def __init__(
        self, shape: Sequence[int], resize: int | Sequence[int] | None, cropsize: int | Sequence[int] | None
    ) -> None:
        """Compute the sizes.

        Args:
            shape: (H, W) or (H, W, C) of an image.
            resize: Length of the shorter side after resizing, or (h, w); None: not resized.
            cropsize: Side of the square that is cropped, or (h, w); None: not cropped.
        """
        height, width = (int(side) for side in shape[:2])
        self._shape = height, width
        self._resized: tuple[int, int]
        if isinstance(resize, int):
            scale = resize / min(height, width)
            self._resized = max(1, round(height * scale)), max(1, round(width * scale))
        else:
            self._resized = (resize[0], resize[1]) if resize else (height, width)
        crop = (cropsize, cropsize) if isinstance(cropsize, int) else cropsize or self._resized
        self.size = min(crop[0], self._resized[0]), min(crop[1], self._resized[1])
        self._top, self._left = ((full - cropped) // 2 for full, cropped in zip(self._resized, self.size, strict=True))

    def to_network(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize and crop an image (H, W) or (H, W, C) to what the network sees, (h, w) or (h, w, C)."""
        if self._resized != self._shape:
            shrinks = self._resized[0] < self._shape[0]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, self._resized[::-1], interpolation=method), np.float32)
        height, width = self.size
        return np.ascontiguousarray(image[self._top : self._top + height, self._left : self._left + width])

    def to_image(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize a map of what the network saw, of any size, to the image by bilinear interpolation.

        Returns:
            (H, W); 0 outside the crop.
        """
        resized = np.zeros(self._resized, np.float32)
        height, width = self.size
        cropped = cv2.resize(grid, self.size[::-1], interpolation=cv2.INTER_LINEAR)
        resized[self._top : self._top + height, self._left : self._left + width] = cropped
        if self._resized != self._shape:
            return np.asarray(cv2.resize(resized, self._shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        return resized
