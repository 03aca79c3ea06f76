"""Send the tracked runs of the working directory to MLflow, in a process of its own after a command has ended.

MLflow takes longer to import than a photograph takes to get its verdict.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from pixal.mlflow_utils import import_mlflow, send_kept_runs

_SECONDS = 60.0  # to wait for another process that sends runs
# Not -m, which would import a folder named pixal from the working directory.
_PROGRAM = "import sys; sys.path[:] = [path for path in sys.path if path]; from pixal.mlflow_sender import main; main()"


def start() -> subprocess.Popen[bytes]:
    """Start the process. It outlives this one, and nobody needs to wait for it."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal does not stop it
    )


def main() -> None:
    """Send the kept runs. Those that cannot be sent stay, and the next command reports why."""
    if hasattr(os, "nice"):
        os.nice(10)  # the next command comes first
    with suppress(Exception):
        import_mlflow()
        send_kept_runs(wait=_SECONDS)
