"""Read, write and hash files. Files are written atomically: a reader sees the old or the new content, never a part."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixal.errors import InputError


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file. Raise ``InputError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error


def file_stat(path: Path) -> tuple[int, int]:
    """A file's size in bytes and modification time in nanoseconds; they change when the file is written.

    Raises:
        InputError: If the file does not exist or cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file atomically. A file that already holds these bytes is left alone, with its modification time."""
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        write_bytes(path, data)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Replace ``path`` by a temporary file when the block ends without an error; otherwise remove the temporary file.

    Yields:
        The path of the temporary file, for the block to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name ends like that of the target, because libraries choose the format by the extension.
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def data_hash(data: bytes) -> str:
    """SHA-256 of bytes, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()
