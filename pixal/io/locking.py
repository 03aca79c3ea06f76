"""Lock an output folder, because two runs that write the same tables would overwrite each other's results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pixal.errors import InputError, PixalError

_log = logging.getLogger(__name__)

LOCK_FILE = ".pixal.lock"
"""Name of the lock file. It is empty, and is removed when the lock is released."""


@contextmanager
def lock_folder(folder: Path, *, wait: float = 0) -> Iterator[None]:
    """Lock ``folder`` for writing while the block runs. Create the folder if it does not exist.

    The system releases the lock when the process ends, even after a crash, so a file that a killed process left
    behind does not lock the folder. On network drives without locks, the run continues without a lock.

    Args:
        folder: The folder.
        wait: How many seconds to wait for another run that holds the lock.

    Raises:
        InputError: Another run holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    lock = FileLock(path, timeout=wait)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(f"another run of pixal is writing in {folder}; wait until it ends, or stop it") from error
    except (OSError, NotImplementedError) as error:
        _log.debug("%s cannot be locked: %s", folder, error)
        yield
        return
    try:
        yield
    finally:
        # Remove the file before the release: a process that has opened it meanwhile sees this, and creates another.
        with suppress(OSError):  # Windows removes the file at the release
            path.unlink()
        lock.release()


@contextmanager
def explained_by_lock(folder: Path) -> Iterator[None]:
    """Read what another run may be writing in ``folder``, without a lock.

    Raises:
        InputError: The block has failed, and another run holds the lock.
        PixalError: The block has failed for another reason.
    """
    try:
        yield
    except PixalError:
        if (folder / LOCK_FILE).exists():
            with lock_folder(folder):
                pass
        raise
