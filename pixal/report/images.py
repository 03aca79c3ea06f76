"""The report's images: JPEG files that the page embeds, or that lie in a folder next to it."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import atomic_write, write_bytes
from pixal.validation.regions import Region

Image = NDArray[np.uint8]

THUMBNAIL = (128, 72)  # width, height: twice the size on the page, for dense screens
MAX_WIDTH = 1280  # of a photograph and its overlay
QUALITY, THUMBNAIL_QUALITY = 85, 72
CLOSE_UP_MARGIN = 1.8  # width of a close-up relative to that of its region


class PartImages(NamedTuple):
    """The JPEG files of one part; None if there is nothing to show.

    Attributes:
        photo: The photograph.
        overlay: The photograph with its anomalies.
        thumbnail: The overlay, small.
        close_up: The worst region on the photograph, small.
    """

    photo: Path | None = None
    overlay: Path | None = None
    thumbnail: Path | None = None
    close_up: Path | None = None


def save_part_images(
    folder: Path,
    photo: Image,
    overlay: Image,
    *,
    name: str,
    size: tuple[int, int] | None = None,
    regions: Sequence[Region] = (),
    max_width: int = MAX_WIDTH,
    changed: tuple[slice, slice] | None = None,
) -> PartImages:
    """Encode the images of one part into files that are named after their content.

    Args:
        folder: Where the files go.
        photo: The photograph, (H, W, 3) uint8 RGB.
        overlay: The photograph with its anomalies, (H, W, 3) uint8 RGB; the same object as ``photo`` if there are none.
        name: The part's name, for error messages.
        size: Height and width of the frame in which ``regions`` are given; None: that of ``photo``.
        regions: The part's regions; the worst one is shown as a close-up.
        max_width: Wider images are reduced to this width in pixels.
        changed: Rows and columns outside which ``overlay`` is equal to ``photo``; None: all.

    Raises:
        InputError: An image has another shape or type.
    """
    for image in (photo, overlay):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(f"{name}: an image is {image.shape} {image.dtype}, the report needs (H, W, 3) uint8")
    close_up = None
    if regions:
        close_up = _cut_close_up(photo, size or photo.shape[:2], max(regions, key=lambda region: region.peak))
    reduced = _reduce(photo, max_width)
    photo_file = overlay_file = _save_jpeg(folder, reduced, QUALITY)
    if overlay is not photo:
        reduced = _reduce(overlay, max_width) if changed is None else _reduce_window(overlay, changed, reduced)
        overlay_file = _save_jpeg(folder, reduced, QUALITY)
    return PartImages(
        photo=photo_file,
        overlay=overlay_file,
        thumbnail=_save_jpeg(folder, _reduce(reduced, *THUMBNAIL), THUMBNAIL_QUALITY),
        close_up=None if close_up is None else _save_jpeg(folder, _reduce(close_up, *THUMBNAIL), THUMBNAIL_QUALITY),
    )


def embedded_size(files: Iterable[Path | None]) -> int:
    """The size of files as base64 text, in bytes."""
    return sum(4 * math.ceil(file.stat().st_size / 3) for file in files if file is not None)


def data_uri(file: Path) -> str:
    """The content of a JPEG file as a ``data:`` address."""
    return "data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def export_images(images: Sequence[PartImages], folder: Path, *, thumbnails: bool) -> set[str]:
    """Copy photographs and overlays, and with ``thumbnails`` the small images too, into a folder.

    Returns:
        The names of the files in the folder that belong to these parts.
    """
    folder.mkdir(exist_ok=True)
    files = {file for part in images for file in (part if thumbnails else part[:2]) if file is not None}
    existing = {file.name for file in folder.iterdir()}
    for file in files:
        if file.name not in existing:
            _link(file, folder / file.name)
    return {file.name for file in files}


def remove_old_images(folder: Path, *, keep: set[str]) -> None:
    """Delete the images of earlier reports. Other files in the folder stay."""
    if not folder.is_dir():
        return
    old = [file for file in folder.glob("*.jpg") if re.fullmatch(r"[0-9a-f]{20}\.jpg", file.name)]
    old = [file for file in old if file.name not in keep]
    for file in old:
        ownership.remove(file)
    if old and not any(folder.iterdir()):
        folder.rmdir()


def _cut_close_up(photo: Image, size: tuple[int, int], region: Region) -> Image:
    """Cut the region and its surroundings out of the photograph, with the aspect ratio of a thumbnail."""
    height, width = photo.shape[:2]
    scale_y, scale_x = height / size[0], width / size[1]
    aspect = THUMBNAIL[0] / THUMBNAIL[1]
    cut = CLOSE_UP_MARGIN * max(region.width * scale_x, region.height * scale_y * aspect, THUMBNAIL[0] / 2)
    cut_width, cut_height = min(round(cut), width), min(round(cut / aspect), height)
    left = round((region.x + region.width / 2) * scale_x - cut_width / 2)
    top = round((region.y + region.height / 2) * scale_y - cut_height / 2)
    left, top = min(max(left, 0), width - cut_width), min(max(top, 0), height - cut_height)
    return photo[top : top + cut_height, left : left + cut_width]


def _reduce(image: Image, width: int, height: int | None = None) -> Image:
    scale = min(1.0, width / image.shape[1], height / image.shape[0] if height else 1.0)
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _reduce_window(image: Image, window: tuple[slice, slice], reduced: Image) -> Image:
    """Reduce an image like ``_reduce``, in less time.

    Args:
        image: (H, W, 3).
        window: Rows and columns outside which ``reduced`` is right already.
        reduced: (h, w, 3).

    Returns:
        The reduced image, (h, w, 3).
    """
    sources, targets = [], []
    for part, length, short in zip(window, image.shape[:2], reduced.shape[:2], strict=True):
        # The borders of such blocks are borders of pixels in both images.
        blocks = math.gcd(length, short)
        first, end = part.start * blocks // length, -(-part.stop * blocks // length)
        sources.append(slice(first * length // blocks, end * length // blocks))
        targets.append(slice(first * short // blocks, end * short // blocks))
    rows, columns = targets
    result: Image = reduced.copy()
    if rows.stop > rows.start and columns.stop > columns.start:
        size = (columns.stop - columns.start, rows.stop - rows.start)
        result[rows, columns] = cv2.resize(image[sources[0], sources[1]], size, interpolation=cv2.INTER_AREA)
    return result


def _save_jpeg(folder: Path, image: Image, quality: int) -> Path:
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InputError(f"an image of {image.shape[1]}x{image.shape[0]} pixels cannot be written as JPEG")
    content = encoded.tobytes()
    file = folder / f"{hashlib.sha256(content).hexdigest()[:20]}.jpg"
    write_bytes(file, content, sync=False)
    return file


def _link(file: Path, target: Path) -> None:
    """Link to a file, or copy it where the file system has no links. A name stands for one content."""
    ownership.note(target)
    try:
        target.hardlink_to(file)
    except OSError:
        with atomic_write(target) as temporary:
            shutil.copyfile(file, temporary)
