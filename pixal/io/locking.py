"""One writer at a time: two runs that write the same tables would each lose what the other found."""

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
    """Be the one run that writes below ``folder``, which is made where there is none.

    The lock is on the folder itself: it leaves no file, and ends with the process, however that ends. There is none
    where the system has no such locks (Windows, some network drives). Raises InputError while another run is at work.
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
            raise InputError(f"another run of pixal is writing in {folder}; wait for it, or stop it") from error
        except OSError as error:
            _log.debug("%s cannot be locked: %s", folder, error)
        yield
    finally:
        os.close(descriptor)
