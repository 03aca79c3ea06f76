"""Runs on their way to MLflow: each is a file in the working directory, until another process has sent it.

A run is a file with one line of JSON per thing that it logs, in their order. It can be sent while it grows. A run that
cannot be sent stays, and is offered again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.locking import LOCK_FILE, lock_folder
from pixal.tracking.run import Status, TrackedDataset, TrackedModel

_log = logging.getLogger(__name__)

FOLDER = "mlflow_unsent"
PATTERN = "*.jsonl"
_MAX_BYTES = 64 << 20
_STARTING = 60.0  # seconds that a sender may need until it holds its lock
_LONGEST = 86_400.0  # seconds without a new line after which a run that nobody follows has been cut off


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunStart(_Model):
    """The start of a run; see ``TrackedRun``.

    Attributes:
        store: Which store it is meant for; see ``store_key``.
        session: The process that follows the run while it grows. It holds a lock, as does the process that writes the
            run; see ``following``.
        register: Whether its model is registered.
    """

    id: str
    store: str
    session: str
    experiment: str
    name: str
    command: str
    start_time: int
    register_model: bool


class RunEnd(_Model):
    """The end of a run; see ``TrackedRun``."""

    status: Status
    time: int
    name: str


class UnsentFile(_Model):
    """A file of a run, and how it was when it was logged: later runs may have replaced it.

    Attributes:
        path: The absolute path.
        folder: The artifact folder that it goes into.
        size: In bytes.
        modified: The time of the last change, in nanoseconds since 1970.
    """

    path: Path
    folder: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path, folder: str) -> UnsentFile | None:
        """Describe a file; None if it does not exist."""
        if not path.is_file():
            return None
        stat = path.stat()
        return cls(path=path.absolute(), folder=folder, size=stat.st_size, modified=stat.st_mtime_ns)

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is still the one of the run."""
        return UnsentFile.of(self.path, self.folder) == self

    @property
    def is_of_pixal(self) -> bool:
        """Whether PIXAL wrote the file: anyone may have written the list of files of a run that was kept.

        Links are followed first, so that a link in an output folder names no other file.
        """
        return ownership.owns(self.path.resolve())


class Entry(_Model):
    """A line of the file of a run. One of the attributes is set."""

    start: RunStart | None = None
    metrics: tuple[tuple[str, float, int, int], ...] = ()
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    dataset: TrackedDataset | None = None
    file: UnsentFile | None = None
    model: TrackedModel | None = None
    end: RunEnd | None = None


class RunFile:
    """The file of a run, while it is written."""

    def __init__(self, start: RunStart) -> None:
        """Create the file. Only this user can read and write it: its sender trusts what it says."""
        self.path = Path(FOLDER).absolute() / f"{start.id}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        try:
            self.path.parent.mkdir(exist_ok=True)
            self._file = os.open(self.path, flags, 0o600)
        except FileNotFoundError:  # a sender has just removed the empty folder
            self.path.parent.mkdir(exist_ok=True)
            self._file = os.open(self.path, flags, 0o600)
        self.add(start=start.model_dump())

    def add(self, **values: Any) -> None:
        """Append a line. Nothing waits for the disk.

        Raises:
            OSError: The disk is full, for example.
        """
        data = memoryview(json.dumps(values, default=str).encode() + b"\n")
        while data:
            data = data[os.write(self._file, data) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def discard(self) -> None:
        """Close and remove the file."""
        self.close()
        discard(self.path)


class GrowingRun:
    """The file of a run, while it is read.

    Attributes:
        path: The file.
        start: How the run begins.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            ValueError: It is not the file of a run.
            OSError: It cannot be read.
        """
        self.path, self._offset = path, 0
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 20} MB")
        self._first = self.read()
        if not self._first or self._first[0].start is None or path.stem != self._first[0].start.id:
            raise ValueError("its first line does not start a run")
        self.start: RunStart = self._first[0].start

    def read(self) -> list[Entry]:
        """The lines since the last call.

        Raises:
            ValueError: A line is not one of a run.
        """
        first, self._first = getattr(self, "_first", []), []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [*first, *(Entry.model_validate_json(line) for line in whole.splitlines())]


def kept_runs(store: str) -> Iterator[tuple[Path, RunStart, list[Entry]]]:
    """Yield the runs in the working directory that were meant for a store and that nobody follows, the oldest first."""
    runs = []
    for path in Path(FOLDER).glob(PATTERN):
        try:
            run = GrowingRun(path)
            entries = run.read()
        except FileNotFoundError:  # another process has sent it
            continue
        except (OSError, ValueError, ValidationError) as error:
            _log.warning("%s is not a run that can be sent: %s", path, str(error).splitlines()[0])
            continue
        if run.start.store != store or _is_followed(run, has_ended=entries[-1].end is not None):
            continue
        if entries[-1].end is None:  # the machine was switched off, for example
            modified = int(path.stat().st_mtime * 1000)
            entries.append(Entry(end=RunEnd(status="KILLED", time=modified, name=run.start.name)))
        runs.append((path, run.start, entries))
    yield from sorted(runs, key=lambda item: item[1].start_time)


@contextmanager
def following(name: str) -> Iterator[None]:
    """Hold a lock that shows other senders that a run, or all runs of a session, are being written or sent.

    Args:
        name: The id of the run, or the session.
    """
    lock = FileLock(_lock_file(name), timeout=1)
    Path(FOLDER).mkdir(exist_ok=True)
    with suppress(OSError, NotImplementedError, Timeout):  # network drives without locks
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            _lock_file(name).unlink()
        lock.release()
        _remove_if_empty(Path(FOLDER))


@contextmanager
def sending(*, wait: float = 0) -> Iterator[None]:
    """Send kept runs in the block, which no other process does at the same time.

    Args:
        wait: How many seconds to wait for another process.

    Raises:
        InputError: Another process is sending them.
    """
    folder = Path(FOLDER)
    if not folder.is_dir():
        yield
        return
    with lock_folder(folder, wait=wait):
        yield
        for path in folder.glob("*.lock"):
            if path.name != LOCK_FILE:
                _is_locked(path, otherwise=True)  # removes those of processes that were killed
    _remove_if_empty(folder)


def is_sending() -> bool:
    """Whether another process is sending kept runs."""
    if not (Path(FOLDER) / LOCK_FILE).exists():
        return False
    try:
        with sending():
            return False
    except InputError:
        return True


def discard(path: Path) -> None:
    """Remove a run that was sent, and the folder when it is empty."""
    path.unlink(missing_ok=True)
    _remove_if_empty(path.parent)


def _is_followed(run: GrowingRun, *, has_ended: bool) -> bool:
    """Whether another process writes the run, or sends it."""
    age = time.time() - run.path.stat().st_mtime
    if not has_ended and age < _STARTING:
        return True
    otherwise = not has_ended and age < _LONGEST
    return any(_is_locked(_lock_file(name), otherwise=otherwise) for name in (run.start.session, run.start.id))


def _is_locked(path: Path, *, otherwise: bool) -> bool:
    """Whether another process holds the lock; ``otherwise`` where there are no locks. A lock of nobody is removed."""
    if not path.exists():
        return False
    try:
        with FileLock(path, timeout=0):
            path.unlink(missing_ok=True)
            return False
    except Timeout:
        return True
    except (OSError, NotImplementedError):  # network drives
        return otherwise


def _lock_file(name: str) -> Path:
    return Path(FOLDER) / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # another process has removed it, or writes into it
        folder.rmdir()
