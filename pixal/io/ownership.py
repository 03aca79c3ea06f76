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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pixal.errors import InputError
from pixal.io.json_text import parse_json

MANIFEST = ".pixal-files.log"
"""Name of the manifest in a claimed folder."""

_HEADER = "pixal files 1 "
_TEMPORARY = re.compile(r"(?:original_)?\.[0-9a-f]{12}\.(.+)")  # of ``atomic_write``, left behind when it is killed
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


def remove_tree(folder: Path) -> None:
    """Remove the files below ``folder`` that PIXAL wrote, and the folders that are then empty, ``folder`` too."""
    for path in list(_files_below(folder)):
        if path.name != MANIFEST:
            remove(path)
    _remove_empty_folders(folder)


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
        if self._path.stat().st_size > self._stat[1]:  # after a line that was cut off
            data = b"\n" + data
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        try:
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
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
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


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            yield Path(parent, name)


def _remove_empty_folders(folder: Path) -> None:
    for parent, _, _ in os.walk(folder, topdown=False):
        if os.listdir(parent) == [MANIFEST]:  # noqa: PTH208
            (Path(parent) / MANIFEST).unlink()
        if not os.listdir(parent):  # noqa: PTH208
            Path(parent).rmdir()
