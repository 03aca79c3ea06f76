"""The folder of a demonstration."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pixal.errors import InputError
from pixal.io import ownership


def open_demo_folder(folder: Path, marker: Path) -> None:
    """Claim the folder of a demonstration, and remove what a killed one left unfinished.

    Args:
        folder: An empty or new folder, or that of an earlier demonstration.
        marker: A folder, below ``folder``, that an earlier demonstration without a manifest has made.

    Raises:
        InputError: The folder holds something else.
    """
    is_new = not folder.exists() or not any(folder.iterdir())
    if is_new:
        ownership.claim(folder)
    elif not ownership.is_claimed(folder) and not (folder / marker).is_dir():
        raise InputError(f"{folder} is not empty and does not contain a demo; choose a new folder")
    ownership.remove_unfinished(folder)


@contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    """Change the working directory; the configured paths and MLflow's store are relative to it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
