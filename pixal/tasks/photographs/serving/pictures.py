"""The pictures of a part: files that ``validate`` wrote where they exist, else made from the photograph and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import data_hash, read_bytes
from pixal.io.images import as_uint8, decode_image, encode_image, read_image_bytes
from pixal.report.images import MAX_WIDTH, QUALITY, THUMBNAIL
from pixal.server.site import Picture, PictureKind
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict

_SHOWN_AS_THEY_ARE = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
_STORED: dict[PictureKind, int] = {"photo": 0, "tint": 1, "thumbnail": 2}  # in ``StoredVerdict.images``
_MOST_POINTS = 20_000  # of all outlines of a part
_TOLERANCE = 0.7  # pixels between an outline and its simplified line


class PictureCache:
    """Pictures that were made, in memory. The oldest ones go when there are too many bytes."""

    def __init__(self, largest: int = 64 << 20) -> None:
        self._largest, self._size = largest, 0
        self._pictures: OrderedDict[object, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object, make: Callable[[], Picture | None]) -> Picture | None:
        """The picture of a key, made if it is not there; None if it cannot be made."""
        with self._lock:
            found = self._pictures.get(key)
            if found is not None:
                self._pictures.move_to_end(key)
                return found
        made = make()
        if made is not None:
            with self._lock:
                if key not in self._pictures:
                    self._size += len(made.data)
                self._pictures[key] = made
                while self._size > self._largest and len(self._pictures) > 1:
                    self._size -= len(self._pictures.popitem(last=False)[1].data)
        return made


def stored_picture(verdict: StoredVerdict, kind: PictureKind, report: Path) -> Picture | None:
    """A picture that ``validate`` made for the report, in the folder ``report``; None if it is not there."""
    names = verdict.images
    if kind not in _STORED or names is None:
        return None
    name = names[_STORED[kind]]
    if name is None or Path(name).name != name:
        return None
    try:
        return Picture(read_bytes(report / name))
    except InputError:
        return None


def photograph(record: PhotographRecord) -> Picture | None:
    """The photograph itself; None if its file is not the one that was validated any more."""
    data = _original(record)
    if data is None:
        return None
    media_type = _SHOWN_AS_THEY_ARE.get(Path(record.source).suffix.lower())
    if media_type is not None:
        return Picture(data, media_type)
    return Picture(encode_image(".png", as_uint8(decode_image(data)[..., :3])), "image/png")


def reduced(record: PhotographRecord, kind: PictureKind) -> Picture | None:
    """The photograph as large as a screen or a thumbnail shows it; None as for ``photograph``."""
    data = _original(record)
    if data is None:
        return None
    image = as_uint8(decode_image(data)[..., :3])
    width, height = THUMBNAIL if kind == "thumbnail" else (MAX_WIDTH, image.shape[0])
    scale = min(1.0, width / image.shape[1], height / image.shape[0])
    return _jpeg(np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8))


def aligned_reference(reference: NDArray[np.uint8], record: PhotographRecord) -> Picture | None:
    """The good reference in the frame of a photograph; None if the pose of the part is not known.

    Args:
        reference: The reference photograph, (H, W, 3) uint8 RGB.
        record: The record of the photograph.
    """
    if not record.has_pose or not record.width or not record.height:
        return None
    scale = min(1.0, MAX_WIDTH / record.width)
    size = (max(1, round(scale * record.width)), max(1, round(scale * record.height)))
    # Pixel centres: pixel i of the reduced picture is at (i + 0.5) / scale - 0.5 of the photograph.
    enlarge = np.array([[1 / scale, 0, 0.5 / scale - 0.5], [0, 1 / scale, 0.5 / scale - 0.5], [0, 0, 1]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return _jpeg(np.asarray(cv2.warpPerspective(reference, record.homography @ enlarge, size, flags=flags), np.uint8))


def outlines_of_map(path: Path, level: float) -> list[list[tuple[float, float]]]:
    """The outlines of what is above a level on a stored anomaly map, as closed lines in pixels (x, y).

    Lines longer than a few thousand points are simplified further, so that a page can draw them.
    """
    import tifffile

    try:
        values = np.asarray(tifffile.imread(path), np.float32)
    except (OSError, ValueError, tifffile.TiffFileError):
        return []
    if values.ndim != 2:
        return []
    found, _ = cv2.findContours((values > level).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for tolerance in (_TOLERANCE, 4 * _TOLERANCE, 16 * _TOLERANCE):
        lines = [cv2.approxPolyDP(line, tolerance, True)[:, 0, :] for line in found]
        if sum(map(len, lines)) <= _MOST_POINTS:
            return [[(float(x) + 0.5, float(y) + 0.5) for x, y in line] for line in lines]
    return []


def _original(record: PhotographRecord) -> bytes | None:
    """The bytes of the photograph, if they are those that were validated."""
    try:
        data = read_image_bytes(Path(record.source))
    except InputError:
        return None
    return data if record.sha256 is not None and data_hash(data) == record.sha256 else None


def _jpeg(image: NDArray[np.uint8]) -> Picture:
    return Picture(encode_image(".jpg", image, quality=QUALITY))
