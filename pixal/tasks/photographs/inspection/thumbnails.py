"""Small images of the photographs that the page of ``inspect`` names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import cv2
import numpy as np

from pixal.config.schema import Execution
from pixal.errors import InputError
from pixal.execution import map_parallel
from pixal.io.images import Image, as_uint8, decode_image, encode_image
from pixal.report.inspection import SHOWN_PER_FINDING, Thumbnail
from pixal.report.inspection_document import InspectionDocument
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.inspection.photographs import InspectedType, as_rgb

_WIDTH, _HEIGHT = 240, 160
_QUALITY = 80


def make_thumbnails(
    types: Mapping[str, InspectedType], document: InspectionDocument, execution: Execution, *, quiet: bool
) -> dict[tuple[str, str], Thumbnail]:
    """Read the photographs that the page shows once more, and reduce them.

    Returns:
        The images by type and name. A photograph that cannot be read has none.
    """
    shown = {(found.type, name) for found in document.findings for name in found.photographs[:SHOWN_PER_FINDING]}
    shown |= {(item.name, item.typical) for item in document.types}
    files = {
        (name, photo.image): photo.photograph
        for name, inspected in types.items()
        for photo in inspected.readable
        if (name, photo.image) in shown
    }
    images = map_parallel(_thumbnail, list(files.values()), execution, step="thumbnails", quiet=quiet)
    return {key: image for key, image in zip(files, images, strict=True) if image is not None}


def _thumbnail(photograph: Photograph) -> Thumbnail | None:
    try:
        image = as_rgb(decode_image(photograph.read()))
    except InputError:  # removed or changed since it was measured
        return None
    jpeg = partial(encode_image, ".jpg", quality=_QUALITY)
    return Thumbnail(jpeg(_reduced(as_uint8(image))), jpeg(_centre(as_uint8(image))))


def _reduced(image: Image) -> Image:
    height, width = image.shape[:2]
    scale = min(1.0, _WIDTH / width, _HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _centre(image: Image) -> Image:
    height, width = image.shape[:2]
    top, left = max(0, (height - _HEIGHT) // 2), max(0, (width - _WIDTH) // 2)
    return np.ascontiguousarray(image[top : top + _HEIGHT, left : left + _WIDTH])
