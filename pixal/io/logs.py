"""Log files."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def log_to_file(folder: Path, step: str) -> Iterator[None]:
    """Append the log messages of PIXAL to ``folder/STEP.log`` while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"{step}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
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
