"""Exit statuses of the command line."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit statuses of commands.

    Attributes:
        DONE: Everything was processed.
        FAILED: Unexpected failure.
        BAD_INPUT: Bad usage, configuration or input.
        INCOMPLETE: Some images could not be processed.
        ANOMALY: With ``--fail-on-anomaly``, at least one part failed.
        INTERRUPTED: Stopped by Ctrl-C (SIGINT); as shells show it, 128 and the number of the signal.
        TERMINATED: Stopped by SIGTERM.
    """

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    INCOMPLETE = 3
    ANOMALY = 4
    INTERRUPTED = 130
    TERMINATED = 143
