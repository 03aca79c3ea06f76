"""Tests of a full disk, of folders that are not writable, and of files that a power cut must not leave empty."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixal import cli
from pixal.errors import StorageError
from pixal.io import files
from pixal.io.arrays import create_map, save_arrays
from pixal.io.files import AppendedFile, atomic_write, read_bytes, reserve, storage_error, write_bytes
from pixal.io.growing import GrowingRows
from pixal.io.logs import log_to_file
from pixal.io.records import write_record, write_table

SPACE = 1_000_000  # bytes of the small file system


@pytest.fixture
def small_disk(new_disk: Callable[[int], Path]) -> Path:
    """A file system that holds a megabyte."""
    return new_disk(SPACE)


def fill(folder: Path, free: int) -> None:
    """Leave ``free`` bytes on a file system."""
    available = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        file.write(bytes(available.f_bavail * available.f_frsize - free))


class TestFullDisk:
    def test_a_memory_map_is_reserved_before_it_is_written(self, small_disk: Path) -> None:
        with pytest.raises(StorageError, match=r"errors\.npy cannot be written: No space left.*free some space"):
            create_map(small_disk / "errors.npy", (2, 300, 300, 2))
        assert list(small_disk.iterdir()) == []
        errors = create_map(small_disk / "errors.npy", (2, 300, 300))
        fill(small_disk, 0)
        errors[:] = 1  # would end the process with SIGBUS if the blocks were not there

    def test_without_fallocate_zeros_are_written(self, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EOPNOTSUPP, "not supported")

        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
        with pytest.raises(StorageError, match="No space left"):
            create_map(small_disk / "a.npy", (300_000,))
        (small_disk / "b").write_bytes(b"kept")
        reserve(small_disk / "b", 500_000)
        assert (small_disk / "b").read_bytes() == b"kept" + bytes(499_996)
        assert os.stat(small_disk / "b").st_blocks * 512 >= 500_000  # noqa: PTH116

    def test_each_writer_names_the_file_and_leaves_the_old_one(self, small_disk: Path) -> None:
        target = small_disk / "target"
        data = np.random.default_rng(0).bytes(200_000)

        def append() -> None:
            file = AppendedFile(target)
            try:
                file.write(data)
            finally:
                file.close()

        def grow() -> None:
            rows = GrowingRows(target, 50_000)
            rows.start()
            rows.append(np.zeros(50_000, np.float32))

        writers = {
            "bytes": lambda: write_bytes(target, data),
            "arrays": lambda: save_arrays(target, values=np.frombuffer(data, np.uint8)),
            "record": lambda: write_record(target, {"text": data.hex()}),
            "table": lambda: write_table(target, ["text"], [{"text": data.hex()}]),
            "journal": append,
            "rows": grow,
        }
        write_bytes(target, b"old")
        fill(small_disk, 50_000)
        for name, write in writers.items():
            with pytest.raises(StorageError, match=rf"{target} cannot be written: No space left") as caught:
                write()
            assert "\n" not in str(caught.value), name
            if name not in ("journal", "rows"):
                assert target.read_bytes() == b"old", name
            assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "target"], name

    def test_a_log_that_does_not_fit_costs_nothing_else(
        self, small_disk: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with log_to_file(small_disk / "logs", "train"):
            fill(small_disk, 0)
            for _ in range(100):
                logging.getLogger("pixal.somewhere").warning("x" * 1000)
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err


class TestNotWritable:
    @pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG])
    def test_each_cause_is_one_line_that_says_what_to_do(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def refuse(path: Path, *_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(StorageError, match=rf"a\.bin cannot be written: {os.strerror(number)}; .+") as caught:
            write_bytes(tmp_path / "a.bin", b"x")
        assert "\n" not in str(caught.value)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, *_: Any, **__: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(StorageError, match="Permission denied; change its permissions"):
            write_bytes(tmp_path / "new/a.bin", b"x")

    def test_a_file_that_the_block_may_not_read_is_not_blamed_on_the_target(self, tmp_path: Path) -> None:
        with pytest.raises(PermissionError), atomic_write(tmp_path / "a"):
            raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/photograph.png")

    def test_other_errors_of_the_system_are_no_storage_errors(self) -> None:
        assert storage_error(OSError(errno.ENOENT, "missing")) is None
        assert storage_error(OSError("Unable to create file (file write failed: errno = 28, ...)")) is not None

    def test_the_command_line_reports_what_no_writer_caught(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system", "/data/out/logs")

        monkeypatch.setattr("pixal.train", fail)
        assert cli.main(["train"]) == 2
        message = capsys.readouterr().err
        assert message.startswith("pixal: error: /data/out/logs cannot be used: Read-only file system; ")
        assert message.count("\n") == 1


class TestPowerCut:
    """The order of the calls to the operating system. A power cut itself cannot be tested."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
        """Return the list to which each sync and each rename is added."""
        calls: list[tuple[str, str]] = []
        sync, rename = os.fsync, Path.replace

        def spy_sync(descriptor: int) -> None:
            calls.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
            sync(descriptor)

        def spy_rename(path: Path, target: Path) -> Path:
            calls.append(("rename", path.name))
            return rename(path, target)

        monkeypatch.setattr(files.os, "fsync", spy_sync)
        monkeypatch.setattr(Path, "replace", spy_rename)
        return calls

    def test_the_file_is_synced_before_its_name_and_then_the_folder(
        self, tmp_path: Path, calls: list[tuple[str, str]]
    ) -> None:
        write_record(tmp_path / "a.yaml", {"a": 1})
        (first, temporary), second, third = calls
        assert first == "sync"
        assert temporary.endswith("a.yaml")
        assert [second, third] == [("rename", temporary), ("sync", tmp_path.name)]

    def test_a_growing_file_and_a_journal_are_synced_when_they_end(
        self, tmp_path: Path, calls: list[tuple[str, str]]
    ) -> None:
        rows = GrowingRows(tmp_path / "rows.part", 4)
        rows.start()
        rows.append(np.ones(4, np.float32))
        rows.finish(tmp_path / "out.npz", {})
        assert calls == [("sync", "rows.part"), ("rename", "rows.part"), ("sync", tmp_path.name)]
        calls.clear()
        journal = AppendedFile(tmp_path / "a.journal")
        journal.write(b"line\n")
        journal.close()
        assert calls == [("sync", "a.journal")]

    def test_an_image_is_not_synced(self, tmp_path: Path, calls: list[tuple[str, str]]) -> None:
        write_bytes(tmp_path / "a.png", b"image", sync=False)
        assert [kind for kind, _ in calls] == ["rename"]


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 251 + ".png", "é" * 125 + ".png"):
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(files.InputError, match="not a regular file"):
        read_bytes(tmp_path / "a.png")
