"""Files move as a whole: a move that is killed at any moment is completed, and nothing is lost, doubled or mixed."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Killed, kill_at

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import write_bytes
from pixal.io.handover import PLAN, finish, hand_over, is_unfinished, plan_move

NAMES = ("results.csv", "report_images/a.jpg", "front/maps/a.tiff", "front/maps/b.tiff", "front/\udcff name\n.txt")


def make(folder: Path, content: str, names: tuple[str, ...] = NAMES) -> None:
    """Claim ``folder`` and ``folder/front``, and write files whose content names them."""
    ownership.claim(folder)
    ownership.claim(folder / "front")
    for name in names:
        write_bytes(folder / name, f"{content} {name}".encode(errors="surrogateescape"))


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in (ownership.MANIFEST, PLAN)]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def swap(root: Path) -> None:
    """Move what is in ``root`` to ``batches/old``, and what is in ``batches/back`` to ``root``."""
    old, back = root / "batches/old", root / "batches/back"
    moves = [plan_move(root, old), plan_move(root / "front", old / "front")]
    hand_over(root, [*moves, plan_move(back, root), plan_move(back / "front", root / "front")])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A batch, an earlier one with files of the same names, and notes of the user."""
    folder = tmp_path / "results"
    make(folder, "old")
    make(folder / "batches/back", "new", (*NAMES, "metrics.json"))
    (folder / "front/maps/notes.txt").write_bytes(b"notes")
    (folder / "batches/back/notes.txt").write_bytes(b"notes")
    return folder


def expected() -> dict[str, bytes]:
    new, old = (
        {name: f"{content} {name}".encode(errors="surrogateescape") for name in (*NAMES, *more)}
        for content, more in (("new", ["metrics.json"]), ("old", []))
    )
    moved = {f"batches/old/{name}": value for name, value in old.items()}
    return new | moved | {"front/maps/notes.txt": b"notes", "batches/back/notes.txt": b"notes"}


def check(folder: Path) -> None:
    assert contents(folder) == expected()
    assert not is_unfinished(folder)
    copy = folder.with_name("copy")  # manifests are read anew in a folder of another name
    shutil.copytree(folder, copy)
    for name in expected():
        assert ownership.owns(copy / name) == ("notes" not in name), name
    ownership.remove_tree(copy)
    assert {path.name for path in copy.rglob("*") if path.is_file()} <= {"notes.txt", ownership.MANIFEST}


def test_two_batches_change_places(root: Path) -> None:
    swap(root)
    check(root)
    assert not (root / "batches/back/front").exists()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_kill_at_every_rename_loses_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """``tests/attacks/test_killed_batches.py`` has more kinds of calls, and whole batches."""
    for k in range(1, 100):
        work = tmp_path / f"try {k}" / "results"
        shutil.copytree(root, work)
        with monkeypatch.context() as patch:
            kill_at(patch, "rename", k, before=before)
            try:
                swap(work)
                break
            except Killed:
                assert is_unfinished(work)
                assert not (before and k == 1) or contents(work).keys() - {PLAN} == contents(root).keys()
        assert finish(work)
        check(work)
    assert k == 2 * len(NAMES) + 2  # one file more comes back


def test_a_file_that_was_put_in_the_place_of_a_moved_one_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, "rename", 2, before=False)
        with pytest.raises(Killed):
            swap(root)
    moved = [name for name in NAMES if (root / "batches/old" / name).exists()]
    assert len(moved) == 2
    (root / moved[0]).write_bytes(b"of the user")
    with pytest.raises(InputError, match="was not written by PIXAL and would be overwritten"):
        finish(root)  # where the batch that comes back has a file
    (root / moved[0]).rename(root / "mine")
    assert finish(root)
    assert (root / "mine").read_bytes() == b"of the user"
    (root / "mine").unlink()
    check(root)


def test_nothing_moves_where_a_file_is_in_the_way(root: Path) -> None:
    (root / "metrics.json").write_bytes(b"of the user")
    before = contents(root)
    with pytest.raises(InputError, match=r"metrics\.json was not written by PIXAL"):
        swap(root)
    assert contents(root) == before
    assert not is_unfinished(root)


def test_temporary_files_of_a_killed_run_do_not_move(root: Path) -> None:
    (root / "front/maps/.0123456789ab.a.tiff").write_bytes(b"half")
    swap(root)
    check(root)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
def test_to_another_disk(root: Path, monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    """``batches`` may be a link to another disk: the files are copied, also if this is interrupted."""
    rename = os.rename

    def other_disk(source: Any, target: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source))

    monkeypatch.setattr(os, "rename", other_disk)
    times = {path.name: path.stat().st_mtime_ns for path in (root / "front").rglob("*.tiff")}
    if k:
        with monkeypatch.context() as patch:
            kill_at(patch, "unlink", k, before=True)
            with pytest.raises(Killed):
                swap(root)
        finish(root)
    else:
        swap(root)
    monkeypatch.setattr(os, "rename", rename)
    check(root)
    assert {path.name: path.stat().st_mtime_ns for path in (root / "batches/old").rglob("*.tiff")} == times


def test_a_damaged_plan_says_what_to_do(root: Path) -> None:
    before = contents(root)
    ownership.note(root / PLAN)
    for content in (b"", b"[1]", b'[{"source": "a"}]', b"{"):
        (root / PLAN).write_bytes(content)
        with pytest.raises(InputError, match="is damaged; move what is left of the batch"):
            finish(root)
    (root / PLAN).unlink()
    assert contents(root) == before


def test_only_files_that_pixal_wrote_move(root: Path) -> None:
    """A plan that somebody has edited moves no file of the user."""
    write_bytes(
        root / PLAN,
        b'[{"source": "front/maps", "target": "x", "files": [{"name": "notes.txt", "size": 5, "modified": 0}]}]',
    )
    finish(root)
    assert (root / "front/maps/notes.txt").read_bytes() == b"notes"
