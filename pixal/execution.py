"""Run one function over many items: threads, processes or a Dask cluster, in order, with a progress bar."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache, partial
from typing import Any, TypeVar

import cv2
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pixal.config.schema import Execution
from pixal.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")

_BUNDLE = 8  # items a worker; the end of a bundle, where workers wait for the last, costs a few per cent
_JOBLIB_BACKENDS = {"threads": "threading", "processes": "loky", "dask": "dask"}


def map_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    execution: Execution,
    *,
    step: str,
    workers: int | None = None,
    quiet: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each of ``items``, in their order, as they come.

    ``workers`` (a step's own setting) goes before ``execution.workers``; neither: one a processor. Items are handed out
    in bundles of ``_BUNDLE`` a worker, so that results never pile up: memory does not grow with the number of items.
    Inside a worker OpenCV and BLAS keep to one thread, whatever the number of workers: they would fight over the
    processors, and a sum split over threads may differ in its last bit.
    """
    count = min(workers or execution.workers or processors(), max(len(items), 1))
    if execution.backend == "dask":
        _connect(execution.scheduler)
    elif count == 1:
        with _one_thread():
            yield from progress(map(function, items), len(items), step=step, quiet=quiet)
        return
    gate = _Gate()
    work = partial(gate.call if execution.backend == "threads" else _in_worker, function)
    with (
        _one_thread(),
        closing(gate),
        parallel_config(backend=_JOBLIB_BACKENDS[execution.backend], n_jobs=count),
        Parallel(return_as="generator") as parallel,
    ):
        bundles = (items[start : start + _BUNDLE * count] for start in range(0, len(items), _BUNDLE * count))
        results = (result for bundle in bundles for result in parallel(delayed(work)(item) for item in bundle))
        yield from progress(results, len(items), step=step, quiet=quiet)


def progress(items: Iterable[Item], total: int, *, step: str, quiet: bool = False) -> Iterator[Item]:
    """Pass ``items`` on under a progress bar named ``step``."""
    yield from tqdm(items, total=total, desc=f"{step:<34}", unit="", disable=quiet, dynamic_ncols=True)


def processors() -> int:
    """The processors this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Gate:
    """Lets threads in until it is closed, and then waits for those inside.

    When a run fails or is interrupted, other threads are still at work; a process that ends while one of them is inside
    OpenCV is aborted by the C++ runtime.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._open = True

    def call(self, function: Callable[[Item], Result], item: Item) -> Result | None:
        with self._changed:
            if not self._open:
                return None
            self._inside += 1
        try:
            return function(item)
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._open = False
            self._changed.wait_for(lambda: not self._inside)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        cv2.setNumThreads(before)


def _in_worker(function: Callable[[Item], Result], item: Item) -> Result:
    _keep_to_one_thread()
    return function(item)


@lru_cache(maxsize=1)
def _keep_to_one_thread() -> None:
    """Once for the life of a worker process."""
    cv2.setNumThreads(1)
    threadpool_limits(1)


_clients: dict[str | None, Any] = {}


def _connect(scheduler: str | None) -> None:
    """Connect to a Dask scheduler (none named: start one on this machine) once in a process."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("execution.backend dask needs Dask: pip install 'pixal[cluster]'") from error
    if scheduler not in _clients:
        try:
            _clients[scheduler] = Client(scheduler, timeout="10s") if scheduler else Client(dashboard_address=None)
        except OSError as error:
            raise ConfigError(f"execution.scheduler {scheduler} does not answer: {error}") from error
