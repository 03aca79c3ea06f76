"""Tracking stores that are killed while they are made, damaged, on a full disk, or servers that answer nonsense.

A run costs ten seconds at most then, gives one warning, and is kept. The servers that are silent and slow are in
``tests/unit/test_tracking_mlflow.py``.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from processes import Command, ForkServer
from tries import tries

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs process groups")]

MODULES = ("mlflow.tracking.client", "mlflow.store.tracking.rest_store", "mlflow.store.artifact.local_artifact_repo")
LIMIT = 15.0  # seconds: the limit of PIXAL for a server, and some for a loaded machine
LOCAL_LIMIT = 240  # seconds for the store in the working directory: the process that writes it has a low priority
DISK = 3_000_000  # bytes


@pytest.fixture(scope="module")
def tracking() -> Iterator[ForkServer]:
    with ForkServer("tracked:main", ("tracked", *MODULES)) as started:
        yield started


@pytest.fixture(scope="module")
def store(tracking: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A store with one run, and how long it took to make."""
    folder = tmp_path_factory.mktemp("store")
    start = time.monotonic()
    assert run(tracking, folder).wait() == 0
    assert runs(folder) == ["FINISHED"]
    return folder / "mlflow.db", time.monotonic() - start


def run(tracking: ForkServer, folder: Path, **environment: str) -> Command:
    """A tracked run. PIXAL's own limit holds for a server; a loaded machine may need longer for a local store."""
    if "MLFLOW_TRACKING_URI" not in environment:
        environment["PIXAL_TRACKING_TIMEOUT"] = str(LOCAL_LIMIT)
    return tracking.start(folder, "", PIXAL_TRACKING="on", **environment)


def runs(folder: Path) -> list[str]:
    """How the runs in a store have ended."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)
        return [status for (status,) in database.execute("SELECT status FROM runs")]


def kept(folder: Path) -> int:
    return len(list((folder / "mlflow_unsent").glob("*.jsonl")))


def wait_until_sent(folder: Path) -> None:
    """On a slow machine another process still sends the runs that were kept."""
    end = time.monotonic() + LOCAL_LIMIT
    while (kept(folder) or set(runs(folder)) != {"FINISHED"}) and time.monotonic() < end:
        time.sleep(0.2)


def check_warning(command: Command, limit: float = LIMIT) -> None:
    """The command has ended in time, with one line about the run."""
    assert command.wait() == 0, command.output
    found = re.search(r"^seconds ([\d.]+)$", command.output, re.MULTILINE)
    assert found is not None
    assert float(found[1]) < limit
    assert command.output.count("is not in MLflow") == 1, command.output
    assert "Traceback" not in command.output, command.output


@pytest.mark.parametrize("seed", range(tries(1, 40)))
def test_a_kill_while_the_store_is_made(
    tracking: ForkServer, store: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    generator, folder = random.Random(seed), tmp_path / "work"
    folder.mkdir()
    command = run(tracking, folder)
    time.sleep(generator.uniform(0, store[1]))
    with suppress(ProcessLookupError):
        command.kill(signal.SIGKILL)
    assert command.wait() in (-signal.SIGKILL, 0)
    again = run(tracking, folder)
    assert again.wait() == 0
    assert "is not in MLflow" not in again.output, again.output
    assert runs(folder)[-1] == "FINISHED"
    end = time.monotonic() + LOCAL_LIMIT  # the process that sends the first run may outlive the second one
    while (left := {path.name for path in folder.iterdir()} - {"artifact.txt", "mlflow.db", "mlruns"}) and (
        time.monotonic() < end
    ):
        time.sleep(0.2)
    assert not left


@pytest.mark.parametrize("seed", range(tries(1, 40)))
def test_a_damaged_store(tracking: ForkServer, store: tuple[Path, float], tmp_path: Path, seed: int) -> None:
    """It is never deleted; the run is stored, or kept and stored when there is a whole store."""
    generator, folder = random.Random(seed), tmp_path / "work"
    folder.mkdir()
    whole = store[0].read_bytes()
    data = bytearray(whole)
    kind = generator.choice(["cut", "zeros", "bytes", "text"])
    if kind == "cut":
        del data[generator.randrange(len(data)) :]
    elif kind == "zeros":
        start = generator.randrange(len(data))
        data[start : start + 50_000] = bytes(len(data[start : start + 50_000]))
    elif kind == "text":
        data[:] = b"no database at all\n" * generator.randint(1, 1000)
    for _ in range(200 if kind == "bytes" else 0):
        data[generator.randrange(len(data))] = generator.randrange(256)
    (folder / "mlflow.db").write_bytes(data)
    command = run(tracking, folder)
    assert command.wait() == 0, command.output
    if "is not in MLflow" not in command.output:
        return
    check_warning(command, LOCAL_LIMIT)
    assert kept(folder) == 1
    assert (folder / "mlflow.db").read_bytes()[:100] == bytes(data)[:100]
    (folder / "mlflow.db").write_bytes(whole)
    again = run(tracking, folder)
    assert again.wait() == 0
    assert "is not in MLflow" not in again.output, again.output
    wait_until_sent(folder)
    assert runs(folder) == ["FINISHED"] * 3
    assert kept(folder) == 0


@contextmanager
def answering(kind: str) -> Iterator[str]:
    """The address of a server with a fault."""
    answers = {
        "garbage": b"\x00\xff\x13garbage\r\n" * 100,
        "error": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\nnone",
        "page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
        "list": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        "cut": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        "redirect": b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n",
        "unauthorized": b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        "closed": b"",
    }
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.recv(65536)
                    connection.sendall(answers[kind])

        if kind == "refused":
            server.close()
            yield address
            return
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield address
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


FAULTS = ["refused", "garbage", "error", "page", "list", "cut", "redirect", "unauthorized", "closed"]


@pytest.mark.parametrize("kind", FAULTS[: tries(3, len(FAULTS))])
def test_a_server_with_a_fault(tracking: ForkServer, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with answering(kind) as address:
        command = run(tracking, folder, MLFLOW_TRACKING_URI=address)
        check_warning(command)
    assert kept(folder) == 1
    assert not (folder / "mlflow.db").exists()


@pytest.mark.parametrize("with_store", [False, True])
@pytest.mark.parametrize("free", [20_000, 100_000, 300_000, 600_000][: tries(1, 4)])
def test_a_full_disk(
    tracking: ForkServer, store: tuple[Path, float], new_disk: Callable[[int], Path], free: int, with_store: bool
) -> None:
    disk = new_disk(DISK)
    if with_store:
        shutil.copy(store[0], disk / "mlflow.db")
    state = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(state.f_bavail * state.f_frsize - free))
    command = run(tracking, disk)
    assert command.wait() == 0, command.output
    if "is not in MLflow" in command.output:
        check_warning(command, LOCAL_LIMIT)
        assert not [path for path in disk.iterdir() if re.match(r"\.[0-9a-f]{12}\.", path.name)]
    (disk / "filler").unlink()
    before = kept(disk)
    again = run(tracking, disk)
    assert again.wait() == 0
    assert "is not in MLflow" not in again.output, again.output
    wait_until_sent(disk)
    assert set(runs(disk)) == {"FINISHED"}
    assert kept(disk) == 0
    assert len(runs(disk)) >= 1 + before + with_store
