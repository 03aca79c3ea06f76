"""Signals stop a block wherever they arrive."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from pixal.commands.signals import stop_by_signals
from pixal.errors import Stopped


class InterruptedWhenDeleted:
    """A signal arrives while Python deletes it, where Python drops each exception."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def delete_and_wait(number: signal.Signals) -> None:
    InterruptedWhenDeleted(number)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_arrives_in_a_finalizer_stops_the_block(number: signal.Signals) -> None:
    hook = sys.unraisablehook
    with pytest.raises(Stopped) as stopped, stop_by_signals():
        delete_and_wait(number)
    assert stopped.value.number == number
    assert sys.unraisablehook is hook


def test_no_signal_is_left_after_the_block() -> None:
    with stop_by_signals() as received:
        InterruptedWhenDeleted(signal.SIGINT)
    time.sleep(0.1)
    assert received.number == signal.SIGINT
