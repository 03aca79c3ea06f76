"""The command line: parse the options, call one function, and turn errors into exit statuses.

What takes long to import is imported in the functions, where signals are handled: Ctrl-C prints no traceback then.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from pixal.commands.error_messages import report_error, report_stop
from pixal.commands.exit_status import ExitStatus
from pixal.commands.signals import Received, stop_by_signals
from pixal.commands.streams import tolerant_streams
from pixal.errors import StorageError
from pixal.io.logs import PrintableFormatter

__all__ = ["ExitStatus", "main"]

_DEFERRED = ("validate", "detect")  # whose runs another process writes into MLflow


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command and its options. Default: those of the process.

    Returns:
        The exit status.
    """
    with tolerant_streams(), stop_by_signals(to_the_end=arguments is None) as received:
        return _run(arguments, received)


def _run(arguments: Sequence[str] | None, received: Received) -> ExitStatus:
    """Run a command, and turn errors into exit statuses."""
    options = argparse.Namespace(command="the command", debug=False)  # until they are parsed
    try:
        from pixal.commands.parser import build_parser
        from pixal.commands.runners import RUNNERS

        options = build_parser().parse_args(arguments)
        if arguments is None and options.command in _DEFERRED:
            _defer_runs()
        _set_up_logging(options.log_level or ("warning" if options.quiet else "info"))
        return RUNNERS[options.command](options)
    except (KeyboardInterrupt, Exception) as error:
        if options.debug:
            traceback.print_exc()
        # A library may have turned the interruption into an error of its own; no library raises StorageError.
        is_stopped = received.number is not None and not isinstance(error, StorageError)
        if isinstance(error, KeyboardInterrupt) or is_stopped:
            return report_stop(error, options.command, received)
        return report_error(error)


def _defer_runs() -> None:
    """Defer the run to another process, because importing MLflow takes longer than some verdicts."""
    from pixal.tracking import defer_runs

    defer_runs()


def _set_up_logging(level: str) -> None:
    # These libraries print notes from C++, before Python's logging is set up. Real problems reach us as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logger = logging.getLogger("pixal")
    logger.handlers[:] = [handler]
    number = getattr(logging, level.upper())
    logger.setLevel(min(number, logging.INFO))  # log files hold these messages, too
    handler.setLevel(number)
    logger.propagate = False
    # What these libraries say of a damaged file comes as an exception too.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")


if __name__ == "__main__":
    sys.exit(main())
