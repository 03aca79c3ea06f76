"""Stored verdicts and their inputs: resuming, adding, reordering; and the settings that a verdict's key covers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from pixal.config.section import Mark, marked
from pixal.inputs import InputSet
from pixal.report.document import PartResult
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.settings import Plotting, Validation
from pixal.tasks.photographs.verdicts.type_verdicts import verdict_key
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict, VerdictStore

SHAPE = (2, 3, 2)


def input_of(name: str) -> NDArray[np.float32]:
    return np.random.default_rng(ord(name)).random(SHAPE).astype(np.float32)


def verdict_on(name: str, status: Any = "ok") -> StoredVerdict:
    nothing = dict.fromkeys(("score", "p_value", "threshold", "overlay", "width", "height"))
    part = {**nothing, "type": "front", "image": name, "source": name, "verdict": "error", "reason": "test"}
    record = PhotographRecord(image=name, name=name, source=name, status=status)
    return StoredVerdict(
        source=f"/{name}", stat=(1, 2, 3), key="k", record=record, part=PartResult.model_validate(part)
    )


def open_store(folder: Path, types: tuple[str, ...] = ()) -> VerdictStore:
    return VerdictStore(
        folder / "metadata", folder / "out.npz", shape=SHAPE, channels=("R", "G"), type_name="front", types=types
    )


def add(store: VerdictStore, names: str) -> None:
    with store:
        for name in names:
            store.add(verdict_on(name), input_of(name))


def write(store: VerdictStore, names: str) -> None:
    store.write_inputs([store.verdicts[f"/{name}"] for name in names])


def assert_holds(folder: Path, names: str) -> None:
    """``out.npz`` and a newly opened store hold exactly the inputs of ``names``, in this order."""
    inputs = InputSet.load(folder / "out.npz")
    assert inputs.names == tuple(names)
    assert not list(folder.glob("*inputs.part"))
    store = open_store(folder)
    assert set(store.verdicts) == {f"/{name}" for name in names}
    for row, name in enumerate(names):
        np.testing.assert_array_equal(inputs.images(slice(row, row + 1))[0], input_of(name))
        np.testing.assert_array_equal(store.read_input(store.verdicts[f"/{name}"]), input_of(name))


def test_the_inputs_of_a_new_batch_are_written_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add(store, "abc")
    written = (tmp_path / "inputs.part").stat().st_ino
    write(store, "abc")
    assert (tmp_path / "out.npz").stat().st_ino == written
    assert_holds(tmp_path, "abc")


def test_later_photographs_are_appended_to_the_same_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add(store, "ab")
    write(store, "ab")
    written = (tmp_path / "out.npz").stat().st_ino
    add(store, "c")  # in the same run
    write(store, "abc")
    assert (tmp_path / "out.npz").stat().st_ino == written
    store = open_store(tmp_path)  # in the next run
    add(store, "d")
    write(store, "abcd")
    assert (tmp_path / "out.npz").stat().st_ino == written
    assert_holds(tmp_path, "abcd")


def test_verdicts_that_are_removed_while_others_are_added_are_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with store:
        for name in "ab":
            store.add(verdict_on(name), input_of(name))
        del store.verdicts["/a"]
        store.rewrite_journal()
        store.add(verdict_on("c"), input_of("c"))
    assert set(open_store(tmp_path).verdicts) == {"/b", "/c"}
    write(store, "bc")
    assert_holds(tmp_path, "bc")


def test_rows_are_right_after_a_kill_between_a_new_archive_and_its_journal(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add(store, "abc")
    journal = (tmp_path / "metadata/judged.journal").read_bytes()
    write(store, "cab")
    (tmp_path / "metadata/judged.journal").write_bytes(journal)
    store = open_store(tmp_path)
    add(store, "d")
    assert set(open_store(tmp_path).verdicts) == {f"/{name}" for name in "abcd"}
    store = open_store(tmp_path)
    write(store, "abcd")
    assert_holds(tmp_path, "abcd")


def test_a_finished_batch_is_not_written_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add(store, "ab")
    write(store, "ab")
    before = (tmp_path / "out.npz").stat()
    again = open_store(tmp_path)
    write(again, "ab")
    assert (tmp_path / "out.npz").stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("names", ["bca", "ca", "b"])
@pytest.mark.parametrize("is_finished", [True, False])
def test_parts_are_removed_and_reordered(tmp_path: Path, names: str, is_finished: bool) -> None:
    store = open_store(tmp_path)
    add(store, "abc")
    if is_finished:
        write(store, "abc")
        store = open_store(tmp_path)
    for name in set("abc") - set(names):
        del store.verdicts[f"/{name}"]
    store.rewrite_journal()
    write(store, names)
    assert_holds(tmp_path, names)
    add(store, "d")  # at the row that follows
    write(store, names + "d")
    assert_holds(tmp_path, names + "d")


def test_an_interrupted_run_keeps_what_is_complete(tmp_path: Path) -> None:
    add(open_store(tmp_path), "ab")
    with (tmp_path / "inputs.part").open("ab") as file:
        file.write(b"half an input")
    with (tmp_path / "metadata/judged.journal").open("ab") as file:
        file.write(b'{"source": "/c", "sta')
    store = open_store(tmp_path)
    assert set(store.verdicts) == {"/a", "/b"}
    store.rewrite_journal()
    add(store, "c")
    write(store, "abc")
    assert_holds(tmp_path, "abc")


def test_a_verdict_without_its_input_is_dropped(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add(store, "ab")
    with store:
        store.add(verdict_on("x", "failed"))
    (tmp_path / "inputs.part").unlink()
    assert set(open_store(tmp_path).verdicts) == {"/x"}  # a photograph that could not be prepared has no input
    with pytest.raises(ValueError, match="has no input"):
        store.read_input(store.verdicts["/x"])


def test_an_archive_of_another_writer_can_be_extended(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    add(store, "ab")
    write(store, "ab")
    with np.load(tmp_path / "out.npz") as file:
        arrays = dict(file)
    np.savez_compressed(tmp_path / "out.npz", **arrays)
    store = open_store(tmp_path)
    add(store, "c")
    write(store, "abc")
    assert_holds(tmp_path, "abc")


def test_one_hot_labels_name_the_type(tmp_path: Path) -> None:
    store = open_store(tmp_path, types=("back", "front"))
    add(store, "ab")
    write(store, "ab")
    inputs = InputSet.load(tmp_path / "out.npz")
    assert inputs.types == ("back", "front")
    assert inputs.labels is not None
    np.testing.assert_array_equal(inputs.labels, [[0, 1], [0, 1]])


def changes(section: BaseModel) -> Iterator[tuple[str, BaseModel]]:
    """Each setting of a section, and the section with another valid value of this setting."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        candidates: list[Any] = [{"method": "fixed", "value": 3.0}, 0.5, 0.25, 7, *get_args(field.annotation)]
        candidates += ["(part)", {"command": "true"}]
        if isinstance(value, bool):
            candidates = [not value]
        for candidate in candidates:
            try:
                changed = type(section).model_validate(section.model_dump() | {name: candidate})
            except ValidationError:
                continue
            if getattr(changed, name) != value:
                yield name, changed
                break
        else:
            raise AssertionError(f"no other value known for {name}")


@pytest.mark.parametrize("section", [Validation(), Plotting()], ids=lambda section: type(section).__name__)
def test_a_verdict_depends_on_each_setting_that_is_not_marked(section: BaseModel) -> None:
    def key(section: BaseModel) -> str:
        validation = section if isinstance(section, Validation) else Validation()
        plotting = section if isinstance(section, Plotting) else Plotting()
        return verdict_key("prepared", {}, validation, plotting)

    changed = dict(changes(section))
    assert set(changed) == set(type(section).model_fields)
    with_same_key = {name for name, other in changed.items() if key(other) == key(section)}
    assert with_same_key == marked(type(section), Mark.NO_RESULT)


def test_a_verdict_depends_on_inputs_and_model() -> None:
    keys = {
        verdict_key(prepared, files, Validation(), Plotting())
        for prepared in ("one", "other")
        for files in ({"model.keras": "1"}, {"model.keras": "2"})
    }
    assert len(keys) == 4
