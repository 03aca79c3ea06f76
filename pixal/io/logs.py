"""Log files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixal.io import ownership
from pixal.io.names import printable


class PrintableFormatter(logging.Formatter):
    """Formats log messages; control characters in them are escaped, except line ends."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of the message, or its lines."""
        return "\n".join(map(printable, super().format(record).split("\n")))


class _LogFile(logging.FileHandler):
    """A log file. A full disk costs the log, not the work: Python would print a traceback for each message."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name in the base class
        """Ignore that a message cannot be written."""

    def close(self) -> None:
        """Close the file, also where its last messages cannot be written."""
        with suppress(OSError):
            super().close()


@contextmanager
def log_to_file(folder: Path, step: str) -> Iterator[None]:
    """Append the log messages of PIXAL to ``folder/STEP.log`` while the block runs."""
    ownership.note(folder / f"{step}.log")
    folder.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(folder / f"{step}.log", encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("pixal")
    logger.addHandler(handler)
    before = logger.level
    if logger.getEffectiveLevel() > logging.INFO:  # in a script that has not set up logging
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()
