"""The commands that make the next model from marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Results
from pixal.tasks import configured_task


def accept(
    marks: str | Path | None = None,
    *,
    types: Sequence[str] | None = None,
    undo: bool | int = False,
    config: Config | str | Path | None = None,
) -> Results:
    """Make training photographs and known defects from the marks of inspectors.

    A part marked as a false alarm becomes a training photograph of its type. A part marked as missed or confirmed
    becomes a known defect, with the box that was drawn or the regions that were found. Both are copied to
    ``out/COMPONENT/TYPE/accepted``. Running it again adds what is new, and removes parts whose mark was taken back.

    Args:
        marks: A table of marks to be stored first: that of a ``report.html``, or one with the columns ``type``,
            ``image`` and ``mark``. Default: only the marks in the database.
        types: Image types. Default: all.
        undo: Instead, remove what the last run has added; a number: what the run of that number has added.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.

    Returns:
        The parts that were added and removed; ``summary()`` is one line per type.

    Raises:
        InputError: There are no verdicts, a type is not known, or the table is damaged.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).accept(config, marks=marks, types=types, undo=undo)
