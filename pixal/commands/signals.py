"""SIGINT (Ctrl-C) and SIGTERM: stop a command in an orderly way."""

from __future__ import annotations

import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from pixal.errors import Stopped

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_REPEAT_AFTER = 0.01  # seconds after which a signal is handled again whose exception was dropped


@dataclass
class Received:
    """The signal that the process has received.

    Attributes:
        number: The signal that asked it to stop; None if there was none.
    """

    number: int | None = None


@contextmanager
def stop_by_signals(*, to_the_end: bool = False) -> Iterator[Received]:
    """Raise ``Stopped`` in the block when SIGINT or SIGTERM arrives. A signal that is ignored stays ignored.

    Args:
        to_the_end: Whether the process ends after the block. A signal that comes then ends it at once: Python would
            print a traceback.

    Yields:
        The signal received, also where a library has turned ``Stopped`` into an error of its own.
    """
    received = Received()
    if threading.current_thread() is not threading.main_thread():  # Python allows signal handlers only there
        yield received
        return

    def stop(number: int, frame: FrameType | None) -> None:
        received.number = number
        raise Stopped(number=number)

    repeated: list[threading.Timer] = []

    def unraisable(dropped: sys.UnraisableHookArgs) -> None:
        if isinstance(dropped.exc_value, Stopped):  # in a finalizer or a callback, where Python drops exceptions
            repeated.append(threading.Timer(_REPEAT_AFTER, interrupt_main, (dropped.exc_value.number,)))
            repeated[-1].start()
        elif received.number is None:  # else: what was interrupted half made, such as a progress bar, may fail
            hook(dropped)

    used = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    before = {number: signal.signal(number, stop) for number in used}
    try:
        yield received
    finally:
        for timer in repeated:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if to_the_end or handler is None else handler)
        if not to_the_end:
            sys.unraisablehook = hook
