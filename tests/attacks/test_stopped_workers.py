"""Ctrl-C in a terminal, which goes to the worker processes, too: one message, and no process is left."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import ForkServer
from tries import tries

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs process groups")]

LONGEST = 3.0  # seconds until the signal; the workers are being started and imported in most of them


@pytest.fixture(scope="module")
def working() -> Iterator[ForkServer]:
    with ForkServer("working_processes:main", ("working_processes",)) as server:
        yield server


@pytest.mark.parametrize("seed", range(tries(4, 60)))
def test_workers_are_stopped_while_they_start_and_work(working: ForkServer, tmp_path: Path, seed: int) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    command = working.start(folder, "")
    time.sleep(random.Random(seed).uniform(0.1, LONGEST))
    command.kill(signal.SIGINT)
    assert command.wait() == 130, command.output
    command.wait_for_group()
    assert command.output == "interrupted\n"
