"""The package's own errors: each message says what is wrong, where, and what to do next."""

from __future__ import annotations


class PixalError(Exception):
    """Bad usage, configuration or input, known and explained; the command line exits with status 2."""


class ConfigError(PixalError):
    """A configuration file or a ``--set`` override cannot be used."""


class InputError(PixalError):
    """A folder, an image or an input file cannot be used."""


class AlignmentError(PixalError):
    """A photograph cannot be brought into the reference frame."""


class ModelError(PixalError):
    """A trained model is missing, incomplete, or does not match the input."""
