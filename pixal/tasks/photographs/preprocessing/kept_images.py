"""Aligned photographs in memory, so that the next step of the same command need not read and decode them again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import FileStat, file_stat
from pixal.tasks.photographs.geometry import Box

_MAX_BYTES = 256_000_000  # about 100 photographs of 1920x1080 pixels


@dataclass(frozen=True)
class _Kept:
    """A photograph: the ``file_stat`` and the hash of its file, its pixels in a box, and its packed mask."""

    stat: FileStat
    sha256: str
    box: Box
    pixels: NDArray[Any]
    packed_mask: NDArray[np.uint8]
    shape: tuple[int, int]


class KeptImages:
    """Keeps aligned photographs until a limit is reached; the others are read from their files."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        """``max_bytes``: of all photographs that are kept."""
        self._free, self._lock = max_bytes, Lock()
        self._kept: dict[Path, _Kept] = {}

    def keep(self, path: Path, sha256: str, image: NDArray[Any], mask: NDArray[np.bool_], box: Box) -> None:
        """Keep a photograph that was written to a file, if there is room.

        Args:
            path: The file.
            sha256: The SHA-256 of its bytes.
            image: The photograph, (H, W, 3), 8- or 16-bit.
            mask: Its foreground mask, (H, W).
            box: The pixels that are kept.
        """
        size = box.width * box.height * 3 * image.itemsize + mask.size // 8
        with self._lock:
            if size > self._free:
                return
            self._free -= size
        shape = (mask.shape[0], mask.shape[1])
        kept = _Kept(file_stat(path), sha256, box, image[box.window].copy(), np.packbits(mask), shape)
        with self._lock:
            self._kept[path] = kept

    def sha256(self, path: Path) -> str | None:
        """The SHA-256 of a file; None if the photograph is not kept, or the file has changed since."""
        kept = self._unchanged(path)
        return None if kept is None else kept.sha256

    def take(self, path: Path, box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]] | None:
        """Return a photograph and its mask, and keep it no longer.

        Args:
            path: Its file.
            box: The pixels that are needed.

        Returns:
            The photograph (H, W, 3), which is 0 outside what was kept, and its mask (H, W). None if not all of ``box``
            is kept, or the file has changed since.
        """
        kept = self._unchanged(path)
        if kept is None or kept.box.joined(box) != kept.box:
            return None
        with self._lock:
            if self._kept.pop(path, None) is not None:
                self._free += kept.pixels.nbytes + kept.packed_mask.nbytes
        image = np.zeros((*kept.shape, 3), kept.pixels.dtype)
        image[kept.box.window] = kept.pixels
        count = kept.shape[0] * kept.shape[1]
        return image, np.unpackbits(kept.packed_mask, count=count).reshape(kept.shape).astype(bool)

    def _unchanged(self, path: Path) -> _Kept | None:
        kept = self._kept.get(path)
        with suppress(InputError):
            if kept is not None and file_stat(path) == kept.stat:
                return kept
        return None
