"""Train in other processes: whole models, or the fits of a model without one fold each, on a Dask cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ClusterError
from pixal.inputs import InputSet
from pixal.tracking.environment import VARIABLES
from pixal.train_model.family import FitControl, ModelFamily, Rows, as_anomaly_model
from pixal.train_model.history import History
from pixal.train_model.specification import ModelSpecification

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


@dataclass(frozen=True)
class FoldResult:
    """A fit without one fold.

    Attributes:
        history: The history of the fit.
        specification: The model's specification after the fit, as JSON values.
        errors: The errors of the fold, (n, H, W, C).
    """

    history: History
    specification: dict[str, Any]
    errors: NDArray[np.float32]


class FoldFit:
    """Fits a model without one fold, and measures the errors of the fold."""

    def __init__(
        self,
        family: type[ModelFamily],
        specification: ModelSpecification,
        inputs: InputSet,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        row_sets: Sequence[Rows],
    ) -> None:
        """Prepare to be sent.

        Args:
            family: The model family.
            specification: What the model is built from.
            inputs: The good parts.
            masks: The consensus mask of each type, (T, H, W).
            folds: The rows to hold out, fit by fit.
            row_sets: The rows of every fit, as ``ModelFamily.prepare_fits`` gets them.
        """
        self._family, self._specification = family, specification
        self._inputs, self._masks, self._folds, self._row_sets = inputs, masks, folds, row_sets

    def __call__(self, index: int) -> FoldResult:
        """Fit without the fold ``index``."""
        self._family.set_up(self._specification)
        model, fold = self._family(self._specification), self._folds[index]
        model.prepare_fits(self._inputs, self._row_sets)
        history = model.fit(self._inputs, self._row_sets[index], self._masks, FitControl(validation_rows=fold))
        anomaly_model = as_anomaly_model(model)
        errors = [anomaly_model.error(self._inputs, rows) for rows in self._inputs.iterate_chunks(fold)]
        return FoldResult(history, model.spec.model_dump(mode="json"), np.concatenate(errors))
