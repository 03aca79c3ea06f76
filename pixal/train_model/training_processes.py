"""Processes of their own for training, on this computer and on the workers of a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE
from typing import Any, Generic, TypeVar

from pixal.errors import ClusterError
from pixal.tracking.environment import VARIABLES

Item = TypeVar("Item")
Result = TypeVar("Result")

THREAD_VARIABLES = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS"))
_LONGEST = 300  # characters of what a process said before it ended


class TrainingOnWorker(Generic[Item, Result]):
    """Calls a function that trains, on a worker, as this process would call it: in a new process of its own.

    In the worker's own process models stopped at other epochs (probably because its threads draw from the same random
    numbers as a fit), and its BLAS has one thread. In the new process a fit gives the same bytes as without a cluster.
    The environment for tracking and BLAS is that of this process.
    """

    def __init__(self, function: Callable[[Item], Result]) -> None:
        """``function``: what to call. It is sent to each worker once."""
        self._function = function
        self._environment = _environment()

    def __call__(self, item: Item) -> Result:
        """Call the function; return its result, or raise what it raised."""
        cloudpickle = _cloudpickle()
        others = {name: value for name, value in os.environ.items() if name not in self._environment}
        given = {name: value for name, value in self._environment.items() if value is not None}
        call = cloudpickle.dumps((self._function, item))
        worker = _take_ready(self._environment) or _Process(others | given)
        with worker.said, worker.process as process:
            assert process.stdin is not None
            assert process.stdout is not None
            _running.add(process)
            try:
                process.stdin.write(len(call).to_bytes(8, "big") + call)
                process.stdin.flush()  # it stays open: its end tells the process that this one has ended
                answered = process.stdout.read()
            except BrokenPipeError:
                answered = b""
            finally:
                _running.discard(process)
            process.wait()
            worker.said.seek(0)
            last = " ".join(worker.said.read().decode(errors="replace").split())[-_LONGEST:]
        if not answered:
            raise ClusterError(f"a process for training ended with status {process.returncode}: {last}")
        result, error = cloudpickle.loads(answered)
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


class _Process:
    """A process that waits for a call; see ``answer``.

    Attributes:
        settings: The variables of its environment for tracking and BLAS.
        process: The process.
        said: What it writes to standard error.
    """

    def __init__(self, environment: dict[str, str], *, start_tensorflow: bool = False) -> None:
        self.settings = {name: environment.get(name) for name in (*VARIABLES, *THREAD_VARIABLES)}
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by the caller
        command = [sys.executable, "-c", f"from {__name__} import answer; answer({'True' if start_tensorflow else ''})"]
        self.process = subprocess.Popen(command, env=environment, stdin=PIPE, stdout=PIPE, stderr=self.said)


_running: set[subprocess.Popen[bytes]] = set()
_ready: list[_Process] = []


def _environment() -> dict[str, str | None]:
    """The variables of this process for tracking and BLAS."""
    return {name: os.environ.get(name) for name in (*VARIABLES, *THREAD_VARIABLES)}


def _take_ready(settings: dict[str, str | None]) -> _Process | None:
    """A process that has been started with these variables, if there is one."""
    for worker in list(_ready):
        if worker.settings == settings:
            _ready.remove(worker)
            return worker
    return None


@contextmanager
def prepared_processes(count: int) -> Iterator[None]:
    """Start processes for ``TrainingOnWorker`` that import TensorFlow while this one does; end those not used."""
    started = [_Process(dict(os.environ), start_tensorflow=True) for _ in range(count)]
    _ready.extend(started)
    try:
        yield
    finally:
        for worker in started:
            if worker in _ready:
                _ready.remove(worker)
                worker.process.kill()
                with worker.said, worker.process:
                    pass


def _cloudpickle() -> Any:
    """The module that joblib requires; before version 1.6 it held a copy."""
    try:
        import cloudpickle
    except ModuleNotFoundError:
        from joblib.externals import cloudpickle
    return cloudpickle


def stop_training() -> None:
    """End the processes in which ``TrainingOnWorker`` of this process trains; the calls raise ClusterError."""
    for process in list(_running):
        process.kill()


def answer(start_tensorflow: bool = False) -> None:
    """Read a call from the standard input, and write its result, or what it raised, to the standard output.

    ``start_tensorflow``: whether to import TensorFlow before the call comes.
    """
    cloudpickle = _cloudpickle()
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries print
    if start_tensorflow:
        import tensorflow  # noqa: F401
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    function, item = cloudpickle.loads(sys.stdin.buffer.read(size))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answered = cloudpickle.dumps((function(item), None))
    except Exception as error:
        answered = cloudpickle.dumps((None, error))
    with output:
        output.write(answered)
    os._exit(0)  # the thread that waits for the parent holds the standard input


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)
