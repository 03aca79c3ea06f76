"""Report in one line on standard error why a command has failed or stopped; return the exit status."""

from __future__ import annotations

import signal
import sys

from pixal.commands.exit_status import ExitStatus
from pixal.commands.signals import Received
from pixal.errors import PixalError, Stopped
from pixal.io.files import storage_error
from pixal.io.names import printable

_AFTER_STOP = {
    "preprocess": "the same command resumes with the photographs that are not done yet",
    "train": "to resume from the last checkpoint, add --resume to the same command",
    "validate": "the same command resumes with the parts that have no verdict yet",
    "serve": "all marks are stored; the same command starts it again",
    "sensitivity": "the same command resumes it",
    "compare": "the same command resumes it",
    "benchmark": "the same command resumes it",
}


def report_stop(error: BaseException, command: str, received: Received) -> ExitStatus:
    """Report that a signal has stopped a command, and how to continue.

    Args:
        error: The interruption, or the error that a library made of it.
        command: The command.
        received: The signal.
    """
    number = error.number if isinstance(error, Stopped) else received.number
    hint = str(error) if isinstance(error, KeyboardInterrupt) else ""
    status = ExitStatus.TERMINATED if number == signal.SIGTERM else ExitStatus.INTERRUPTED
    return _print_error(status, hint or f"{command} stopped; {_AFTER_STOP.get(command, 'run the same command again')}")


def report_error(error: Exception) -> ExitStatus:
    """Report why a command has failed, and what to do."""
    if isinstance(error, PixalError):
        return _print_error(ExitStatus.BAD_INPUT, f"error: {error}")
    if isinstance(error, OSError) and (storage := storage_error(error)):
        return _print_error(ExitStatus.BAD_INPUT, f"error: {storage}")
    if _is_out_of_memory(error):
        return _print_error(
            ExitStatus.BAD_INPUT,
            "error: not enough memory; use fewer --workers, lower execution.memory_limit, or raise the "
            "limit of the process (ulimit -v)",
        )
    kind = type(error).__name__
    text = " ".join(str(error).split()) or kind
    return _print_error(ExitStatus.FAILED, f"unexpected failure: {kind}: {text} (--debug shows where)")


def _print_error(status: ExitStatus, text: str) -> ExitStatus:
    sys.stderr.write(f"pixal: {printable(' '.join(text.splitlines()))}\n")
    return status


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, OpenCV, the system's loader or its threads ran out of memory."""
    text = str(error).lower()
    signs = ("insufficient memory", "cannot allocate memory", "failed to map segment", "can't start new thread")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)
