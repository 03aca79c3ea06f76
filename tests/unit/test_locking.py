"""Tests of the folder lock: a second run on the same folder raises an error."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pixal.errors import InputError
from pixal.io.locking import lock_folder

pytest.importorskip("fcntl")


def hold(folder: Path, connection: Connection) -> None:
    with lock_folder(folder):
        connection.send("locked")
        signal.pause()


def test_another_process_holds_the_lock_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "validate" / "Part"
    receiver, sender = multiprocessing.Pipe()
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(folder, sender))
    other.start()
    assert receiver.recv() == "locked"
    with (
        pytest.raises(InputError, match=rf"another run of pixal is writing in {folder}; wait until it ends"),
        lock_folder(folder),
    ):
        pytest.fail("two at a time")
    assert other.pid
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with lock_folder(folder), lock_folder(tmp_path / "validate" / "Other"):
        assert list(folder.iterdir()) == []


def test_the_lock_is_released_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        1 / 0  # noqa: B018
    with lock_folder(tmp_path), pytest.raises(InputError, match="another run"), lock_folder(tmp_path):
        pytest.fail("two at a time")
