"""One mask and one crop box for a type."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError

Box = tuple[int, int, int, int]


def consensus_mask(share: NDArray[np.float32], level: float) -> NDArray[np.bool_]:
    """The pixels that more than ``level`` of the aligned masks hold; ``share`` (H, W): the share that holds each."""
    return np.asarray(share > level)


def crop_box(
    mask: NDArray[np.bool_],
    brightness: NDArray[np.float32],
    *,
    bg_threshold: float,
    padding: int,
    multiple: int,
) -> Box:
    """The box (x, y, width, height) that zero pruning leaves: rows and columns that hold the part, plus ``padding``.

    A pixel holds the part when the consensus ``mask`` (H, W) does and the mean photograph there is brighter than
    ``bg_threshold`` (``brightness`` (H, W), 8-bit grey levels). The box grows to a ``multiple`` of the pooling size
    where the frame leaves room. Raises InputError when nothing is left.
    """
    held = mask & (brightness > bg_threshold) if bg_threshold > 0 else mask
    if not held.any():
        raise InputError("nothing is left of the part after zero pruning; lower bg_threshold or consensus")
    x, y, width, height = cv2.boundingRect(held.astype(np.uint8))
    left, right = _grown(x, x + width, padding, multiple, mask.shape[1])
    top, bottom = _grown(y, y + height, padding, multiple, mask.shape[0])
    return left, top, right - left, bottom - top


def nearest_inside(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each pixel of a (H, W) mask, the flat index of the nearest pixel inside it (itself, inside).

    Indexing an image with it continues the part's edge outward, so that a filter at the edge sees only the part.
    """
    outside = (~mask).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    index_of_label = np.zeros(int(labels.max()) + 1, np.intp)
    index_of_label[labels[mask]] = np.flatnonzero(mask)
    return np.asarray(index_of_label[labels])


def _grown(start: int, stop: int, padding: int, multiple: int, limit: int) -> tuple[int, int]:
    start, stop = max(0, start - padding), min(limit, stop + padding)
    stop = min(limit, stop + (start - stop) % multiple)
    return max(0, start - (start - stop) % multiple), stop
