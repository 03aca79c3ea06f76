"""Known defects in the reference frame: their boxes, and pictures of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.files import write_bytes
from pixal.io.images import as_uint8, decode_image, encode_image
from pixal.tasks.photographs.alignment.align import move_to_reference
from pixal.tasks.photographs.learning.accepted import PhotographBox
from pixal.tasks.photographs.preprocessing.state import PreprocessingState

_MARGIN = 0.5  # of the size of a box, that a picture shows on each side
_SMALLEST_MARGIN = 8  # pixels


def boxes_in_reference(
    boxes: Iterable[PhotographBox], homography: NDArray[np.float64], state: PreprocessingState
) -> tuple[PhotographBox, ...]:
    """Move boxes from a photograph to the reference frame; those outside of it are left out.

    Args:
        boxes: x, y, width and height in pixels of the photograph.
        homography: The 3x3 homography from the photograph's pixels (x, y) to the reference frame.
        state: The preprocessing of the type.
    """
    height, width = state.consensus.shape
    moved = (_moved_box(box, homography, (width, height)) for box in boxes)
    return tuple(box for box in moved if box is not None)


def write_cut_outs(
    folder: Path,
    stem: str,
    data: bytes,
    homography: NDArray[np.float64],
    state: PreprocessingState,
    boxes: Iterable[PhotographBox],
) -> tuple[str, ...]:
    """Write a picture of each box of a photograph, in the reference frame; return the names of the files.

    Args:
        folder: Where they go.
        stem: The start of their names.
        data: The bytes of the photograph's file.
        homography: See ``boxes_in_reference``.
        state: The preprocessing of the type.
        boxes: The boxes in the reference frame.
    """
    image = np.ascontiguousarray(as_uint8(decode_image(data)[..., :3]))
    if state.settings.alignment.moves_photographs:
        image = move_to_reference(image, homography, state.reference)
    names = []
    for number, (x, y, width, height) in enumerate(boxes, 1):
        margin = max(_SMALLEST_MARGIN, round(_MARGIN * max(width, height)))
        window = image[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
        names.append(f"{stem}_defect{number}.png")
        write_bytes(folder / names[-1], encode_image(".png", np.ascontiguousarray(window)))
    return tuple(names)


def _moved_box(box: PhotographBox, homography: NDArray[np.float64], size: tuple[int, int]) -> PhotographBox | None:
    """The box around a box of the photograph, in the reference frame of ``size`` (width, height); None if outside."""
    x, y, width, height = box
    corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]], np.float64)
    moved = cv2.perspectiveTransform(corners[None], homography)[0]
    left, top = np.clip(np.floor(moved.min(0)), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(moved.max(0)), 0, size).astype(int)
    if right <= left or bottom <= top:
        return None
    return int(left), int(top), int(right - left), int(bottom - top)
