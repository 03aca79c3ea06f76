"""A map of the places where regions were found, over the reference photograph."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_LOW, _HIGH = np.array((255, 214, 102), np.float32), np.array((180, 20, 20), np.float32)  # RGB, few and most regions


def count_regions(boxes: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.int64]:
    """Count the boxes that cover each pixel.

    Args:
        boxes: (n, 4), x, y, width and height in pixels. What is outside the frame is not counted.
        size: Height H and width W of the frame.

    Returns:
        (H, W).
    """
    height, width = size
    corners = np.zeros((height + 1, width + 1), np.int64)  # the second difference of the counts
    left, top = np.clip(boxes[:, 0], 0, width), np.clip(boxes[:, 1], 0, height)
    right = np.clip(boxes[:, 0] + boxes[:, 2], left, width)
    bottom = np.clip(boxes[:, 1] + boxes[:, 3], top, height)
    for rows, columns, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        np.add.at(corners, (rows, columns), sign)
    return corners.cumsum(0).cumsum(1)[:height, :width]


def draw_region_map(counts: NDArray[np.int64], reference: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Draw counts of regions over the reference photograph in grey.

    Args:
        counts: (H, W), the number of regions at each pixel of the model input.
        reference: (h, w, 3) uint8 RGB, the same area of the reference photograph in any resolution; None for a plain
            background.

    Returns:
        (h, w, 3) uint8 RGB: yellow where there are few regions, red where most are, grey where there are none.
    """
    if reference is None:
        canvas = np.full((*counts.shape, 3), 128, np.float32)
    else:
        grey = cv2.cvtColor(reference, cv2.COLOR_RGB2GRAY)
        canvas = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    size = (canvas.shape[1], canvas.shape[0])
    shown = cv2.resize(counts.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    most = max(int(counts.max(initial=0)), 1)
    share = np.clip((shown - 1) / max(most - 1, 1), 0, 1)[..., None]
    if most == 1:
        share[:] = 1
    tint = (1 - share) * _LOW + share * _HIGH
    drawn = np.where((shown > 0)[..., None], 0.35 * canvas + 0.65 * tint, canvas)
    return np.asarray(drawn.round(), np.uint8)
