"""The process that sends runs to MLflow, as a thread of the tests: a process would import MLflow for seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from pixal.tracking import mlflow_sender, sender


class SenderThread:
    """Stands for the process. It follows the runs whose session it is told."""

    def __init__(self, *, follow: bool = True) -> None:
        read_wakes, write_wakes = os.pipe()
        read_reports, write_reports = os.pipe()
        self.stdin, self.stdout = os.fdopen(write_wakes, "wb"), os.fdopen(read_reports, "rb")

        def work() -> None:
            with os.fdopen(read_wakes, "rb") as wakes, os.fdopen(write_reports, "wb") as reports:
                if follow:
                    mlflow_sender.follow(wakes.readline().decode().strip(), wakes, reports)
                else:
                    with suppress(Exception):
                        mlflow_sender.send_kept_runs()

        if not follow:
            self.stdout.close()  # nobody listens
        self.thread = Thread(target=work, daemon=True)
        self.thread.start()

    def poll(self) -> int | None:
        """The exit status, or None while it works."""
        return None if self.thread.is_alive() else 0


@contextmanager
def sending_in_threads() -> Iterator[list[SenderThread]]:
    """Send runs in threads; yield those that were started. They end with the block."""
    started: list[SenderThread] = []

    def launch(*, follow: bool = True) -> SenderThread:
        started.append(SenderThread(follow=follow))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sender, "launch", launch)
        patch.setattr(sender, "_senders", {})
        patch.setattr(sender, "_waited", {})
        patch.setattr(mlflow_sender, "_PAUSE", 0.02)
        yield started
        for process in started:
            process.stdin.close()
            process.thread.join(60)


def finish_sending() -> None:
    """Wait until the threads have sent everything, also runs that were kept."""
    for started in sender._senders.values():
        started.close()
        process = started._process
        assert isinstance(process, SenderThread)
        process.thread.join(60)
