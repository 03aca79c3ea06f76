"""One mask, one crop box and the ignored regions of a type, all in the reference frame."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.tasks.photographs.geometry import Box

_FAR, _TIMES_FARTHER = 0.1, 3  # of 1 - IoU; the outlines of good masks differ by 0.01 to 0.02


class Consensus:
    """What the masks of a type's training photographs agree on; they are added one by one, in any order.

    A mask far from the majority has no vote: its 1 - IoU with the pixels that more than half of all masks hold is more
    than 0.1, and more than three times the median mask's. Of one or two masks none can be told to be the bad one: all
    vote, and at a level of 0.5 or more two leave what both hold. Memory: 3 KB for a mask of 1920 x 1080.
    """

    def __init__(self) -> None:
        self._masks: list[tuple[str, bytes]] = []
        self._held = self._grey = np.zeros((0, 0), np.uint32)

    def add(self, name: str, mask: NDArray[np.bool_], grey: NDArray[np.uint8]) -> None:
        """A photograph's mask and grey levels, both (H, W), in the reference frame."""
        if not self._masks:
            self._held, self._grey = np.zeros(mask.shape, np.uint32), np.zeros(mask.shape, np.uint32)
        self._masks.append((name, zlib.compress(np.packbits(mask).tobytes(), level=1)))
        self._held += mask
        self._grey += grey

    @property
    def share(self) -> NDArray[np.float32]:
        """The share (H, W) of the voting masks that holds each pixel."""
        votes, far = self._held.copy(), self._far()
        for _, _, packed in far:
            votes -= np.unpackbits(_bits(packed), count=votes.size).reshape(votes.shape)
        return np.asarray(votes / (len(self._masks) - len(far)), np.float32)

    @property
    def brightness(self) -> NDArray[np.float32]:
        """The mean grey level (H, W) of all photographs."""
        return np.asarray(self._grey / len(self._masks), np.float32)

    def mask(self, level: float) -> NDArray[np.bool_]:
        """The pixels (H, W) that more than ``level`` of the voting masks hold."""
        return consensus_mask(self.share, level)

    def outliers(self) -> list[tuple[str, float]]:
        """The masks without a vote, by name, and their IoU with the majority; the least first."""
        return [(name, overlap) for overlap, name, _ in self._far()]

    def _far(self) -> list[tuple[float, str, bytes]]:
        majority = np.packbits(2 * self._held > len(self._masks))
        overlaps = [_overlap(_bits(packed), majority) for _, packed in self._masks]
        least = 1 - max(_FAR, _TIMES_FARTHER * (1 - float(np.median(overlaps))))
        rows = ((overlap, *mask) for overlap, mask in zip(overlaps, self._masks, strict=True))
        return sorted(row for row in rows if row[0] < least)


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
    return Box(left, top, right - left, bottom - top)


def outside_share(mask: NDArray[np.bool_], box: Box) -> float:
    """The share of a part's mask (H, W) that a crop box (x, y, width, height) cuts off; 0 of an empty mask."""
    held = np.count_nonzero(mask)
    return 1 - np.count_nonzero(mask[box.window]) / held if held else 0.0


def ignored_mask(shape: tuple[int, int], regions: Sequence[Box]) -> NDArray[np.bool_]:
    """The pixels of a frame of ``shape`` (H, W) that lie in any of the boxes (x, y, width, height).

    Raises InputError for a box that is empty or reaches beyond the frame.
    """
    ignored = np.zeros(shape, bool)
    for box in regions:
        x, y, width, height = box
        if min(x, y) < 0 or min(width, height) < 1 or x + width > shape[1] or y + height > shape[0]:
            raise InputError(
                f"ignore_regions: the box [{x}, {y}, {width}, {height}] (x, y, width, height) does not lie within the "
                f"reference, {shape[1]} x {shape[0]} pixels"
            )
        ignored[box.window] = True
    return ignored


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


def _bits(compressed: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(compressed), np.uint8)


def _overlap(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The intersection of two packed masks over their union; 0 if both are empty."""
    return int(np.bitwise_count(one & other).sum()) / max(1, int(np.bitwise_count(one | other).sum()))
