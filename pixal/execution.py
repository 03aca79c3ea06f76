"""Apply one function to many items, in order: in threads, processes or on a Dask cluster, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import cv2
from threadpoolctl import threadpool_limits

from pixal.config.schema import Execution
from pixal.progress import progress_bar

if TYPE_CHECKING:
    from pixal.dask_cluster import Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")

_SWITCH_SECONDS = 5e-4  # for which a thread may keep the interpreter lock while another one waits for it
_WAITING_PER_THREAD = 4  # finished results that may wait to be taken


class Submit(Protocol):
    """Accepts a function call that another thread makes later."""

    def __call__(self, function: Callable[..., object], /, *arguments: Any, **options: Any) -> None:
        """Call ``function(*arguments, **options)`` later."""

    def wait(self) -> None:
        """Wait until all calls so far have finished. Raise the first error that one of them raised."""


def map_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    execution: Execution,
    *,
    step: str,
    workers: int | None = None,
    quiet: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in the order of ``items``.

    Memory does not grow with the number of items: few results wait to be taken. In a worker, OpenCV and BLAS use one
    thread each, for any number of workers. Otherwise their threads would compete with the workers, and a sum that is
    split over threads may differ in its last bit.

    Args:
        function: Called once per item.
        items: What to work on.
        execution: Where to work.
        step: Name of the progress bar.
        workers: How many items to work on at the same time. Default: ``execution.workers``, or else one per processor.
        quiet: Show no progress bar.

    Yields:
        The results, in the order of ``items``.

    Raises:
        ConfigError: Dask is not installed, or its scheduler does not answer.
    """
    if execution.backend == "dask":
        cluster = _cluster(execution.scheduler)
        results = cluster.map(function, items, workers or worker_count(execution))
        yield from progress(results, len(items), step=step, quiet=quiet)
        return
    count = min(workers or worker_count(execution), max(len(items), 1))
    if count == 1:
        with _one_thread:
            yield from progress(map(function, items), len(items), step=step, quiet=quiet)
        return
    with _one_thread:
        if execution.backend == "threads":
            results = _map_in_threads(function, items, count)
        else:
            from pixal.worker_processes import map_in_processes  # the import takes longer than some verdicts

            results = map_in_processes(function, items, count, most=worker_count(execution))
        yield from progress(results, len(items), step=step, quiet=quiet)


@contextmanager
def in_background() -> Iterator[Submit]:
    """Run function calls in one background thread, for example to draw figures while the block continues.

    The calls run one after the other. The block ends when all of them have finished; where it ends by an exception,
    the calls that have not started are dropped.

    Yields:
        A function that accepts a call: ``submit(function, *arguments, **options)``.

    Raises:
        Exception: The first error that one of the calls raised, at the end of the block.
    """
    with ThreadPoolExecutor(1) as pool:
        submit = _Background(pool)
        try:
            yield submit
            submit.wait()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def progress(items: Iterable[Item], total: int, *, step: str, quiet: bool = False) -> Iterator[Item]:
    """Yield ``items`` unchanged, and show a progress bar named ``step``."""
    yield from progress_bar(items, total=total, title=f"{step:<34}", unit="", quiet=quiet)


def worker_count(execution: Execution) -> int:
    """Number of items to work on at the same time, for a step that has no setting for it."""
    if execution.workers is None and execution.backend == "dask":
        return _cluster(execution.scheduler).threads
    return execution.workers or processors()


def check_cluster(execution: Execution, *, reads: Sequence[Path] = (), writes: Sequence[Path] = ()) -> None:
    """Check the workers of a Dask cluster before the work starts; without one, do nothing.

    Args:
        execution: Where to work.
        reads: Folders or files that the workers read.
        writes: Folders that they write to.

    Raises:
        ConfigError: Dask is not installed, its scheduler does not answer, or a worker has another version of PIXAL,
            does not see a folder, or cannot write to it.
    """
    if execution.backend == "dask":
        _cluster(execution.scheduler).check(reads, writes)


def processors() -> int:
    """Number of processors that this process may use. In a container it can be less than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Background:
    """See ``Submit``."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._calls: list[Future[Any]] = []

    def __call__(self, function: Callable[..., object], /, *arguments: Any, **options: Any) -> None:
        self._calls.append(self._pool.submit(function, *arguments, **options))

    def wait(self) -> None:
        calls, self._calls = self._calls, []
        wait(calls)
        for call in calls:
            call.result()


def _map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], count: int) -> Iterator[Result]:
    """Map in a thread pool. Threads of joblib continue in OpenCV after an error, and abort the process."""
    pool = ThreadPoolExecutor(count)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == _WAITING_PER_THREAD * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _OneThread:
    """Context in which OpenCV and BLAS use one thread. Several may be open at a time, and may end in any order.

    In it, Python's threads also wait less for each other. OpenCV gives the interpreter lock back in each of hundreds of
    short calls per photograph; a thread that runs Python code, such as one that draws with matplotlib, would keep it
    for 5 ms each time.
    """

    def __init__(self) -> None:
        self._lock, self._open = Lock(), 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._open:
                self._restore.callback(cv2.setNumThreads, cv2.getNumThreads())
                cv2.setNumThreads(1)
                self._restore.callback(sys.setswitchinterval, sys.getswitchinterval())
                sys.setswitchinterval(_SWITCH_SECONDS)
                self._restore.enter_context(threadpool_limits(1))
            self._open += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._restore.close()


_one_thread = _OneThread()


_clusters: dict[str | None, Cluster] = {}


def _cluster(scheduler: str | None) -> Cluster:
    """The cluster of a scheduler, to which this process connects once; again after it was lost."""
    from pixal.dask_cluster import Cluster

    known = _clusters.get(scheduler)
    if known is None or not known.is_connected:
        known = _clusters[scheduler] = Cluster(scheduler)
    return known
