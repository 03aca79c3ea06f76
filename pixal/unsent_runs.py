"""Keep tracked runs that could not be written to MLflow, to offer them again at a later run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import write_bytes
from pixal.io.locking import LOCK_FILE, lock_folder

_log = logging.getLogger(__name__)

FOLDER = "mlflow_unsent"
_MAX_BYTES = 64 << 20


class UnsentFile(BaseModel):
    """A file of a run, and how it was when the run ended: later runs may have replaced it.

    Attributes:
        path: The absolute path.
        folder: The artifact folder that it goes into.
        size: In bytes.
        modified: The time of the last change, in nanoseconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    def can_be_sent(self) -> bool:
        """Whether the file is still the one of the run, and PIXAL wrote it: anyone may have written the list of files.

        Links are followed first, so that a link in an output folder names no other file.
        """
        return UnsentFile.of(self.path, self.folder) == self and ownership.owns(self.path.resolve())


class UnsentRun(BaseModel):
    """A run that has ended, as ``mlflow_unsent/ID.json`` holds it; see ``Tracker``.

    Attributes:
        store: Which store it was meant for; see ``store_key``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    store: str
    experiment: str
    name: str
    command: str
    start_time: int
    end_time: int
    status: str
    metrics: tuple[tuple[str, float, int], ...]
    params: dict[str, str]
    tags: dict[str, str] = {}
    artifacts: tuple[UnsentFile, ...]
    datasets: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = ()


def store_key(uri: str | None) -> str:
    """Name a store without its address, which may hold a password.

    Args:
        uri: The address; None for the store in the working directory.
    """
    return "local" if uri is None else hashlib.sha256(uri.encode()).hexdigest()[:16]


def keep(run: UnsentRun) -> Path:
    """Write a run to the working directory; return the file."""
    path = Path(FOLDER) / f"{run.id}.json"
    write_bytes(path, json.dumps(run.model_dump(mode="json"), indent=1).encode())
    return path


def kept_runs(store: str) -> Iterator[tuple[Path, UnsentRun]]:
    """Yield the files and runs in the working directory that were meant for a store, the oldest first."""
    runs = []
    for path in Path(FOLDER).glob("*.json"):
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"larger than {_MAX_BYTES >> 20} MB")
            run = UnsentRun.model_validate_json(path.read_bytes())
        except (OSError, ValueError, ValidationError) as error:
            _log.warning("%s is not a run that PIXAL kept: %s", path, str(error).splitlines()[0])
            continue
        if run.store == store and path.stem == run.id:
            runs.append((path, run))
    yield from sorted(runs, key=lambda item: item[1].start_time)


@contextmanager
def sending(*, wait: float = 0) -> Iterator[None]:
    """Send runs in the block, which no other process does at the same time.

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
    _remove_if_empty(folder)


def is_sending() -> bool:
    """Whether another process is sending runs."""
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


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # another process has removed it, or writes into it
        folder.rmdir()
