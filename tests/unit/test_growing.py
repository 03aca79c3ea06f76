"""Rows in a growing file, which becomes an archive without being copied."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from pixal.inputs import InputSet
from pixal.io.growing import GrowingRows

SHAPE = (2, 3, 2)
ROWS = np.random.default_rng(0).random((5, *SHAPE)).astype(np.float32)
OTHERS = {"shape": np.array(SHAPE), "channels": np.array(["R", "G"]), "names": np.array(list("abcde"))}


@pytest.fixture
def growing(tmp_path: Path) -> GrowingRows:
    return GrowingRows(tmp_path / "inputs.part", 12)


def fill(growing: GrowingRows, count: int) -> None:
    growing.start()
    assert [growing.append(row) for row in ROWS[:count]] == list(range(count))


def test_the_file_becomes_an_archive_without_a_copy(growing: GrowingRows, tmp_path: Path) -> None:
    fill(growing, 5)
    inode = growing.path.stat().st_ino
    growing.finish(tmp_path / "out.npz", OTHERS)
    assert not growing.path.exists()
    assert (tmp_path / "out.npz").stat().st_ino == inode
    with zipfile.ZipFile(tmp_path / "out.npz") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["data.npy", "shape.npy", "channels.npy", "names.npy"]
    with np.load(tmp_path / "out.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["data"], ROWS.reshape(5, -1))
        for name, values in OTHERS.items():
            np.testing.assert_array_equal(file[name], values)
    inputs = InputSet.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(inputs.data, ROWS.reshape(5, -1))
    assert isinstance(inputs.data, np.memmap)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("one", "other"):
        growing = GrowingRows(tmp_path / f"{name}.part", 12)
        fill(growing, 5)
        growing.finish(tmp_path / f"{name}.npz", OTHERS)
        files.append((tmp_path / f"{name}.npz").read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("count", [0, 1])
def test_few_rows_make_an_archive_too(growing: GrowingRows, tmp_path: Path, count: int) -> None:
    fill(growing, count)
    growing.finish(tmp_path / "out.npz", OTHERS | {"names": np.array(list("abcde"[:count]), str)})
    assert InputSet.load(tmp_path / "out.npz").data.shape == (count, 12)


def test_a_row_that_was_cut_short_is_replaced(growing: GrowingRows) -> None:
    fill(growing, 3)
    with growing.path.open("ab") as file:
        file.write(b"half a row")
    assert len(growing) == 3
    growing.start(keep=2)
    assert growing.append(ROWS[4]) == 2
    np.testing.assert_array_equal(growing.read(2), ROWS[4].ravel())
    np.testing.assert_array_equal(growing.read(1), ROWS[1].ravel())


def test_a_finished_archive_grows_further(growing: GrowingRows, tmp_path: Path) -> None:
    fill(growing, 3)
    growing.finish(tmp_path / "out.npz", OTHERS | {"names": np.array(list("abc"))})
    assert growing.reopen(tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
    growing.start(keep=3)
    for row in ROWS[3:]:
        growing.append(row)
    growing.finish(tmp_path / "out.npz", OTHERS)
    inputs = InputSet.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(inputs.data, ROWS.reshape(5, -1))
    assert inputs.names == tuple("abcde")


def test_an_archive_of_another_layout_stays(growing: GrowingRows, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "compressed.npz", data=ROWS.reshape(5, -1), **OTHERS)
    (tmp_path / "empty.npz").write_bytes(b"")
    fill(growing, 2)
    growing.finish(tmp_path / "out.npz", OTHERS | {"names": np.array(["a", "b"])})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not growing.reopen(tmp_path / "compressed.npz")
    assert not growing.reopen(tmp_path / "empty.npz")
    assert not GrowingRows(tmp_path / "wider.part", 13).reopen(tmp_path / "out.npz")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
