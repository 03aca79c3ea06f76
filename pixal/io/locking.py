"""Lock an output folder, because two runs that write the same tables would overwrite each other's results."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pixal.errors import InputError

_log = logging.getLogger(__name__)

LOCK_FILE = ".pixal.lock"
"""The file in a locked folder. It is empty, says nothing about results, and is removed when the lock is released."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for writing while the block runs. Create the folder if it does not exist.

    The system releases the lock when the process ends, even after a crash. A ``.pixal.lock`` that a killed process
    left behind locks nothing. On network drives that know no locks the run goes on without one.

    Raises:
        InputError: Another run holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_FILE
    lock = FileLock(path, timeout=0)
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
        # Removed before it is released: whoever has opened this file meanwhile sees that it is gone, and makes another.
        with suppress(OSError):  # Windows removes it at the release
            path.unlink()
        lock.release()
