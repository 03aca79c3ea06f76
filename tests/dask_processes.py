"""Dask clusters: in the process of the test, or in processes of their own, as on other computers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import pixal
from pixal import execution
from pixal.config.schema import Execution

_ANY_PORT = ":0"  # for HTTP: another test may have a cluster at the same time


@contextmanager
def local_cluster(folder: Path) -> Iterator[Execution]:
    """Settings for a Dask cluster with two threads in this process."""
    distributed = pytest.importorskip("distributed")
    settings = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": _ANY_PORT}
    with distributed.LocalCluster(**settings, local_directory=str(folder)) as cluster:
        yield Execution(backend="dask", scheduler=cluster.scheduler_address)
        for connected in execution._clusters.values():
            connected.close()
        execution._clusters.clear()


@contextmanager
def separate_cluster(folder: Path, workers: int) -> Iterator[tuple[Execution, list[subprocess.Popen[bytes]]]]:
    """A scheduler (the first process) and workers, each in a process and a folder of its own."""
    pytest.importorskip("distributed")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    commands = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", _ANY_PORT]]
    commands += [["worker", address, "--nthreads", "1", "--no-nanny"]] * workers
    paths = (Path(pixal.__file__).parents[1], Path(__file__).parent, Path(__file__).parent / "unit")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    processes = []
    try:
        for number, (name, *options) in enumerate(commands):
            own = folder / f"{name}{number}"
            own.mkdir()
            options += ["--no-dashboard", *(["--local-directory", str(own)] if name == "worker" else [])]
            command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *options]
            with (own / "log").open("wb") as log:
                processes.append(subprocess.Popen(command, cwd=own, env=environment, stderr=log, stdout=log))
        settings = Execution(backend="dask", scheduler=address)
        while len(execution._cluster(address).client.nthreads()) < workers:
            time.sleep(0.1)
        yield settings, processes
    finally:
        for process in processes[1:] + processes[:1]:
            process.kill()
            process.wait()
        execution._clusters.pop(address).close()
