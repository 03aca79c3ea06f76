"""Apply one function to many items in worker processes that ignore Ctrl-C.

The processes are those of loky, which comes with joblib. joblib's own interface is not used: it passes large arrays in
files, whose removal fails with a message where a run is stopped.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from multiprocessing import resource_tracker as python_tracker
from pathlib import Path
from queue import Empty
from typing import Any, TypeVar

import cv2
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.backend import resource_tracker as loky_tracker
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")

_LARGEST_BUNDLE = 4  # items that are sent together; the function, which may hold large arrays, is sent with each bundle
_BUNDLES_PER_WORKER = 2  # sent before their results are taken
_IDLE_SECONDS = 300  # after which a worker without work ends
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "BLIS", "VECLIB_MAXIMUM", "NUMBA", "NUMEXPR")
_ENVIRONMENT = {f"{name}_NUM_THREADS": "1" for name in _LIBRARIES}


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], count: int, *, most: int
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in order.

    The processes are kept for later calls, also for those of other threads. In each, OpenCV and BLAS use one thread. If
    the caller stops early (Ctrl-C, or it takes no more results), they are killed.

    Args:
        function: Called once per item, in the working directory of this process.
        items: What to work on.
        count: Number of items to work on at the same time.
        most: Number of processes at most, if there are as many items.
    """
    workers = _workers()
    size = min(max(count, most), len(items))
    length = min(max(len(items) // (_BUNDLES_PER_WORKER * count), 1), _LARGEST_BUNDLE)
    bundles = [items[start : start + length] for start in range(0, len(items), length)]
    folder = str(Path.cwd())  # the workers may have been started in another one
    waiting: deque[Future[list[Result]]] = deque()
    try:
        for bundle in bundles:
            waiting.append(workers.submit(_run, function, bundle, folder, size=size))
            if len(waiting) >= (count if workers.size > count else _BUNDLES_PER_WORKER * count):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except Exception:
        wait(future for future in waiting if not future.cancel())
        raise
    except BaseException:
        workers.kill()
        raise


class _Workers:
    """The worker processes of this process.

    One thread starts them and talks to them. It blocks SIGINT and SIGTERM, and processes inherit that from the thread
    that starts them: a terminal sends Ctrl-C to all processes of a command, and a worker that is being imported would
    print a traceback. Nor can Ctrl-C interrupt loky in this thread, as Python raises KeyboardInterrupt in the main
    thread only.

    Attributes:
        size: The number of processes.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "workers")
        self._executor: Any = None
        self._running: list[Future[Any]] = []
        self.size = 0

    def submit(self, function: Callable[..., Result], /, *arguments: Any, size: int) -> Future[Result]:
        """Call ``function(*arguments)`` in one of at least ``size`` processes."""
        return self._thread.submit(self._submit, function, arguments, size).result()

    def kill(self) -> None:
        """Kill the processes. Later calls start others."""
        self._thread.submit(self._kill).result()

    def _submit(self, function: Callable[..., Result], arguments: tuple[Any, ...], size: int) -> Future[Result]:
        _block_signals()
        self._running = [future for future in self._running if not future.done()]
        if size > self.size:
            wait(self._running)  # loky warns if it has to wait for them
            self.size = size
        self._executor = get_reusable_executor(
            self.size, timeout=_IDLE_SECONDS, initializer=_start_worker, env=_ENVIRONMENT
        )
        future: Future[Result] = self._executor.submit(function, *arguments)
        self._running.append(future)
        return future

    def _kill(self) -> None:
        if self._executor is not None:
            with suppress(Empty):  # loky's thread fails with KeyError on calls that wait while it kills the processes
                while True:
                    self._executor._work_ids.get_nowait()
            self._executor.shutdown(wait=True, kill_workers=True)
        self._executor, self._running, self.size = None, [], 0


@cache
def _workers() -> _Workers:
    return _Workers()


def _block_signals() -> None:
    """Block SIGINT and SIGTERM in this thread, and in the processes that it starts."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        # These processes are started before the workers, and starting them unblocks the signals.
        python_tracker.ensure_running()
        loky_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_to_one_thread()


@cache
def limit_to_one_thread() -> None:
    """Limit OpenCV and BLAS to one thread, once per worker process."""
    cv2.setNumThreads(1)
    threadpool_limits(1)


def _run(function: Callable[[Item], Result], items: Sequence[Item], folder: str) -> list[Result]:
    os.chdir(folder)
    return [function(item) for item in items]
