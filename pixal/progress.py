"""Progress bars: a line that is redrawn on a terminal, and one line at a time elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_SECONDS = 30.0  # between two lines of a bar that cannot be redrawn


def progress_bar(items: Iterable[Any] | None = None, *, total: int, title: str, unit: str, quiet: bool) -> tqdm[Any]:
    """Open a progress bar on standard error.

    On a terminal it is redrawn. Where standard error is a file or a pipe, it is a line every 30 seconds and one at the
    end, without carriage returns.

    Args:
        items: What to iterate over; None: the caller counts with ``update``.
        total: The number of items.
        title: What is done, at the left.
        unit: What is counted, for the rate.
        quiet: Show nothing.
    """
    if sys.stderr.isatty():
        return tqdm(items, total=total, desc=title, unit=unit, disable=quiet, dynamic_ncols=True)
    return tqdm(
        items,
        total=total,
        desc=title.rstrip(),
        unit=unit,
        disable=quiet,
        file=_Lines(),
        mininterval=_SECONDS,
        maxinterval=_SECONDS,
        bar_format="{desc}: {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]",
    )


class _Lines:
    """Standard error for a bar: each state is a line; the empty one at the start is left out."""

    def __init__(self) -> None:
        self._has_started = False

    def write(self, text: str) -> None:
        """Write the state of a bar, without the characters that would redraw it."""
        line = text.strip("\r\n ")
        if line and self._has_started:
            sys.stderr.write(f"{line}\n")
        self._has_started |= bool(line)

    def flush(self) -> None:
        """Write what is buffered."""
        sys.stderr.flush()
