"""Read, write and hash files. Files are written atomically: a reader sees the old or the new content, never a part."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO

from pixal.errors import InputError, StorageError
from pixal.io import ownership

_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})
_NOT_PERMITTED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_BINARY, _NO_WAITING = getattr(os, "O_BINARY", 0), getattr(os, "O_NONBLOCK", 0)
_LONGEST_ENDING = 40  # characters of a file's name that its temporary file keeps; a name has at most 255 bytes


def read_bytes(path: Path, *, max_bytes: int | None = None) -> bytes:
    """Read the bytes of a file.

    Args:
        path: The file.
        max_bytes: The most bytes that it may have; None: no limit.

    Raises:
        InputError: It cannot be read, is not a regular file (a named pipe would have no end), is too large, or changed
            while it was read.
    """
    try:
        with open_regular(path) as file:
            before = os.fstat(file.fileno())
            size = before.st_size
            if max_bytes is not None and size > max_bytes:
                raise InputError(
                    f"is too large: the file has {size / 1e6:.0f} MB, the limit is {max_bytes / 1e6:.0f} MB"
                )
            data = file.read(size + 1)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error
    if len(data) != size or after.st_mtime_ns != before.st_mtime_ns:  # then the bytes may be of two files
        raise InputError("changed while it was read; run the same command again")
    return data


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raise ``InputError`` where it cannot be opened, or is not a regular file.

    Nothing else is opened: a named pipe would wait for ever, and some devices act when they are opened.
    """
    try:
        is_regular = stat.S_ISREG(path.stat().st_mode)
        # Without waiting, also if the file was replaced by a pipe since.
        descriptor = os.open(path, os.O_RDONLY | _BINARY | _NO_WAITING) if is_regular else -1
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not is_regular:
        raise InputError("cannot be read: it is not a regular file")
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise InputError("cannot be read: it is not a regular file")
    return file


def storage_error(error: OSError, path: Path | None = None) -> StorageError | None:
    """The error to report where a file cannot be written; None if ``error`` has another cause.

    Args:
        error: The system's error. HDF5 tells the number in its message only.
        path: The file. Default: the one that ``error`` names.
    """
    in_text = re.search(r"errno = (\d+)", str(error))
    number = error.errno or (int(in_text[1]) if in_text else 0)
    name = error.filename if path is None else path
    where = "a file" if name is None else os.fsencode(name).decode(errors="backslashreplace")
    if number in _FULL:
        return StorageError(
            f"{where} cannot be written: {os.strerror(number)}; free some space there, or name another folder in "
            "paths.yaml, and run the same command again"
        )
    if number in _NOT_PERMITTED:
        what = "cannot be used" if path is None else "cannot be written"  # without a path, it may have been read
        return StorageError(
            f"{where} {what}: {os.strerror(number)}; change its permissions, or name another folder in paths.yaml"
        )
    if number == errno.ENAMETOOLONG:
        return StorageError(f"{where} cannot be written: {os.strerror(number)}; use shorter names of files and folders")
    return None


@contextmanager
def reporting_storage(path: Path) -> Iterator[None]:
    """Turn the system's error of writing ``path`` into a ``StorageError`` that says what to do."""
    try:
        yield
    except OSError as error:
        named = None if error.filename is None else Path(os.fsdecode(error.filename))
        if error.errno in _NOT_PERMITTED and named and named.parent != path.parent and named not in path.parents:
            raise  # about another file, for example one that the block reads
        if (storage := storage_error(error, path)) is None:
            raise
        raise storage from error


def require_writable(*folders: Path) -> None:
    """Raise ``StorageError`` if files cannot be written into one of these folders. One that does not exist is fine.

    A check before work starts, so that nothing of an earlier run is removed for one that cannot be completed.
    """
    for folder in folders:
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            code = errno.EROFS if _is_read_only(folder) else errno.EACCES
            if (storage := storage_error(OSError(code, os.strerror(code)), folder)) is not None:
                raise storage


def _is_read_only(folder: Path) -> bool:
    """Whether the disk of a folder is read-only; False where the system cannot tell."""
    return hasattr(os, "statvfs") and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def reserve(path: Path, size: int) -> None:
    """Make a file ``size`` bytes long, with all its blocks on the disk.

    A file that is mapped to memory needs this: writing to a page without a block on a full disk ends the process with
    SIGBUS, without an exception.

    Raises:
        StorageError: There is not enough space.
    """
    with reporting_storage(path), path.open("r+b") as file:
        reserve_file(file, size)


def reserve_file(file: IO[bytes], size: int) -> None:
    """Like ``reserve``, for an open file. Raise ``OSError`` where there is not enough space."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):  # the file system cannot do it
                raise
    written = file.seek(0, os.SEEK_END)
    while written < size:
        written += file.write(bytes(min(size - written, 1 << 20)))
    file.flush()


FileStat = tuple[int, int, int]
"""A file's size in bytes, and the times of its last modification and of its last change in nanoseconds.

A program can set the first time, for example when it copies a file. The second one is set by the system; it is the time
of creation on Windows.
"""


def file_stat(path: Path) -> FileStat:
    """The properties of a file that change when it is written.

    Raises:
        InputError: If the file does not exist or cannot be read.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def write_bytes(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Write a file atomically. ``sync``: see ``atomic_write``."""
    with atomic_write(path, sync=sync) as temporary:
        temporary.write_bytes(data)


def write_if_changed(path: Path, data: bytes) -> None:
    """Write a file atomically. A file that already holds these bytes is left alone, with its modification time."""
    if not (path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data):
        write_bytes(path, data)


@contextmanager
def atomic_write(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Replace ``path`` by a temporary file when the block ends without an error; otherwise remove the temporary file.

    Args:
        path: The file to write.
        sync: Whether the file is on the disk when the block has ended, also after a power cut.

    Yields:
        The path of the temporary file, for the block to write.

    Raises:
        InputError: The file is in an output folder of PIXAL, and PIXAL did not write it.
        StorageError: The disk is full, or writing is not permitted.
    """
    # The name ends like that of the target, because libraries choose the format by the extension.
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name[-_LONGEST_ENDING:]}")
    with reporting_storage(path):
        try:
            ownership.note(path, sync=sync)
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if sync:
                replace_synced(temporary, path)
            else:
                temporary.replace(path)
        finally:
            with suppress(OSError):  # the error above is the one to report
                temporary.unlink(missing_ok=True)


def replace_synced(source: Path, target: Path) -> None:
    """Rename a file. A power cut leaves the old or the new content under the name ``target``, and no empty file."""
    with source.open("r+b") as file:
        os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do it."""
    with suppress(OSError):  # Windows and some network drives cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class AppendedFile:
    """A file that grows by whole pieces of data, for example a journal.

    Without a buffer: where the disk is full, ``write`` says so, and not ``close``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reporting_storage(path):
            self._file = path.open("ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append ``data``. Raise ``StorageError`` where it cannot be written."""
        with reporting_storage(self._path):
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]

    def close(self) -> None:
        """Wait until all data are on the disk, and close the file."""
        with suppress(OSError):  # a pipe or a device has no content to keep
            os.fsync(self._file.fileno())
        self._file.close()


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


def has_hash(path: Path, sha256: str | None) -> bool:
    """Whether a file exists and has this SHA-256."""
    try:
        return file_hash(path) == sha256
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False
