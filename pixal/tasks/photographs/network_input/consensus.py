"""Consensus mask, crop box and ignored regions of a type, in the reference frame."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.tasks.photographs.geometry import Box

# A mask is an outlier if 1 - IoU is above both limits; the outlines of good masks differ by 0.01 to 0.02.
_MIN_DISTANCE = 0.1
_TIMES_MEDIAN = 3


class Consensus:
    """The mask that the training photographs of a type agree on. Masks are added one by one, in any order.

    A mask far from the majority (the pixels that more than half of all masks contain) has no vote: 1 - IoU with the
    majority is above 0.1 and above three times the median. With one or two masks all vote, as it is unknown which one
    is bad; at a level of 0.5 or more two masks agree on their intersection.

    Memory: 3 KB per mask of 1920 x 1080.
    """

    def __init__(self) -> None:
        self._masks: list[tuple[str, bytes]] = []
        self._mask_sum = self._grey_sum = np.zeros((0, 0), np.uint32)

    def add(self, name: str, mask: NDArray[np.bool_], grey: NDArray[np.uint8]) -> None:
        """Add a photograph.

        Args:
            name: Name of the photograph.
            mask: (H, W) foreground mask in the reference frame.
            grey: (H, W) grey levels in the reference frame.
        """
        if not self._masks:
            self._mask_sum, self._grey_sum = np.zeros(mask.shape, np.uint32), np.zeros(mask.shape, np.uint32)
        self._masks.append((name, zlib.compress(np.packbits(mask).tobytes(), level=1)))
        self._mask_sum += mask
        self._grey_sum += grey

    @property
    def fraction(self) -> NDArray[np.float32]:
        """(H, W) fraction of the voting masks that contain each pixel."""
        votes, outliers = self._mask_sum.copy(), self._outliers()
        for _, _, packed in outliers:
            votes -= np.unpackbits(_unpack(packed), count=votes.size).reshape(votes.shape)
        return np.asarray(votes / (len(self._masks) - len(outliers)), np.float32)

    @property
    def brightness(self) -> NDArray[np.float32]:
        """(H, W) mean grey level of all photographs."""
        return np.asarray(self._grey_sum / len(self._masks), np.float32)

    def mask(self, level: float) -> NDArray[np.bool_]:
        """Return the pixels (H, W) that more than ``level`` of the voting masks contain."""
        return consensus_mask(self.fraction, level)

    def outliers(self) -> list[tuple[str, float]]:
        """Return name and IoU with the majority of each mask without a vote, smallest IoU first."""
        return [(name, overlap) for overlap, name, _ in self._outliers()]

    def _outliers(self) -> list[tuple[float, str, bytes]]:
        majority = np.packbits(2 * self._mask_sum > len(self._masks))
        overlaps = [_overlap(_unpack(packed), majority) for _, packed in self._masks]
        limit = 1 - max(_MIN_DISTANCE, _TIMES_MEDIAN * (1 - float(np.median(overlaps))))
        rows = ((overlap, *mask) for overlap, mask in zip(overlaps, self._masks, strict=True))
        return sorted(row for row in rows if row[0] < limit)


def consensus_mask(fraction: NDArray[np.float32], level: float) -> NDArray[np.bool_]:
    """Return the pixels (H, W) where the ``fraction`` (H, W) of the masks that contain them is above ``level``."""
    return np.asarray(fraction > level)


def crop_box(
    mask: NDArray[np.bool_],
    brightness: NDArray[np.float32],
    *,
    bg_threshold: float,
    padding: int,
    multiple: int,
) -> Box:
    """Return the box to which zero pruning crops: the rows and columns that contain the part, and a margin.

    Args:
        mask: (H, W) consensus mask.
        brightness: (H, W) mean grey level of the photographs, 0 to 255.
        bg_threshold: Pixels of the mask that are not brighter do not count as part; 0: all count.
        padding: Pixels added on each side.
        multiple: The sides of the box are multiples of this number where the frame has room.

    Raises:
        InputError: If no pixel of the part is left.
    """
    part = mask & (brightness > bg_threshold) if bg_threshold > 0 else mask
    if not part.any():
        raise InputError("nothing is left of the part after zero pruning; lower bg_threshold or consensus")
    x, y, width, height = cv2.boundingRect(part.astype(np.uint8))
    left, right = _extend(x, x + width, padding, multiple, mask.shape[1])
    top, bottom = _extend(y, y + height, padding, multiple, mask.shape[0])
    return Box(left, top, right - left, bottom - top)


def fraction_outside(mask: NDArray[np.bool_], box: Box) -> float:
    """Return the fraction of a mask (H, W) that is outside the box; 0 for an empty mask."""
    area = np.count_nonzero(mask)
    return 1 - np.count_nonzero(mask[box.window]) / area if area else 0.0


def ignored_mask(shape: tuple[int, int], regions: Sequence[Box]) -> NDArray[np.bool_]:
    """Return the pixels of a frame that are inside any of the boxes.

    Args:
        shape: Height and width of the frame.
        regions: Boxes in the frame.

    Raises:
        InputError: If a box is empty or extends beyond the frame.
    """
    ignored = np.zeros(shape, bool)
    for box in regions:
        x, y, width, height = box
        if min(x, y) < 0 or min(width, height) < 1 or x + width > shape[1] or y + height > shape[0]:
            raise InputError(
                f"ignore_regions: the box [{x}, {y}, {width}, {height}] (x, y, width, height) is not inside the "
                f"reference, {shape[1]} x {shape[0]} pixels"
            )
        ignored[box.window] = True
    return ignored


def nearest_inside(mask: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return for each pixel of a mask (H, W) the flat index of the nearest pixel inside it; inside, its own index.

    Indexing an image with the result continues the part's edge outwards, so a filter at the edge sees only the part.
    """
    outside = (~mask).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    index_of_label = np.zeros(int(labels.max()) + 1, np.intp)
    index_of_label[labels[mask]] = np.flatnonzero(mask)
    return np.asarray(index_of_label[labels])


def _extend(start: int, stop: int, padding: int, multiple: int, limit: int) -> tuple[int, int]:
    """Extend a range by the padding, then at its end and its start to a multiple, within 0 to ``limit``."""
    start, stop = max(0, start - padding), min(limit, stop + padding)
    stop = min(limit, stop + (start - stop) % multiple)
    return max(0, start - (start - stop) % multiple), stop


def _unpack(compressed: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(compressed), np.uint8)


def _overlap(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the intersection over union of two packed masks; 0 if both are empty."""
    return int(np.bitwise_count(a & b).sum()) / max(1, int(np.bitwise_count(a | b).sum()))
