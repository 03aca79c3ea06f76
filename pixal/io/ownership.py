"""Which files PIXAL wrote, so that it removes and replaces no others.

An output folder is claimed before anything is written into it: it gets a manifest, a file with one line per file that
PIXAL wrote below it. A line is appended before the file is written, so a run that is killed leaves no file that its
successor does not know. Worker processes append to the same manifest.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import uuid
from collections.abc import Collection, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pixal.errors import InputError
from pixal.io.json_text import parse_json

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MANIFEST = ".pixal-files.log"
"""Name of the manifest in a claimed folder."""

_HEADER = "pixal files 1 "
_TEMPORARY = re.compile(r"(?:original_)?\.[0-9a-f]{12}\.(.+)")  # of ``atomic_write``, left behind when it is killed
_UNFINISHED_MANIFEST = re.compile(rf"\.[0-9a-f]{{12}}{re.escape(MANIFEST)}")
_COMPACT_FROM = 1000  # lines that say nothing any more


def claim(folder: Path, *, adopted: Iterable[Path] = ()) -> None:
    """Create ``folder`` and its manifest, if it has none.

    Args:
        folder: The folder.
        adopted: Files below it that an earlier version of PIXAL, without manifests, wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if not path.is_file():
        _write_new(path, [_relative(file, folder) for file in adopted])
        return
    with _lock:
        manifest = _Manifest.open(_absolute(folder))
        if manifest is not None and manifest.lines > 2 * len(manifest.names) + _COMPACT_FROM:
            _write_new(path, sorted(manifest.names))


def is_claimed(folder: Path) -> bool:
    """Whether the folder has a manifest."""
    return (folder / MANIFEST).is_file()


def note(path: Path, *, sync: bool = False) -> None:
    """Note that PIXAL is about to write a file. Outside claimed folders this process alone remembers it.

    Args:
        path: The file.
        sync: Whether the note is on the disk when the function returns, for a file that will be.

    Raises:
        InputError: There is such a file, and PIXAL did not write it.
    """
    path = _without_temporary_name(_absolute(path))
    with _lock:
        manifests = _manifests_of(path)
        if path in _written_here or any(manifest.has(path) for manifest in manifests):
            return
        if not manifests:
            if not os.path.lexists(path):
                _written_here.add(path)
            return
        _refuse_existing(path)
        manifests[0].append("+", path, sync=sync)


def owns(path: Path) -> bool:
    """Whether PIXAL wrote a file: this process, or, in claimed folders, any."""
    path = _absolute(path)
    with _lock:
        return path in _written_here or any(manifest.has(path) for manifest in _manifests_of(path))


def refuse_strangers(paths: Iterable[Path]) -> None:
    """Raise ``InputError`` if one of these files exists, and PIXAL did not write it."""
    for path in paths:
        if os.path.lexists(path) and not owns(path):
            _refuse_existing(path)


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise ``InputError`` if one of these files exists."""
    for path in paths:
        _refuse_existing(path)


def remove(path: Path) -> None:
    """Remove a file that PIXAL wrote. Other files stay, and a file that does not exist is no error."""
    if not owns(path):
        return
    path.unlink(missing_ok=True)
    path = _absolute(path)
    with _lock:
        _written_here.discard(path)
        for manifest in _manifests_of(path):
            if not _is_temporary(path) and manifest.has(path):
                manifest.append("-", path)


def remove_tree(folder: Path, *, keep: Container[Path] = ()) -> None:
    """Remove the files below ``folder`` that PIXAL wrote, and the folders that are then empty, ``folder`` too.

    Args:
        folder: The folder.
        keep: Files that stay, and folders below which all stays.
    """
    for path in list(_files_below(folder, keep)):
        if path.name != MANIFEST:
            remove(path)
    _remove_empty_folders(folder, keep)


def remove_if_empty(folder: Path) -> bool:
    """Remove a folder if it holds nothing, or only a manifest. Return whether it does not exist any more."""
    if folder.is_symlink() or not folder.is_dir():
        return not os.path.lexists(folder)
    if os.listdir(folder) == [MANIFEST]:  # noqa: PTH208
        (folder / MANIFEST).unlink()
    if os.listdir(folder):  # noqa: PTH208
        return False
    folder.rmdir()
    return True


def files_of(folder: Path) -> list[Path]:
    """The files that PIXAL wrote in a claimed folder, without those in claimed folders below it.

    Temporary files that a killed run left there are removed.
    """
    files = []
    for parent, names, file_names in os.walk(folder):
        names[:] = sorted(name for name in names if not is_claimed(Path(parent, name)))
        for path in (Path(parent, name) for name in sorted(file_names)):
            if path.name == MANIFEST or not owns(path):
                continue
            if _is_temporary(path):
                remove(path)
            else:
                files.append(path)
    return files


def disown(folder: Path, names: Collection[str]) -> None:
    """Note that files are not in a claimed folder any more. A manifest without files stays.

    Args:
        folder: The folder.
        names: The paths of the files below it.
    """
    with _lock:
        manifest = _Manifest.open(_absolute(folder))
        if manifest is not None and manifest.names.intersection(names):
            _write_new(folder / MANIFEST, sorted(manifest.names.difference(names)))


def adopt(folder: Path, names: Collection[str]) -> None:
    """Claim a folder, and note that PIXAL wrote files in it.

    Args:
        folder: The folder.
        names: The paths of the files below it.
    """
    claim(folder)
    with _lock:
        manifest = _Manifest.open(_absolute(folder))
        if manifest is not None and not manifest.names.issuperset(names):
            _write_new(folder / MANIFEST, sorted(manifest.names.union(names)))


def remove_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed runs of PIXAL left below ``folder``.

    Claimed folders inside it are left out: another run may be writing there.
    """
    for parent, names, files in os.walk(folder):
        names[:] = [name for name in names if not is_claimed(Path(parent, name))]
        for name in files:
            path = Path(parent, name)
            if _UNFINISHED_MANIFEST.fullmatch(name) or (_is_temporary(path) and owns(path)):
                path.unlink(missing_ok=True)


@dataclass
class _Manifest:
    """The manifest of a claimed folder, as far as it was read."""

    folder: Path
    names: set[str] = field(default_factory=set)
    lines: int = 0
    _header: bytes = b""
    _stat: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def open(cls, folder: Path) -> _Manifest | None:
        """The manifest of a folder, with what other processes added; None if the folder has none."""
        manifest = _manifests.get(folder) or _manifests.setdefault(folder, cls(folder))
        return manifest if manifest.update() else None

    @property
    def _path(self) -> Path:
        return self.folder / MANIFEST

    def has(self, path: Path) -> bool:
        name = _relative(path, self.folder)
        if name in self.names:
            return True
        match = _TEMPORARY.fullmatch(path.name)
        start = name.removesuffix(path.name)
        return match is not None and any(
            known.startswith(start) and known.endswith(match[1]) and "/" not in known.removeprefix(start)
            for known in self.names
        )

    def append(self, sign: str, path: Path, *, sync: bool = False) -> None:
        data = f"{sign}{json.dumps(_relative(path, self.folder))}\n".encode()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        try:
            if fcntl is not None:  # two machines do not append to a file on a network drive at once by themselves
                with suppress(OSError):  # a drive without locks
                    fcntl.lockf(descriptor, fcntl.LOCK_EX)  # until it is closed
            if os.fstat(descriptor).st_size > self._stat[1]:  # after a line that was cut off
                data = b"\n" + data
            # In one call, so that lines of several processes do not mix.
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.update()

    def update(self) -> bool:
        """Read what was added since the last time; False if there is no manifest."""
        try:
            stat = self._path.stat()
        except OSError:
            return False
        if (stat.st_ino, stat.st_size, stat.st_mtime_ns) == self._stat:
            return True
        with self._path.open("rb") as file:
            header = file.readline()
            is_same = header == self._header and stat.st_ino == self._stat[0] and stat.st_size >= self._stat[1]
            if is_same:
                file.seek(self._stat[1])
            else:
                self.names, self.lines, self._header = set(), 0, header
            data = file.read()
            end = file.tell()
        if data and not data.endswith(b"\n"):  # a line that was cut off by a full disk, or is being written
            complete = data.rfind(b"\n") + 1
            end -= len(data) - complete
            data = data[:complete]
        for line in data.splitlines():
            self._read(line)
        self._stat = (stat.st_ino, end, stat.st_mtime_ns)
        return True

    def _read(self, line: bytes) -> None:
        self.lines += 1
        try:
            name = str(parse_json(line[1:]))
        except ValueError:  # damaged: the file counts as that of somebody else
            return
        if line.startswith(b"+"):
            self.names.add(name)
        else:
            self.names.discard(name)


_manifests: dict[Path, _Manifest] = {}
_written_here: set[Path] = set()  # by this process, in folders that are not claimed
_lock = threading.RLock()


def _new_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)  # a lock that another thread held would never be released


def _manifests_of(path: Path) -> list[_Manifest]:
    """The manifests of the claimed folders that hold ``path``, the innermost first."""
    claimed = [folder for folder in path.parents if (folder / MANIFEST).is_file()]
    return [manifest for folder in claimed if (manifest := _Manifest.open(folder)) is not None]


def _write_new(path: Path, names: Iterable[str]) -> None:
    lines = [f"{_HEADER}{uuid.uuid4().hex}", *(f"+{json.dumps(name)}" for name in names)]
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{MANIFEST}")
    try:
        with temporary.open("w", encoding="ascii", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())  # without its names, all files would be those of somebody else
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(
            f"{path} was not written by PIXAL and would be overwritten; move it away, or choose another output folder"
        )


def _absolute(path: Path) -> Path:
    if path.is_absolute() and ".." not in path.parts:
        return path
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps "..", Path.resolve follows links


def _relative(path: Path, folder: Path) -> str:
    folder_name = str(_absolute(folder)).rstrip(os.sep)
    return str(_absolute(path))[len(folder_name) + 1 :].replace(os.sep, "/")


def _is_temporary(path: Path) -> bool:
    return _TEMPORARY.fullmatch(path.name) is not None


def _without_temporary_name(path: Path) -> Path:
    """The file that a temporary file of ``atomic_write`` was to become; any other path unchanged."""
    match = _TEMPORARY.fullmatch(path.name)
    return path if match is None else path.with_name(match[1])


def _files_below(folder: Path, keep: Container[Path]) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in keep]
        yield from (path for path in (Path(parent, name) for name in sorted(names)) if path not in keep)


def _remove_empty_folders(folder: Path, keep: Container[Path]) -> None:
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():  # noqa: PTH208
        path = folder / name
        if path.is_dir() and path not in keep and not path.is_symlink():
            _remove_empty_folders(path, keep)
    remove_if_empty(folder)
