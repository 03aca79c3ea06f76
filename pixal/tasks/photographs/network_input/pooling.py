"""Average pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CHUNK_ROWS = 48  # as float64 these fit into the processor's cache


def average_pool(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Average an image over windows of ``size`` x ``size`` pixels.

    If ``size`` does not divide a side, the last windows average the pixels that are left. The mean of equal values is
    exact.

    Args:
        image: (H, W) or (H, W, C); C is at most 128, OpenCV's limit.
        size: Side of the windows.

    Returns:
        (ceil(H / size), ceil(W / size)) or (ceil(H / size), ceil(W / size), C).
    """
    if size == 1:
        return image
    pooled = np.empty((-(-image.shape[0] // size), -(-image.shape[1] // size), *image.shape[2:]), np.float32)
    for height, rows, pooled_rows in _window_ranges(image.shape[0], size):
        for width, columns, pooled_columns in _window_ranges(image.shape[1], size):
            pooled[pooled_rows, pooled_columns] = _window_means(image[rows, columns], height, width)
    return pooled


def _window_ranges(length: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Yield, for the whole windows along an axis and for the last smaller one: length, pixels, and pooled pixels."""
    whole, rest = divmod(length, size)
    if whole:
        yield size, slice(whole * size), slice(whole)
    if rest:
        yield rest, slice(whole * size, length), slice(whole, whole + 1)


def _window_means(image: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Return the means of windows of ``height`` x ``width`` pixels, which divide the image.

    Single precision is fast and exact enough for the mean of four values. Sums of more are formed in double precision.
    """
    while height % 2 == 0 and width % 2 == 0:
        image, height, width = _shrink(image, 2, 2), height // 2, width // 2
    if height == width == 1:
        return image
    rows = max(_CHUNK_ROWS // height, 1) * height
    chunks = (image[top : top + rows].astype(np.float64) for top in range(0, len(image), rows))
    return np.concatenate([_shrink(chunk, height, width).astype(np.float32) for chunk in chunks])


def _shrink(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Shrink an image by whole factors. OpenCV's area interpolation is then the mean of each window."""
    rows, columns = image.shape[0] // height, image.shape[1] // width
    pooled = np.asarray(cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA))
    return pooled.reshape(rows, columns, *image.shape[2:])
