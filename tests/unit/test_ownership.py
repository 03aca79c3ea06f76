"""PIXAL removes and replaces only files that it wrote."""

from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import write_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A claimed folder with one file that PIXAL wrote and one that it did not write."""
    ownership.claim(tmp_path / "out")
    write_bytes(tmp_path / "out/front/ours.txt", b"ours")
    (tmp_path / "out/front/notes.txt").write_bytes(b"notes")
    return tmp_path / "out"


def test_only_files_that_pixal_wrote_are_removed(folder: Path) -> None:
    ownership.remove(folder / "front/notes.txt")
    ownership.remove_tree(folder / "front")
    assert [path.name for path in (folder / "front").iterdir()] == ["notes.txt"]
    assert not ownership.owns(folder / "front/ours.txt")


def test_a_folder_is_removed_when_it_is_empty(folder: Path) -> None:
    (folder / "front/notes.txt").unlink()
    ownership.remove_tree(folder)
    assert not folder.exists()


def test_a_strangers_file_is_not_overwritten(folder: Path) -> None:
    with pytest.raises(InputError, match=r"notes\.txt was not written by PIXAL"):
        write_bytes(folder / "front/notes.txt", b"new")
    assert (folder / "front/notes.txt").read_bytes() == b"notes"
    write_bytes(folder / "front/ours.txt", b"new")
    assert (folder / "front/ours.txt").read_bytes() == b"new"


def test_a_file_that_takes_the_place_of_a_removed_one_is_a_strangers(folder: Path) -> None:
    ownership.remove(folder / "front/ours.txt")
    (folder / "front/ours.txt").write_bytes(b"of the user")
    ownership.remove_tree(folder)
    assert (folder / "front/ours.txt").read_bytes() == b"of the user"


def test_no_strangers_file_is_removed_outside_claimed_folders(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"x")
    write_bytes(tmp_path / "ours.txt", b"x")
    ownership.remove(tmp_path / "file.txt")
    ownership.remove_tree(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]  # what this process wrote is known


def test_the_temporary_file_of_a_killed_run_is_removed(folder: Path) -> None:
    (folder / "front/.0123456789ab.ours.txt").write_bytes(b"half")
    (folder / "front/.0123456789ab.notes.txt").write_bytes(b"a stranger's")
    ownership.remove_tree(folder)
    assert {path.name for path in (folder / "front").iterdir()} == {"notes.txt", ".0123456789ab.notes.txt"}


def test_a_manifest_that_was_cut_off_loses_only_its_last_line(folder: Path) -> None:
    manifest = folder / ownership.MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b'+"front/no')
    write_bytes(folder / "front/later.txt", b"x")
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)  # a manifest is read anew in a folder of another name
    assert ownership.owns(copy / "front/ours.txt")
    assert ownership.owns(copy / "front/later.txt")
    assert not ownership.owns(copy / "front/notes.txt")


def test_names_of_any_bytes(folder: Path) -> None:
    names = ["line\nbreak", "tab\t", "ümlaut", "\udcff\udcfe", '"quoted"', "back\\slash"]
    for name in names:
        write_bytes(folder / name, b"x")
    shutil.copytree(folder, folder.with_name("copy"))
    assert all(ownership.owns(folder.with_name("copy") / name) for name in names)


def test_a_manifest_is_compacted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_COMPACT_FROM", 10)
    for _ in range(20):
        ownership.remove(folder / "figure.png")
        write_bytes(folder / "figure.png", b"x")
    ownership.claim(folder)
    assert len((folder / ownership.MANIFEST).read_text().splitlines()) == 3
    assert ownership.owns(folder / "figure.png")
    assert ownership.owns(folder / "front/ours.txt")


def test_worker_processes_add_to_one_manifest(folder: Path) -> None:
    paths = [folder / f"{index}.txt" for index in range(40)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(partial(write_bytes, data=b"x"), paths))
    assert all(map(ownership.owns, paths))


def test_temporary_files_of_killed_runs_are_removed(folder: Path) -> None:
    """Those of PIXAL only, and none in a claimed folder inside, where another run may be writing."""
    unfinished, name = f".{12 * 'a'}.ours.txt", f".{12 * 'a'}.notes.txt"
    inner = folder / "back"
    ownership.claim(inner)
    write_bytes(inner / "ours.txt", b"ours")
    for path in (folder / "front" / unfinished, folder / "front" / name, inner / unfinished):
        path.write_bytes(b"half")
    (folder / f".{12 * 'b'}{ownership.MANIFEST}").write_bytes(b"half")
    ownership.remove_unfinished(folder)
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    manifests = {ownership.MANIFEST, f"back/{ownership.MANIFEST}"}
    assert left == {
        "front/ours.txt",
        "front/notes.txt",
        f"front/{name}",
        "back/ours.txt",
        f"back/{unfinished}",
        *manifests,
    }
    ownership.remove_unfinished(inner)
    assert not (inner / unfinished).exists()
