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
    """
    count = min(workers or execution.workers or _processors(), max(len(items), 1))
    if execution.backend == "dask":
        _connect(execution.scheduler)
    elif count == 1:
        yield from progress(map(function, items), len(items), step=step, quiet=quiet)
        return
    with (
        parallel_config(backend=_JOBLIB_BACKENDS[execution.backend], n_jobs=count),
        Parallel(return_as="generator") as parallel,
    ):
        bundles = (items[start : start + _BUNDLE * count] for start in range(0, len(items), _BUNDLE * count))
        results = (result for bundle in bundles for result in parallel(delayed(function)(item) for item in bundle))
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
