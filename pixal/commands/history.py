"""The command ``history``: failure rates of all batches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from pixal.config import Config, as_config
from pixal.tasks import configured_task

if TYPE_CHECKING:
    from pixal.database.history import History


def history(
    *,
    by: str = "batch",
    types: Sequence[str] | None = None,
    batches: Sequence[str] | None = None,
    since: str | date | None = None,
    until: str | date | None = None,
    marks: str | Path | None = None,
    rebuild: bool = False,
    config: Config | str | Path | None = None,
) -> History:
    """Read how many parts failed in each batch, and when the rate changed.

    The database is first brought up to date with the files of the batches. For each image type, the limits of a
    p-chart say which rates differ from the others by more than chance.

    Args:
        by: What is counted together: "batch", "day", "type" or "model".
        types: Image types. Default: all.
        batches: Names of batches. Default: all.
        since: Day or time, ISO 8601, of the first photographs that count. Default: no limit.
        until: Day (which is included) or time of the last photographs that count. Default: no limit.
        marks: A table of marks that was exported from a ``report.html``, to be stored first.
        rebuild: Make the database again from the files of the batches. Marks are kept.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.

    Returns:
        The rates; ``rates_frame()`` and ``verdicts_frame()`` give pandas frames.

    Raises:
        InputError: There are no verdicts, a name is unknown, or the database or the table of marks is damaged.
        ConfigError: The configuration is not valid.
    """
    from pixal.database.rates import grouping
    from pixal.database.selection import Selection

    config = as_config(config)
    selection = Selection.of(types=types, batches=batches, since=since, until=until)
    task = configured_task(config)
    return task.history(config, by=grouping(by), selection=selection, marks=marks, rebuild=rebuild)
