"""Run one function over many items: threads, processes or a Dask cluster, in order, with a progress bar."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from threading import Lock
from typing import Any, TypeVar

import cv2
from joblib import Parallel, delayed, parallel_config
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from pixal.config.schema import Execution
from pixal.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")
Submit = Callable[..., None]
"""Takes a function and its arguments, to be called later."""

_AHEAD = 4  # items a thread whose results may wait
_BUNDLE = 8  # items a process; the end of a bundle, where workers wait for the last, costs a few per cent
_JOBLIB_BACKENDS = {"processes": "loky", "dask": "dask"}


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

    ``workers`` (a step's own setting) goes before ``execution.workers``; neither: one a processor. Results never pile
    up: memory does not grow with the number of items. Inside a worker OpenCV and BLAS keep to one thread, whatever the
    number of workers: they would fight over the processors, and a sum split over threads may differ in its last bit.
    """
    count = min(workers or worker_count(execution), max(len(items), 1))
    if execution.backend == "dask":
        _connect(execution.scheduler)
    elif count == 1:
        with _one_thread:
            yield from progress(map(function, items), len(items), step=step, quiet=quiet)
        return
    with _one_thread:
        results = (
            _in_threads(function, items, count)
            if execution.backend == "threads"
            else _elsewhere(partial(_in_worker, function), items, count, _JOBLIB_BACKENDS[execution.backend])
        )
        yield from progress(results, len(items), step=step, quiet=quiet)


@contextmanager
def in_background() -> Iterator[Submit]:
    """Hand over calls, such as the drawing of a figure, to one thread that makes them in turn in_background the block.

    The block ends when all of them are made; the first error among them comes out there.
    """
    with ThreadPoolExecutor(1) as pool:
        calls: list[Future[Any]] = []

        def later(function: Callable[..., Any], *arguments: Any, **options: Any) -> None:
            calls.append(pool.submit(function, *arguments, **options))

        yield later
        for call in calls:
            call.result()


def progress(items: Iterable[Item], total: int, *, step: str, quiet: bool = False) -> Iterator[Item]:
    """Pass ``items`` on under a progress bar named ``step``."""
    yield from tqdm(items, total=total, desc=f"{step:<34}", unit="", disable=quiet, dynamic_ncols=True)


def worker_count(execution: Execution) -> int:
    """How many items are worked on at a time, unless a step has a setting of its own."""
    return execution.workers or processors()


def processors() -> int:
    """The processors this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item], count: int) -> Iterator[Result]:
    """Not joblib's threads: those stay at work in OpenCV when a run fails, and abort the process as it ends."""
    pool = ThreadPoolExecutor(count)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _AHEAD * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _elsewhere(work: Callable[[Item], Result], items: Sequence[Item], count: int, backend: str) -> Iterator[Result]:
    """In bundles, as joblib hands out all it is given, however slowly the results are taken."""
    size = _BUNDLE * count
    with parallel_config(backend=backend, n_jobs=count), Parallel(return_as="generator") as parallel:
        for start in range(0, len(items), size):
            yield from parallel(delayed(work)(item) for item in items[start : start + size])


class _OneThread:
    """A context in which OpenCV and BLAS keep to one thread; several may be open at a time, and end in any order."""

    def __init__(self) -> None:
        self._lock, self._open = Lock(), 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._open:
                self._restore.callback(cv2.setNumThreads, cv2.getNumThreads())
                cv2.setNumThreads(1)
                self._restore.enter_context(threadpool_limits(1))
            self._open += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._restore.close()


_one_thread = _OneThread()


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
