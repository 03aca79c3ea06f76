"""Average pooling."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def average_pool(image: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Average over windows of ``size`` x ``size``: (H, W, C) or (H, W) to (ceil(H / size), ceil(W / size), …).

    Where ``size`` does not divide, the last windows average the pixels there are.
    """
    if size == 1:
        return image
    height, width = image.shape[:2]
    pooled_size = (-(-width // size), -(-height // size))
    bottom, right = pooled_size[1] * size - height, pooled_size[0] * size - width
    if not bottom and not right:
        return _shrunk(image, pooled_size)
    padded = [(0, bottom), (0, right)]
    sums = _shrunk(np.pad(image, padded + [(0, 0)] * (image.ndim - 2)), pooled_size)
    share = _shrunk(np.pad(np.ones((height, width), np.float32), padded), pooled_size)
    return np.asarray(sums / share.reshape(*share.shape, *[1] * (image.ndim - 2)), np.float32)


def _shrunk(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """OpenCV's area interpolation at a whole ratio is the average of each window."""
    if image.ndim == 3 and image.shape[2] > 4:  # more channels than its fast path takes
        return np.dstack([_shrunk(np.ascontiguousarray(image[..., i]), size) for i in range(image.shape[2])])
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32).reshape(
        size[1], size[0], *image.shape[2:]
    )
