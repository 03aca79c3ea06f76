"""Read, write and memory-map arrays in ``.npz`` files, without pickle."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
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


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an ``.npz``, by name.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, is not an ``.npz``, or needs pickle.
    """
    try:
        # Not np.load: it does not close a damaged file, and it accepts a single .npy.
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _read_member(archive, name) for name in archive.namelist()}
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
        InputError: The archive is truncated.
    """
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        with archive.open(info) as stream:
            version = npy_format.read_magic(stream)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
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


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        return np.asarray(npy_format.read_array(member, allow_pickle=False))
