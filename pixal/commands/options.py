"""Options and texts that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

AddCommand = Callable[[str, str], argparse.ArgumentParser]

PHOTOGRAPHS = "folder of photographs: one sub-folder per image type, or the photographs of one type"
PREPARED = "an .npz that make_input or validate wrote, or a folder of them"


def describe(command: argparse.ArgumentParser, text: str) -> argparse.ArgumentParser:
    """Set the description of a command, with its own line breaks."""
    command.description = text
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    return command


def add_workers(command: argparse.ArgumentParser) -> None:
    """Add ``--workers``."""
    command.add_argument(
        "--workers",
        metavar="N",
        help="number of images processed at the same time (default: execution.workers, else one per processor); "
        "the results are the same",
    )


def count(text: str) -> int:
    """Read a whole number from 0; the ``type`` of an option."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)
