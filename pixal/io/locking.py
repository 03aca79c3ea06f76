"""Lock an output folder, because two runs that write the same tables would overwrite each other's results."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixal.errors import InputError

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger(__name__)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for writing while the block runs. Create the folder if it does not exist.

    The lock is on the folder itself: it leaves no file behind, and the system removes it when the process ends, even
    after a crash. Systems without such locks (Windows, some network drives) get no lock.

    Raises:
        InputError: Another run holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another run of pixal is writing in {folder}; wait until it ends, or stop it") from error
        except OSError as error:
            _log.debug("%s cannot be locked: %s", folder, error)
        yield
    finally:
        os.close(descriptor)
