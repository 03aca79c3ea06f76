"""The process that sends runs to MLflow, as the process that does the work sees it.

They share a folder of files (``waiting_runs``). Pipes carry no data of runs: a process that does not read them cannot
hold up the work.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from typing import IO, NamedTuple, Protocol

from pixal.tracking.environment import is_local, store_key, time_limit

# Not -m, which would import a folder named pixal from the working directory.
_PROGRAM = """\
import sys
sys.path[:] = [path for path in sys.path if path]
from pixal.tracking.mlflow_sender import main
main()
"""

_USUAL = 1.0  # seconds for the rest of a run, which do not count: a process may have many runs

_waited: dict[str, float] = {}  # seconds that this process has waited for a store
_senders: dict[tuple[Path, str], Sender] = {}  # by working directory and store


class Report(NamedTuple):
    """The outcome of sending a run.

    Attributes:
        problem: Why it is not in MLflow; "" if it is.
        experiment: The id of its experiment; "" if it is not known.
    """

    problem: str
    experiment: str = ""


class SenderProcess(Protocol):
    """The part of ``subprocess.Popen`` that is used here."""

    stdin: IO[bytes] | None
    stdout: IO[bytes] | None

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""


class Sender:
    """A process that follows the runs of this one, and sends what they log while they go on.

    Attributes:
        session: Marks the runs of this process in the working directory.
    """

    def __init__(self, process: SenderProcess, session: str) -> None:
        """Tell the process which runs to follow, and listen to what it reports."""
        self.session = session
        self._process = process
        self._reports: dict[str, Report] = {}  # of runs that are through, by their id
        self._has_ended = False
        self._changed = Condition()
        self._tell(self.session)
        Thread(target=self._listen, name="pixal-tracking", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._has_ended or self._process.poll() is not None

    def wait_for(self, run_id: str) -> Report:
        """Wait for a run that has ended, for the time that is left to this process."""
        self._tell("")
        key, start, limit = store_key(), time.monotonic(), time_limit()
        left = limit - _waited.get(key, 0.0)
        with self._changed:
            self._changed.wait_for(lambda: run_id in self._reports or self._has_ended, max(left, 0.0))
        found = self._reports.get(run_id)
        is_sent = found is not None and not found.problem
        seconds = time.monotonic() - start - (_USUAL if is_sent else 0.0)
        _waited[key] = _waited.get(key, 0.0) + max(seconds, 0.0)
        if found is not None:
            return found
        if self._has_ended:
            return Report("the process that sends runs has ended early")
        return Report(f"the {'store' if is_local() else 'tracking server'} did not answer within {limit:g} s")

    def close(self) -> None:
        """Let the process end when it has sent everything."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _tell(self, line: str) -> None:
        """Write a line, which wakes the process up."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                content = json.loads(line)
                with self._changed:
                    self._reports[content["id"]] = Report(content["problem"], content["experiment"])
                    self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()


def start_sender() -> Sender:
    """The sender of this process for the store and the working directory; it is started if there is none.

    One that has ended, because there was nothing to do, is started again, and goes on with the same runs.
    """
    key = Path.cwd(), store_key()
    sender = _senders.get(key)
    if sender is None or sender.has_ended:
        sender = _senders[key] = Sender(launch(), uuid.uuid4().hex if sender is None else sender.session)
        atexit.register(sender.close)
    return sender


def send_later() -> None:
    """Start a process that sends the runs that are kept, and outlives this one. Nobody waits for it."""
    launch(follow=False)


def launch(*, follow: bool = True) -> subprocess.Popen[bytes]:
    """Start a process that sends runs.

    Args:
        follow: Whether it follows the runs of this process, or sends those that are kept.
    """
    pipe = subprocess.PIPE if follow else subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal does not stop it
    )
    atexit.register(_leave_running, process)
    return process


def _leave_running(process: subprocess.Popen[bytes]) -> None:
    """Let a process outlive this one; ``Popen`` would warn that nobody has waited for it."""
    if process.poll() is None:
        process.returncode = 0
