"""Progress bars: a line that is redrawn on a terminal or in a notebook, and one line at a time elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from tqdm import tqdm

_SECONDS = 30.0  # between two lines of a bar that cannot be redrawn


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    total: int | None,
    title: str,
    unit: str,
    quiet: bool,
    leave: bool = True,
) -> tqdm[Any]:
    """Open a progress bar on standard error.

    On a terminal it is redrawn, and in a notebook, where it is a widget if ipywidgets is installed. Where standard
    error is a file or a pipe, it is a line every 30 seconds and one at the end, without carriage returns.

    Args:
        items: What to iterate over; None: the caller counts with ``update``.
        total: The number of items; None: not known; 0: nothing is shown.
        title: What is done, at the left.
        unit: What is counted, for the rate.
        quiet: Show nothing.
        leave: Keep the bar when it is done.
    """
    quiet = quiet or total == 0
    in_notebook = _in_notebook()
    if in_notebook and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as widget

        return widget(items, total=total, desc=title.rstrip(), unit=unit, disable=quiet, leave=leave)
    if in_notebook or sys.stderr.isatty():
        return tqdm(items, total=total, desc=title, unit=unit, disable=quiet, leave=leave, dynamic_ncols=True)
    return tqdm(
        items,
        total=total,
        desc=title.rstrip(),
        unit=unit,
        disable=quiet,
        leave=leave,
        file=_Lines(),
        mininterval=_SECONDS,
        maxinterval=_SECONDS,
        bar_format="{desc}: {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]",
    )


def _in_notebook() -> bool:
    """Whether a kernel of Jupyter runs this process."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


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
