"""Run one function over many items: threads, processes or a Dask cluster, in order, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from pixal.config.schema import Execution
from pixal.errors import ConfigError

Item = TypeVar("Item")
Result = TypeVar("Result")

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

    ``workers`` (a step's own setting) goes before ``execution.workers``; neither: one a processor. At most two results
    a worker are held at a time, so memory does not grow with the number of items.
    """
    count = min(workers or execution.workers or _processors(), max(len(items), 1))
    options: dict[str, Any] = {}
    if execution.backend == "dask":
        _connect(execution.scheduler)
    elif count == 1:
        yield from progress(map(function, items), len(items), step=step, quiet=quiet)
        return
    with parallel_config(backend=_JOBLIB_BACKENDS[execution.backend], n_jobs=count, **options):
        parallel = Parallel(return_as="generator", pre_dispatch="2*n_jobs")
        results = parallel(delayed(function)(item) for item in items)
        yield from progress(results, len(items), step=step, quiet=quiet)


def progress(items: Iterable[Item], total: int, *, step: str, quiet: bool = False) -> Iterator[Item]:
    """Pass ``items`` on under a progress bar named ``step``."""
    yield from tqdm(items, total=total, desc=f"{step:<34}", unit="", disable=quiet, dynamic_ncols=True)


def _processors() -> int:
    """The processors this process may use, which in a container are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
