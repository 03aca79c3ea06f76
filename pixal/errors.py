"""Errors that PIXAL raises. Each message says what is wrong, where, and what to do next."""

from __future__ import annotations

import signal


class PixalError(Exception):
    """Bad usage, configuration or input. The command line exits with status 2."""


class ConfigError(PixalError):
    """A configuration file or a ``--set`` override is not valid."""


class InputError(PixalError):
    """A folder, an image or an input file cannot be used."""


class StorageError(PixalError):
    """A file cannot be written: the disk is full, or writing is not permitted there."""


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
