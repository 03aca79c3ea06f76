"""Read, write and memory-map arrays in ``.npz`` files, without pickle."""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import reporting_storage, reserve, write_if_changed

# What the standard library and NumPy raise for a file that is damaged or not an archive.
ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,  # includes NotImplementedError: an unusual encryption or compression
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
)


# An archive unpacks to this many bytes at most, or to so many times its size. Photographs compress to more than a
# hundredth; a file that claims to hold more was made to fill the memory.
_ALWAYS_UNPACKED = 1 << 26
_LARGEST_RATIO = 100


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays to an uncompressed ``.npz`` atomically. The same arrays give the same bytes.

    A file that already holds these bytes is left alone.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with create_member(archive, name) as member:
                npy_format.write_array(member, np.asanyarray(array), allow_pickle=False)
    write_if_changed(path, buffer.getvalue())


def load_arrays(path: Path, leave_out: str | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz``, by name.

    Args:
        path: The archive.
        leave_out: The name of an array that is not read.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, is not an ``.npz``, needs pickle, or would unpack to far more than its size.
    """
    try:
        # Not np.load: it does not close a damaged file, and it accepts a single .npy.
        with _open_archive(path) as archive:
            names = [name for name in archive.namelist() if name != f"{leave_out}.npy"]
            return {name.removesuffix(".npy"): _read_member(archive, name) for name in names}
    except FileNotFoundError:
        raise
    except ARCHIVE_ERRORS as error:
        raise ValueError(f"not a complete .npz file: {error}") from error


def release_pages(data: NDArray[Any]) -> None:
    """Release the pages of a memory map from the memory of this process. The data does not change.

    An array that is not a memory map is left alone.
    """
    # A copy-on-write map ("c") would lose its changes. Windows has no such call; it reclaims pages by itself.
    if isinstance(data, np.memmap) and data.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapped: Any = data.base
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)


def create_map(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.float32]]:
    """Create an ``.npy`` file of float32 zeros, and map it to memory for writing.

    Raises:
        StorageError: The disk has no space for all of it.
    """
    try:
        with reporting_storage(path), path.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            npy_format.write_array_header_1_0(file, header)
            start = file.tell()
        reserve(path, start + 4 * int(np.prod(shape)))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return npy_format.open_memmap(path, "r+")


def create_member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """Open a new array ``name`` of an archive for writing. Its date is fixed: the same arrays give the same file."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)


def map_member(path: Path, member: str) -> NDArray[np.float32]:
    """Memory-map a float32 array of an archive. An array that cannot be mapped is read into memory.

    Args:
        path: The archive.
        member: File name of the array in the archive, for example ``data.npy``.

    Returns:
        A read-only memory map. A compressed, column-ordered, empty or non-float32 array: an array in memory.

    Raises:
        InputError: The archive is truncated, or has no such array.
        ValueError: See ``load_arrays``.
    """
    with _open_archive(path) as archive:
        if member not in archive.namelist():
            raise InputError(f"has no {member.removesuffix('.npy')}; it was not written by PIXAL")
        info = archive.getinfo(member)
        with archive.open(info) as stream:
            shape, fortran, dtype = _read_header(stream)
            header_size = stream.tell()
        if info.compress_type != zipfile.ZIP_STORED or fortran or dtype != np.float32:
            return np.asarray(_read_member(archive, member), np.float32)
    if not all(shape):
        return np.zeros(shape, np.float32)
    start = _data_offset(path, info) + header_size
    if path.stat().st_size < start + int(np.prod(shape)) * 4:
        raise InputError("is truncated")
    return np.memmap(path, np.float32, "r", start, shape)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Position of a member's data in an archive, in bytes: after the local header (ZIP specification, 4.3.7)."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)  # of the member's name and of the extra field, which follow the 30 bytes of the header
    return info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive for reading. Raise ValueError if its directory says that it unpacks to far more than its size."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(info.file_size for info in archive.infolist())
        if unpacked > max(_ALWAYS_UNPACKED, _LARGEST_RATIO * path.stat().st_size):
            raise ValueError(f"its headers declare {unpacked / 1e6:.0f} MB, more than such a file can contain")
        yield archive


def _read_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an ``.npy``: shape, whether columns come first, and type of the values."""
    version = npy_format.read_magic(member)
    read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, fortran, dtype


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array. Memory is taken only if its header and the directory of the archive agree on its size."""
    with archive.open(name) as member:
        shape, _, dtype = _read_header(member)
        needed, declared = member.tell() + math.prod(shape) * dtype.itemsize, archive.getinfo(name).file_size
        if needed != declared and not dtype.hasobject:
            raise ValueError(f"{name} has {declared} bytes, but its header says {needed}")
    with archive.open(name) as member:
        return np.asarray(npy_format.read_array(member, allow_pickle=False))
