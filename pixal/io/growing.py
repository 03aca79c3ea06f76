"""A table of float32 rows in a file that grows, and that becomes an ``.npz`` without being copied."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixal.io import ownership
from pixal.io.arrays import create_member
from pixal.io.files import replace_synced, reporting_storage

# The file starts as an archive does: the header of its first member (with the sizes in a ZIP64 field), then an .npy
# header of fixed length, then the rows. ``finish`` fills in the headers and appends the rest of the archive.
_MEMBER = "data.npy"
_ZIP_HEADER = 30 + len(_MEMBER) + 20
_NPY_HEADER = 128
_FIRST_ROW = _ZIP_HEADER + _NPY_HEADER
_COPY_BYTES = 1 << 24


class GrowingRows:
    """Rows of float32 in a file. A process that is killed leaves all complete rows readable.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, row_length: int) -> None:
        """``row_length``: the number of values in a row."""
        self.path = path
        self._length = row_length
        self._bytes = 4 * row_length

    def __len__(self) -> int:
        """The number of complete rows; 0 if there is no file."""
        return max(self.path.stat().st_size - _FIRST_ROW, 0) // self._bytes if self.path.is_file() else 0

    def start(self, keep: int = 0) -> None:
        """Create the file, or remove all rows after the first ``keep`` and whatever follows them."""
        ownership.note(self.path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with reporting_storage(self.path), self.path.open("r+b" if self.path.is_file() else "wb") as file:
            file.truncate(_FIRST_ROW + keep * self._bytes)

    def append(self, row: NDArray[np.float32]) -> int:
        """Append a row (any shape with the right number of values); return its index."""
        with reporting_storage(self.path), self.path.open("r+b") as file:
            end = file.seek(0, 2)
            file.write(np.ascontiguousarray(row, np.float32).data)
        return (end - _FIRST_ROW) // self._bytes

    def read(self, index: int) -> NDArray[np.float32]:
        """Read a row, (row_length,)."""
        return np.fromfile(self.path, np.float32, self._length, offset=_FIRST_ROW + index * self._bytes)

    def finish(self, target: Path, others: Mapping[str, NDArray[Any]]) -> None:
        """Turn the file into the archive ``target``.

        Args:
            target: The ``.npz``; an existing file is replaced.
            others: The arrays that follow the rows, by name. The rows are the array "data", (N, row_length).
        """
        ownership.note(target)
        header = _npy_header(len(self), self._length)
        end = _FIRST_ROW + len(self) * self._bytes
        with reporting_storage(self.path), self.path.open("r+b") as file:
            file.truncate(end)
            file.seek(_FIRST_ROW)
            checksum = zlib.crc32(header)
            while block := file.read(_COPY_BYTES):
                checksum = zlib.crc32(block, checksum)
            member = zipfile.ZipInfo(_MEMBER, (1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o600 << 16  # as ``ZipFile.open`` sets it
            member.header_offset, member.CRC, member.file_size = 0, checksum, end - _ZIP_HEADER
            member.compress_size = member.file_size
            file.seek(0)
            file.write(member.FileHeader(zip64=True) + header)
            file.seek(end)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.filelist.append(member)
                archive.NameToInfo[_MEMBER] = member
                for name, array in others.items():
                    with create_member(archive, name) as stream:
                        npy_format.write_array(stream, array, allow_pickle=False)
        replace_synced(self.path, target)

    def reopen(self, archive: Path) -> bool:
        """Move an archive that ``finish`` wrote back, so that rows can be appended.

        Returns:
            False if the archive has another layout. It is not changed then.
        """
        with archive.open("rb") as file:
            start = file.read(_FIRST_ROW)
        rows = (len(start) == _FIRST_ROW) and _rows_in_header(start[_ZIP_HEADER:], self._length)
        if not rows or start[30 : 30 + len(_MEMBER)] != _MEMBER.encode():
            return False
        ownership.note(self.path)
        archive.replace(self.path)
        return True


def _npy_header(rows: int, length: int) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {length}), }}"
    size = _NPY_HEADER - 10
    return npy_format.magic(1, 0) + struct.pack("<H", size) + text.ljust(size - 1).encode() + b"\n"


def _rows_in_header(header: bytes, length: int) -> int:
    """The number of rows that an ``.npy`` header of the fixed length states; 0 for another header."""
    found = re.search(rb"'shape': \((\d+), (\d+)\)", header)
    if found is None or int(found[2]) != length or header != _npy_header(int(found[1]), length):
        return 0
    return int(found[1])
