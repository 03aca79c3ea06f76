"""Tests of the folder lock: a second run on the same folder raises an error."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pixal.errors import InputError, ModelError
from pixal.io.locking import LOCK_FILE, explained_by_lock, lock_folder


def hold(folder: Path, connection: Connection) -> None:
    with lock_folder(folder):
        connection.send("locked")
        time.sleep(600)


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
    other.kill()
    other.join()
    with lock_folder(folder), lock_folder(tmp_path / "validate" / "Other"):
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
    assert list(folder.iterdir()) == []  # nothing that could be taken for a result, or for a file of the user


def test_the_lock_is_released_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock_folder(tmp_path):
        1 / 0  # noqa: B018
    with lock_folder(tmp_path), pytest.raises(InputError, match="another run"), lock_folder(tmp_path):
        pytest.fail("two at a time")


def count_up(folder: Path, times: int) -> None:
    """Add one to the number in a file, ``times`` times. Without a lock, some of the additions are lost."""
    number = folder / "number.txt"
    for _ in range(times):
        while True:
            try:
                with lock_folder(folder):
                    value = int(number.read_text())
                    time.sleep(0.001)
                    number.write_text(str(value + 1))
                break
            except InputError:
                time.sleep(0.001)


def test_a_lock_file_that_is_removed_lets_no_two_in(tmp_path: Path) -> None:
    (tmp_path / "number.txt").write_text("0")
    context = multiprocessing.get_context("spawn")
    runs = [context.Process(target=count_up, args=(tmp_path, 100)) for _ in range(4)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * 4
    assert (tmp_path / "number.txt").read_text() == "400"


def test_a_lock_file_left_behind_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("left")
    with lock_folder(tmp_path):
        pass


def test_a_failure_is_explained_by_the_run_that_holds_the_lock(tmp_path: Path) -> None:
    def read() -> None:
        with explained_by_lock(tmp_path):
            raise ModelError("it was never trained")

    with pytest.raises(ModelError, match="never trained"):
        read()
    assert list(tmp_path.iterdir()) == []
    with lock_folder(tmp_path), pytest.raises(InputError, match="another run of pixal is writing in"):
        read()
