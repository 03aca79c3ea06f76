"""The report's pictures: JPEG files that wait on disk until the page takes them in, or has them beside it."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import atomic_write, write_bytes

Image = NDArray[np.uint8]
Part = Mapping[str, Any]

THUMBNAIL = (128, 72)  # width, height: twice the size on the page, for dense screens
MAX_WIDTH = 1280  # of a photograph and its overlay
QUALITY, THUMBNAIL_QUALITY = 85, 72
CLOSE_UP_MARGIN = 1.8  # a close-up shows the region and as much again around it


class Pictures(NamedTuple):
    """The JPEG files of one part; None where there is nothing to show."""

    photo: Path | None = None
    overlay: Path | None = None
    thumbnail: Path | None = None
    close_up: Path | None = None


def store(spool: Path, part: Part, pictures: tuple[Image, Image] | None, max_width: int = MAX_WIDTH) -> Pictures:
    """Encode one part's pictures into files named after their content."""
    if pictures is None:
        return Pictures()
    for image in pictures:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(
                f"{part['image']}: a picture is {image.shape} {image.dtype}, the report needs (H, W, 3) uint8"
            )
    photo, overlay = pictures
    regions = part.get("regions") or []
    close_up = _close_up(photo, part, max(regions, key=lambda region: region["peak"])) if regions else None
    return Pictures(
        photo=_jpeg(spool, _fit(photo, max_width), QUALITY),
        overlay=_jpeg(spool, _fit(overlay, max_width), QUALITY),
        thumbnail=_jpeg(spool, _fit(overlay, *THUMBNAIL), THUMBNAIL_QUALITY),
        close_up=None if close_up is None else _jpeg(spool, _fit(close_up, *THUMBNAIL), THUMBNAIL_QUALITY),
    )


def _close_up(photo: Image, part: Part, region: Mapping[str, Any]) -> Image:
    """Cut the region and its surroundings out of the photograph, in the thumbnail's shape."""
    height, width = photo.shape[:2]
    down, across = height / (part.get("height") or height), width / (part.get("width") or width)
    aspect = THUMBNAIL[0] / THUMBNAIL[1]
    cut = CLOSE_UP_MARGIN * max(region["width"] * across, region["height"] * down * aspect, THUMBNAIL[0] / 2)
    cut_width, cut_height = min(round(cut), width), min(round(cut / aspect), height)
    left = round((region["x"] + region["width"] / 2) * across - cut_width / 2)
    top = round((region["y"] + region["height"] / 2) * down - cut_height / 2)
    left, top = min(max(left, 0), width - cut_width), min(max(top, 0), height - cut_height)
    return photo[top : top + cut_height, left : left + cut_width]


def _fit(image: Image, width: int, height: int | None = None) -> Image:
    scale = min(1.0, width / image.shape[1], height / image.shape[0] if height else 1.0)
    if scale == 1.0:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(spool: Path, image: Image, quality: int) -> Path:
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InputError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels cannot be written as JPEG")
    content = encoded.tobytes()
    file = spool / f"{hashlib.sha256(content).hexdigest()[:20]}.jpg"
    write_bytes(file, content)
    return file


def embedded_size(files: Iterable[Path | None]) -> int:
    """Bytes of the files as base64."""
    return sum(4 * math.ceil(file.stat().st_size / 3) for file in files if file is not None)


def data_uri(file: Path) -> str:
    """The file as an address that holds its content."""
    return "data:image/jpeg;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def move_out(shelf: Sequence[Pictures], folder: Path, *, thumbnails: bool) -> set[str]:
    """Put the large pictures (and the thumbnails too) into the folder as well; return their names."""
    folder.mkdir(exist_ok=True)
    files = {file for kept in shelf for file in (kept if thumbnails else kept[:2]) if file is not None}
    there = {file.name for file in folder.iterdir()}
    for file in files:
        if file.name not in there:
            _link(file, folder / file.name)
    return {file.name for file in files}


def _link(file: Path, target: Path) -> None:
    """Give a file a second name: no second copy, where the file system can; a name stands for one content."""
    try:
        target.hardlink_to(file)
    except OSError:
        with atomic_write(target) as temporary:
            shutil.copyfile(file, temporary)


def prune(folder: Path, *, keep: set[str]) -> None:
    """Remove the pictures of earlier reports, and nothing that is not one."""
    if not folder.is_dir():
        return
    old = [file for file in folder.glob("*.jpg") if re.fullmatch(r"[0-9a-f]{20}\.jpg", file.name)]
    old = [file for file in old if file.name not in keep]
    for file in old:
        file.unlink()
    if old and not any(folder.iterdir()):
        folder.rmdir()
