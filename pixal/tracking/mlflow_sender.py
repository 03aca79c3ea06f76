"""The process that sends tracked runs to MLflow, while they go on or after a command has ended.

It has its own process because MLflow takes longer to import than a photograph takes to get its verdict, and because
nothing that happens to a server may slow down, block or break training.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread, Timer
from typing import IO

from pixal.tracking import waiting_runs
from pixal.tracking.environment import store_key
from pixal.tracking.mlflow_writer import RunWriter, set_up_mlflow
from pixal.tracking.run import now
from pixal.tracking.waiting_runs import Entry, GrowingRun, RunEnd

_PAUSE = 0.3  # seconds between looks at the runs
_RETRY = 30.0  # seconds until a store that did not answer is asked again, while the run goes on
_IDLE = 60.0  # seconds without a run after which the process ends; the next run starts another one
_LINGER = 60.0  # seconds that the process may take after that which it works for has ended
_WAIT = 60.0  # seconds to wait for another process that sends kept runs

Report = Callable[[str, str, str], object]


def main() -> None:
    """Follow the runs of the session whose name is the first line of standard input; none: send those that are kept."""
    if hasattr(os, "nice"):
        os.nice(10)  # the work comes first
    session = sys.stdin.buffer.readline().decode().strip()
    if not session:
        with suppress(Exception):
            send_kept_runs(wait=_WAIT)
        return

    def stop() -> None:
        """End, whatever a server does: runs that are not sent stay, and are offered again."""
        timer = Timer(_LINGER, os._exit, (0,))
        timer.daemon = True
        timer.start()

    reports = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # MLflow prints, too
    follow(session, sys.stdin.buffer, reports, on_end=stop)
    os._exit(0)  # threads of MLflow may wait for a server


def follow(session: str, wakes: IO[bytes], reports: IO[bytes], *, on_end: Callable[[], object] = lambda: None) -> None:
    """Send the runs of a session while they go on, and then those that earlier runs have kept.

    Args:
        session: Which runs.
        wakes: Has a line where a run has ended; ends with the process that does the work.
        reports: Gets a line of JSON per run that is through: its ``id``, its ``problem`` (or "") and ``experiment``.
        on_end: Called when the process that does the work has ended.
    """
    woken, is_over = Event(), Event()

    def listen() -> None:
        with suppress(OSError, ValueError):
            while wakes.readline():
                woken.set()
        is_over.set()
        woken.set()
        on_end()

    def report(run_id: str, problem: str, experiment: str) -> None:
        content = {"id": run_id, "problem": problem, "experiment": experiment}
        with suppress(OSError, ValueError):
            reports.write(json.dumps(content).encode() + b"\n")
            reports.flush()

    Thread(target=listen, name="pixal-wakes", daemon=True).start()
    with waiting_runs.following(session):
        _Session(session, report).run(woken, is_over)


def send_kept_runs(*, wait: float = 0) -> None:
    """Send the runs that earlier runs have kept, after another process that does so has ended.

    Files that have changed, or that PIXAL did not write, are left out.

    Args:
        wait: How many seconds to wait for the other process.

    Raises:
        InputError: It has not ended.
        Exception: What MLflow raises.
    """
    with waiting_runs.sending(wait=wait):
        for path, start, entries in waiting_runs.kept_runs(store_key()):
            RunWriter(start, trusted=False).write(deque(entries))
            waiting_runs.discard(path)


class _Session:
    """The runs of a session."""

    def __init__(self, session: str, report: Report) -> None:
        self._session, self._report = session, report
        self._runs: dict[Path, _Run] = {}
        self._others: set[Path] = set()
        self._failed: set[Path] = set()  # that could not be sent when they had ended

    def run(self, woken: Event, is_over: Event) -> None:
        """Send what the runs log until all runs have ended."""
        set_up_mlflow()
        last = time.monotonic()
        while True:
            ended = is_over.is_set()
            woken.clear()
            self._find_runs()
            for run in self._runs.values():
                run.send(self._report, is_cut=ended)
            through = [run for run in self._runs.values() if run.is_through]
            if through and len(through) == len(self._runs):
                if any(run.is_sent for run in through):
                    with suppress(Exception):  # they stay where they are
                        send_kept_runs()
                    self._others -= self._failed  # the store works again
                self._failed = {path for path, run in self._runs.items() if not run.is_sent}
                self._runs.clear()
            if self._runs:
                last = time.monotonic()
            elif ended or time.monotonic() - last > _IDLE:
                return
            woken.wait(_PAUSE)

    def _find_runs(self) -> None:
        for path in set(Path(waiting_runs.FOLDER).glob(waiting_runs.PATTERN)) - self._others:
            if path in self._runs:
                continue
            with suppress(OSError, ValueError):  # its first line may not be complete yet
                run = GrowingRun(path)
                if run.start.session == self._session:
                    self._runs[path] = _Run(run)
                self._others.add(path)


class _Run:
    """A run that is sent while it goes on.

    Attributes:
        is_through: Whether nothing more is done for it.
        is_sent: Whether all of it is in MLflow.
    """

    def __init__(self, growing: GrowingRun) -> None:
        self.is_through = self.is_sent = False
        self._growing = growing
        self._writer = RunWriter(growing.start, trusted=True)
        self._entries: deque[Entry] = deque()
        self._retry = 0.0

    def send(self, report: Report, *, is_cut: bool) -> None:
        """Send what is new. A store that fails is asked again after a pause, and when the run has ended.

        Args:
            report: Called when the run is through.
            is_cut: Whether the process that does the work has ended: a run without an end was killed.
        """
        if self.is_through:
            return
        start, problem = self._growing.start, ""
        try:
            self._entries += self._growing.read()
        except FileNotFoundError:  # it could not be written on, and was given up
            self.is_through = True
            return
        except (OSError, ValueError) as error:
            problem = f"{self._growing.path} cannot be read: {error}"
            self.is_through = True
        has_ended = any(entry.end is not None for entry in self._entries)
        if is_cut and not has_ended:
            self._entries.append(Entry(end=RunEnd(status="KILLED", time=now(), name=start.name)))
            has_ended = True
        if not self.is_through and self._entries and (has_ended or time.monotonic() >= self._retry):
            try:
                self._writer.write(self._entries)
            except Exception as error:
                problem = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                self._retry = time.monotonic() + _RETRY
            self.is_through = has_ended
        if self.is_through:
            self.is_sent = not problem
            if self.is_sent:
                waiting_runs.discard(self._growing.path)
            report(start.id, problem, self._writer.experiment_id)
