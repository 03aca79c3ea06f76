"""Apply one function to many items on the workers of a Dask cluster, in other processes or on other machines.

A worker changes to the working directory of this process while it works on its items, so that all paths mean the same
files. It needs that folder at the same path, and the same version of PIXAL.
"""

from __future__ import annotations

import logging
import os
import platform
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition
from typing import Any, Generic, TypeVar

from pixal.errors import ClusterError, ConfigError
from pixal.extras import install_advice
from pixal.version import __version__
from pixal.worker_processes import limit_to_one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_LARGEST_BUNDLE = 4  # items that are sent together
_BUNDLES_PER_THREAD = 2  # sent before their results are taken
_CONNECTING = "10s"
_SEEN = 10.0  # seconds until a file of this machine has to be seen on another one; network drives cache folders
_TRIES = 4  # of a bundle whose function was lost with the only worker that held it
_LOGGERS = ("distributed", "tornado", "asyncio")  # their messages come as errors, too


class Cluster:
    """A Dask cluster: the one of a scheduler, or one on this machine.

    Attributes:
        scheduler: The address of the scheduler; None: on this machine.
    """

    def __init__(self, scheduler: str | None) -> None:
        """Connect to the scheduler.

        Raises:
            ConfigError: Dask is not installed, or the scheduler does not answer.
        """
        self.scheduler = scheduler
        try:
            from distributed import Client
        except ImportError as error:
            raise ConfigError(f"execution.backend dask needs {install_advice('distributed')}") from error
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        options = {"timeout": _CONNECTING, "set_as_default": False}
        try:
            self.client = Client(scheduler, **options) if scheduler else Client(dashboard_address=None, **options)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"execution.scheduler {scheduler} does not answer: {reason}") from error
        self._checked: set[tuple[tuple[Path, ...], ...]] = set()

    @property
    def is_connected(self) -> bool:
        """Whether the scheduler still answers."""
        return bool(self.client.status == "running")

    @property
    def threads(self) -> int:
        """The number of threads of all workers; at least 1, as workers may come later."""
        with self.explained():
            return max(1, sum(map(int, self.client.nthreads().values())))

    def check(self, reads: Sequence[Path], writes: Sequence[Path]) -> None:
        """Check that the workers that are there now have this version, see the folders, and can write to them.

        Args:
            reads: Folders or files that they have to read.
            writes: Folders that they have to write to. Where one does not exist yet, its parent stands for it.

        Raises:
            ConfigError: A worker does not; the message names it.
        """
        folders = (tuple(path.absolute() for path in reads), tuple(_existing(path.absolute()) for path in writes))
        if folders in self._checked:
            return
        marker = f".pixal-{uuid.uuid4().hex[:12]}"
        with self.explained(), _marked(folders[1], marker):
            paths = ([str(path) for path in some] for some in folders)
            found = self.client.run(_examine, _versions(), *paths, marker)
        problems = {worker: problem for worker, problem in sorted(found.items()) if problem}
        if problems:
            worker, problem = next(iter(problems.items()))
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise ConfigError(f"the Dask worker {worker}{others} cannot be used: {problem}")
        if not found:
            _log.warning("the Dask scheduler %s has no workers yet; waiting for them", self.scheduler)
        else:
            self._checked.add(folders)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item], count: int) -> Iterator[Result]:
        """Yield ``function(item)`` for each item, in order. The function is sent to each worker once.

        If a worker is lost, its items are done again by others.

        Args:
            function: Called once per item, in the working directory of this process.
            items: What to work on.
            count: Number of items to work on at the same time.

        Raises:
            ClusterError: The scheduler was lost, or workers keep ending.
            ConfigError: A worker has another version, or does not see the working directory.
        """
        length = min(max(len(items) // (_BUNDLES_PER_THREAD * count), 1), _LARGEST_BUNDLE)
        bundles = [items[start : start + length] for start in range(0, len(items), length)]
        calls: _Calls[Item, Result] = _Calls(self, function)
        try:
            for bundle in bundles:
                calls.submit(bundle)
                if len(calls) >= _BUNDLES_PER_THREAD * count:
                    yield from calls.take()
            while len(calls):
                yield from calls.take()
        finally:
            calls.cancel()

    def close(self) -> None:
        """Disconnect. A cluster on this machine ends."""
        self.client.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the loss of the scheduler into one line."""
        from distributed.comm import CommClosedError

        try:
            yield
        except (CommClosedError, OSError, TimeoutError) as error:
            if self.is_connected and not isinstance(error, CommClosedError):
                raise  # of the function
            raise self.lost() from error

    def lost(self) -> ClusterError:
        """The error that the scheduler is lost."""
        return ClusterError(
            f"the Dask scheduler {self.scheduler or 'on this machine'} was lost; what is done is stored: start it, and "
            "run the same command again"
        )


class _Calls(Generic[Item, Result]):
    """Calls of one function that were sent and whose results were not taken yet, in order."""

    def __init__(self, cluster: Cluster, function: Callable[[Item], Result]) -> None:
        self._cluster, self._function = cluster, function
        self._sent: Any = None
        self._waiting: deque[tuple[Sequence[Item], Any]] = deque()
        self._folder = str(Path.cwd())

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, bundle: Sequence[Item]) -> None:
        """Send a bundle of items."""
        self._waiting.append((bundle, self._submit(bundle)))

    def take(self) -> list[Result]:
        """Wait for the results of the first bundle."""
        from distributed.scheduler import KilledWorker

        for _ in range(_TRIES):
            try:
                with self._cluster.explained():
                    results: list[Result] = self._waiting[0][1].result()
            except KilledWorker as error:
                raise ClusterError(
                    f"the workers of the Dask scheduler {self._cluster.scheduler} keep ending, for example for "
                    "lack of memory; what is done is stored: change the workers, and run the same command again"
                ) from error
            except CancelledError:  # the worker that held the function was lost, or the scheduler
                if not self._cluster.is_connected:
                    raise self._cluster.lost() from None
                self._send_again()
            else:
                self._waiting.popleft()
                return results
        raise self._cluster.lost()

    def cancel(self) -> None:
        """Cancel the items whose results were not taken."""
        if self._waiting and self._cluster.is_connected:
            with suppress(Exception):  # the scheduler may be lost meanwhile
                self._cluster.client.cancel([future for _, future in self._waiting])

    def _submit(self, bundle: Sequence[Item]) -> Any:
        client = self._cluster.client
        with self._cluster.explained():
            if self._sent is None:  # by itself, and once: it may hold large arrays
                self._sent = client.scatter(self._function, hash=False)
            return client.submit(_run, self._sent, bundle, self._folder, _versions(), pure=False)

    def _send_again(self) -> None:
        self._sent = None
        self._waiting = deque((bundle, self._submit(bundle)) for bundle, _ in self._waiting)


class _WorkingFolder:
    """The working directory of a worker process, which all its threads share."""

    def __init__(self) -> None:
        self._free, self._users = Condition(), 0
        self._own, self._folder = "", ""  # where the process was, if that is another folder

    @contextmanager
    def entered(self, folder: str) -> Iterator[None]:
        """Work in ``folder``. Threads that need another folder wait."""
        with self._free:
            self._free.wait_for(lambda: not self._users or self._folder == folder)
            if not self._users:
                now = os.getcwd()  # noqa: PTH109
                self._own, self._folder = (now if now != folder else ""), folder
                if self._own:
                    os.chdir(folder)
            self._users += 1
        try:
            yield
        finally:
            with self._free:
                self._users -= 1
                if not self._users:
                    if self._own:
                        os.chdir(self._own)
                    self._free.notify_all()


_working_folder = _WorkingFolder()


def _run(
    function: Callable[[Item], Result], items: Sequence[Item], folder: str, versions: tuple[str, str]
) -> list[Result]:
    """Called in a worker."""
    if problem := _other_versions(versions):
        raise ConfigError(f"a Dask worker on {platform.node()} cannot be used: {problem}")
    limit_to_one_thread()
    try:
        entered = _working_folder.entered(folder)
        entered.__enter__()
    except OSError as error:
        raise ConfigError(
            f"a Dask worker on {platform.node()} cannot be used: it does not see the folder {folder}, where this "
            "command was started; mount it there at the same path"
        ) from error
    try:
        return [function(item) for item in items]
    finally:
        entered.__exit__(None, None, None)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _versions() -> tuple[str, str]:
    return __version__, ".".join(platform.python_version_tuple()[:2])


def _other_versions(versions: tuple[str, str]) -> str:
    own = _versions()
    if own == versions:
        return ""
    return "it has PIXAL {} and Python {}, and this command {} and {}; install the same".format(*own, *versions)


def _examine(versions: tuple[str, str], reads: Sequence[str], writes: Sequence[str], marker: str) -> str:
    """The problem of this worker; "" if there is none. Called in a worker."""
    if problem := _other_versions(versions):
        return problem
    for path in reads:
        if not os.access(path, os.R_OK):
            return f"it cannot read {path}; mount it there at the same path"
    for path in writes:
        if not _appears(Path(path, marker)):
            return f"it does not see the folder {path} of this machine; mount it there at the same path"
        own = Path(path, f"{marker}-{uuid.uuid4().hex[:12]}")
        try:
            own.write_bytes(b"")
            own.unlink()
        except OSError as error:
            return f"it cannot write to {path}: {error.strerror or error}"
    return ""


def _appears(path: Path) -> bool:
    end = time.monotonic() + _SEEN
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


@contextmanager
def _marked(folders: Sequence[Path], marker: str) -> Iterator[None]:
    """Put an empty file into each folder while the block runs."""
    files = [folder / marker for folder in folders]
    try:
        for file in files:
            file.write_bytes(b"")
        yield
    finally:
        for file in files:
            file.unlink(missing_ok=True)
