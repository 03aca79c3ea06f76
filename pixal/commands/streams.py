"""Standard output and standard error that may be closed, full, or a pipe that nobody reads any more."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def tolerant_streams() -> Iterator[None]:
    """Continue the work of the block if its messages cannot be written.

    A closed stream is opened to nothing: otherwise the next file that is opened would get its number, and messages of
    libraries would be written into that file.
    """
    _open_missing()
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Tolerant(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams


def _open_missing() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  # as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


class _Tolerant(io.TextIOBase):
    """A text stream that writes to nothing from the first error on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; characters that the encoding does not have are escaped."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self.write(text.encode("ascii", "backslashreplace").decode())
        except (OSError, ValueError):
            self._discard()
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._discard()

    def isatty(self) -> bool:
        """Whether a person reads along."""
        try:
            return bool(self._stream.isatty())
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """The number of the open file."""
        return int(self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _discard(self) -> None:
        """Point the file to nothing, so that the end of the process can flush what is still buffered."""
        with suppress(OSError, ValueError):
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._stream.fileno())
            os.close(nothing)
