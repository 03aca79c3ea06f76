"""Errors that PIXAL raises. Each message says what is wrong, where, and what to do next."""

from __future__ import annotations

import difflib
import signal
from collections.abc import Iterable


class PixalError(Exception):
    """Bad usage, configuration or input. The command line exits with status 2."""


class ConfigError(PixalError):
    """A configuration file or a ``--set`` override is not valid."""


class InputError(PixalError):
    """A folder, an image or an input file cannot be used."""


class StorageError(PixalError):
    """A file cannot be written: the disk is full, or writing is not permitted there."""


class ClusterError(PixalError):
    """A Dask cluster was lost while it worked."""


class AlignmentError(PixalError):
    """A photograph cannot be aligned to the reference."""


class ModelError(PixalError):
    """A trained model is missing, is incomplete, or does not match the input."""


class Stopped(KeyboardInterrupt):
    """The process was asked to stop, by Ctrl-C or by SIGTERM.

    Attributes:
        number: The signal.
    """

    def __init__(self, message: str = "", *, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """A hint that names the most similar of ``known``, or nothing if none is similar."""
    nearest = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f"; the nearest is {nearest[0]}" if nearest else ""
