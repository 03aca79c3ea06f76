"""Arrays in ``.npz`` files, without pickle; large ones are memory-mapped."""

from __future__ import annotations

import io
import mmap
import os
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import write_if_changed

# What the standard library and NumPy raise on archives and arrays that are damaged, or of another kind.
ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,  # with NotImplementedError: an encryption or compression that nobody used
    LookupError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
)


def save_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays to an uncompressed ``.npz`` atomically, where it changes; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with create_member(archive, name) as member:
                npy_format.write_array(member, np.asanyarray(array), allow_pickle=False)
    write_if_changed(path, buffer.getvalue())


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` (no pickle).

    Raises FileNotFoundError where there is none, ValueError where it is damaged in whatever way.
    """
    try:
        # Not np.load, which leaves a damaged file open, and takes a plain .npy as well.
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _read_member(archive, name) for name in archive.namelist()}
    except FileNotFoundError:
        raise
    except ARCHIVE_ERRORS as error:
        raise ValueError(f"no whole .npz file: {error}") from error


def release_pages(data: NDArray[Any]) -> None:
    """End the count of a memory map's pages, read or written, as this process's memory; the data stay as they are."""
    # A copy-on-write map ("c") would lose its changes. Windows, which lacks the call, takes pages back by itself.
    if isinstance(data, np.memmap) and data.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapped: Any = data.base
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(name) as member:
        return np.asarray(npy_format.read_array(member, allow_pickle=False))


def create_member(archive: zipfile.ZipFile, name: str) -> Any:
    """Open a member of an archive for writing, with a fixed date: the same arrays give the same file."""
    return archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)


def map_member(path: Path, member: str) -> NDArray[np.float32]:
    """Memory-map an array inside an uncompressed archive; read it where it is compressed."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(member)
        with archive.open(info) as stream:
            version = npy_format.read_magic(stream)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            offset = stream.tell()
        if info.compress_type != zipfile.ZIP_STORED or fortran or dtype != np.float32:
            with np.load(path, allow_pickle=False) as file:
                return np.asarray(file["data"], np.float32)
    if not all(shape):
        return np.zeros(shape, np.float32)
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
        start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        if os.fstat(file.fileno()).st_size < start + offset + int(np.prod(shape)) * 4:
            raise InputError("is truncated")
    return np.memmap(path, np.float32, "r", start + offset, shape)
