"""Average pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_STRIP = 48  # rows: so many stay in the processor's cache as float64


def average_pool(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Average over windows of ``size`` x ``size``: (H, W, C) or (H, W) to (ceil(H / size), ceil(W / size), …).

    Where ``size`` does not divide, the last windows average the pixels there are. A constant stays what it is, to
    the last bit. C is at most 128, OpenCV's limit.
    """
    if size == 1:
        return image
    pooled = np.empty((-(-image.shape[0] // size), -(-image.shape[1] // size), *image.shape[2:]), np.float32)
    for tall, rows, pooled_rows in _spans(image.shape[0], size):
        for wide, columns, pooled_columns in _spans(image.shape[1], size):
            pooled[pooled_rows, pooled_columns] = _window_means(image[rows, columns], tall, wide)
    return pooled


def _spans(length: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    """Of an axis, the whole windows and the last, smaller one: a window's length, their pixels, their places."""
    whole, rest = divmod(length, size)
    if whole:
        yield size, slice(whole * size), slice(whole)
    if rest:
        yield rest, slice(whole * size, length), slice(whole, whole + 1)


def _window_means(image: NDArray[np.float32], tall: int, wide: int) -> NDArray[np.float32]:
    """The means of windows of ``tall`` x ``wide`` pixels, which divide the image.

    Single precision is exact enough, and fastest, for the mean of four. Of more, the sums are formed in double.
    """
    while tall % 2 == 0 and wide % 2 == 0:
        image, tall, wide = _resized(image, 2, 2), tall // 2, wide // 2
    if tall == wide == 1:
        return image
    rows = max(_STRIP // tall, 1) * tall
    strips = (image[top : top + rows].astype(np.float64) for top in range(0, len(image), rows))
    return np.concatenate([_resized(strip, tall, wide).astype(np.float32) for strip in strips])


def _resized(image: NDArray[Any], tall: int, wide: int) -> NDArray[Any]:
    """OpenCV's area interpolation at a whole ratio is the mean of each window."""
    height, width = image.shape[0] // tall, image.shape[1] // wide
    resized = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    return resized.reshape(height, width, *image.shape[2:])
