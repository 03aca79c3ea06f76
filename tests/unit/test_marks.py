"""Marks in the database: what replaces what, undo, two people, and the table that goes out and comes in."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import write_results, write_settings
from sqlalchemy import RowMapping, select

from pixal.database.mark_table import export_marks, import_table
from pixal.database.marks import NewMark, add_mark, find_verdict, marks_of, undo_mark, withdraw_mark
from pixal.database.part_list import PartFilter, count_parts, find_batch, list_parts, part_order, views_of_part
from pixal.database.reviewed_parts import ReviewedParts, reviewed_good_parts
from pixal.database.schema import MARKS, MODELS, VERDICTS
from pixal.database.store import Store
from pixal.database.stored_marks import read_marks
from pixal.errors import InputError

FAILED, PASSED, ERROR = "0000.png", "0001.png", "0008.png"
BOX = (1, 2, 30, 40)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of nine parts with two views each."""
    folder = tmp_path_factory.mktemp("marks")
    config = write_settings(folder)
    write_results(config, 9, types=("back", "front"))
    return (folder / "validate/Part/history.db").read_bytes()


@pytest.fixture
def store(template: bytes, tmp_path: Path) -> Store:
    path = tmp_path / "history.db"
    path.write_bytes(template)
    return Store(path)


def batch_id(store: Store) -> int:
    with store.reading() as connection:
        batch = find_batch(connection, "lot1")
    assert batch is not None
    return int(batch["id"])


def verdict_on(connection: Any, image: str, type_name: str = "front") -> RowMapping:
    found = find_verdict(connection, 1, type_name, image)
    assert found is not None
    return found


def mark(store: Store, image: str, name: Any, by: str = "Ann", **more: Any) -> int:
    with store.writing() as connection:
        return add_mark(connection, verdict_on(connection, image), NewMark(name, **more), by)


def undo(store: Store, by: str = "Ann") -> str | None:
    with store.writing() as connection:
        undone = undo_mark(connection, "lot1", by)
    return None if undone is None else str(undone["mark"])


def holding(store: Store, image: str) -> list[tuple[str, str]]:
    with store.reading() as connection:
        return [(found.made_by, found.mark) for found in marks_of(connection, verdict_on(connection, image))]


def test_a_mark_replaces_only_those_of_the_same_person_that_it_contradicts(store: Store) -> None:
    mark(store, FAILED, "confirmed")
    mark(store, FAILED, "confirmed", by="Ben")
    mark(store, FAILED, "false alarm")
    assert holding(store, FAILED) == [("Ben", "confirmed"), ("Ann", "false alarm")]
    mark(store, FAILED, "missed", box=BOX)
    mark(store, FAILED, "missed", box=(5, 5, 5, 5))
    assert [name for by, name in holding(store, FAILED) if by == "Ann"] == ["false alarm", "missed", "missed"]
    mark(store, PASSED, "missed", box=BOX)
    mark(store, PASSED, "confirmed")  # a part that passed has nothing that was missed, or it has
    assert holding(store, PASSED) == [("Ann", "confirmed")]
    mark(store, PASSED, "comment", comment="one")
    mark(store, PASSED, "comment", comment="two")
    assert holding(store, PASSED) == [("Ann", "confirmed"), ("Ann", "comment")]


def test_what_was_said_about_another_verdict_is_replaced(store: Store) -> None:
    mark(store, FAILED, "confirmed")
    with store.writing() as connection:  # as a new model would
        connection.execute(VERDICTS.update().where(VERDICTS.c.image == FAILED).values(verdict="pass"))
        assert count_parts(connection, 1).reviewed == 0
    mark(store, FAILED, "confirmed")
    assert holding(store, FAILED) == [("Ann", "confirmed")]
    with store.reading() as connection:
        assert [found.verdict for found in marks_of(connection, verdict_on(connection, FAILED))] == ["pass"]
        assert count_parts(connection, 1).reviewed == 1
        assert not read_marks(connection)[-1].is_defective
    undo(store)
    assert holding(store, FAILED) == [("Ann", "confirmed")]


def test_the_same_mark_is_stored_once(store: Store) -> None:
    assert mark(store, FAILED, "missed", box=BOX) == mark(store, FAILED, "missed", box=BOX)
    assert len(holding(store, FAILED)) == 1


def test_undo_goes_back_step_by_step_and_restores_what_was_replaced(store: Store) -> None:
    mark(store, PASSED, "confirmed")
    mark(store, FAILED, "confirmed")
    mark(store, FAILED, "confirmed", by="Ben")
    mark(store, FAILED, "false alarm")
    assert undo(store) == "false alarm"
    assert sorted(holding(store, FAILED)) == [("Ann", "confirmed"), ("Ben", "confirmed")]
    assert undo(store) == "confirmed"
    assert holding(store, FAILED) == [("Ben", "confirmed")]
    assert undo(store) == "confirmed"
    assert holding(store, PASSED) == []
    assert undo(store) is None
    with store.reading() as connection:  # nothing was removed
        assert len(connection.execute(select(MARKS)).all()) == 5


@settings(max_examples=12)
@given(
    st.lists(
        st.tuples(st.sampled_from([FAILED, PASSED]), st.sampled_from(["confirmed", "missed", "comment"])), max_size=6
    )
)
def test_as_many_undos_as_marks_lead_back_through_all_states(template: bytes, actions: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "history.db")
        path.write_bytes(template)
        store = Store(path)
        states, known = [state_of(store)], set()
        for number, (image, name) in enumerate(actions):
            more: dict[str, Any] = {"comment": f"c{number}"} if name == "comment" else {}
            more |= {"box": (number, 0, 5, 5)} if name == "missed" else {}
            row = mark(store, image, name, **more)
            if row not in known:
                states.append(state_of(store))
            known.add(row)
        for expected in reversed(states[:-1]):
            assert undo(store) is not None
            assert state_of(store) == expected
        assert undo(store) is None


def state_of(store: Store) -> list[list[tuple[str, str]]]:
    return [sorted(holding(store, image)) for image in (FAILED, PASSED)]


@pytest.mark.parametrize(
    ("image", "name", "more", "problem"),
    [
        (PASSED, "false alarm", {}, "cannot be a false alarm"),
        (ERROR, "confirmed", {}, "could not be processed"),
        (FAILED, "comment", {}, "empty"),
        (FAILED, "comment", {"comment": "x" * 2001}, "2000"),
    ],
)
def test_a_mark_that_does_not_fit_is_refused(
    store: Store, image: str, name: str, more: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        mark(store, image, name, **more)


def test_counts_and_filters(store: Store) -> None:
    number = batch_id(store)
    mark(store, FAILED, "false alarm")
    mark(store, FAILED, "confirmed", by="Ben")
    mark(store, PASSED, "comment", comment="not a review")
    with store.reading() as connection:
        counts = count_parts(connection, number)
        assert (counts.photographs, counts.failed, counts.errors, counts.reviewed, counts.left) == (18, 6, 2, 1, 15)
        order = part_order(connection, number, PartFilter())
        assert [entry[2] for entry in order] == ["fail"] * 6 + ["pass"] * 10 + ["error"] * 2
        assert [entry[:2] for entry in part_order(connection, number, PartFilter(reviewed="wrong"))] == [
            ("front", FAILED)
        ]
        assert len(part_order(connection, number, PartFilter(reviewed="left"))) == 15
        assert len(part_order(connection, number, PartFilter(reviewed="reviewed", type="front"))) == 1
        assert len(part_order(connection, number, PartFilter(text="aligned"))) == 2
        assert part_order(connection, number, PartFilter(text="%")) == []
        total, rows = list_parts(connection, number, PartFilter(verdict="fail", order="name"), start=1, count=2)
        assert (total, [row["image"] for row in rows]) == (6, ["0003.png", "0006.png"])
        views = views_of_part(connection, verdict_on(connection, FAILED)["part_id"])
        assert [(view["type"], bool(view["is_reviewed"])) for view in views] == [("back", False), ("front", True)]


def test_the_exported_table_comes_in_as_it_was(store: Store, template: bytes, tmp_path: Path) -> None:
    mark(store, FAILED, "false alarm", by="Ann, =1+1")
    mark(store, PASSED, "missed", box=BOX, by="Ben")
    mark(store, PASSED, "comment", comment='a "comment", with commas', by="Ben")
    with store.reading() as connection:
        text = export_marks(connection, batch_id(store), "Part")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["mark"] for row in rows] == ["false alarm", "missed", "comment"]
    (tmp_path / "other.db").write_bytes(template)
    other = Store(tmp_path / "other.db")
    for expected in ((3, 0), (0, 3)):
        with other.writing() as connection:
            found = import_table(connection, b"\xef\xbb\xbf" + text.encode(), "t.csv")
        assert (found.stored, found.known) == expected
    with other.reading() as connection:
        assert export_marks(connection, batch_id(other), "Part") == text


def test_one_mark_can_be_taken_back(store: Store) -> None:
    mark(store, FAILED, "missed", box=BOX)
    number = mark(store, FAILED, "missed", box=(0, 0, 9, 9))
    with store.writing() as connection:
        assert withdraw_mark(connection, verdict_on(connection, FAILED), number, "Ben")
        assert not withdraw_mark(connection, verdict_on(connection, FAILED), number, "Ben")
        assert not withdraw_mark(connection, verdict_on(connection, PASSED), number - 1, "Ben")
    assert holding(store, FAILED) == [("Ann", "missed")]


def test_confirmed_good_parts_are_no_defects_and_comments_no_marks(store: Store) -> None:
    mark(store, PASSED, "confirmed")
    mark(store, FAILED, "confirmed")
    mark(store, FAILED, "comment", comment="dirt")
    with store.reading() as connection:
        defective = [(found.image, found.mark) for found in read_marks(connection) if found.is_defective]
        assert defective == [(FAILED, "confirmed")]


def test_a_part_that_failed_and_has_another_defect_counts_as_missed(store: Store) -> None:
    for other in ("false alarm", "confirmed"):
        mark(store, FAILED, "missed", box=BOX)
        mark(store, FAILED, other)
        with store.reading() as connection:
            found = next(found for found in read_marks(connection) if found.image == FAILED)
        assert (found.mark, found.boxes, found.found_is_right) == ("missed", (BOX,), other == "confirmed")


def test_good_parts_of_a_batch_count_when_all_that_failed_are_marked(store: Store) -> None:
    def failed(source: str = "new", unmarked: str = "") -> list[bool]:
        with store.reading() as connection:
            model = connection.execute(select(MODELS.c.sha256).where(MODELS.c.type == "front")).scalar_one()
            assert reviewed_good_parts(connection, "front", "another model", source) == ReviewedParts([])
            parts = reviewed_good_parts(connection, "front", model, source)
            assert parts.unmarked == unmarked
            return parts.failed

    mark(store, "0000.png", "false alarm")
    mark(store, "0003.png", "confirmed")
    assert failed(unmarked="lot1") == []  # 0006.png failed, too
    mark(store, "0006.png", "false alarm")
    mark(store, "0001.png", "missed")
    # good: 0000 and 0006, which failed, and 0002, 0004, 0005, 0007; 0008 could not be processed
    assert failed() == [True, False, False, False, True, False]
    undo(store)
    assert failed() == [True, False, False, False, False, True, False]
    mark(store, "0006.png", "confirmed", by="Ben")  # they disagree
    assert failed() == [True, False, False, False, False, False]
    with store.reading() as connection:
        batch = find_batch(connection, "lot1")
    assert batch is not None
    assert failed(str(batch["source"])) == []
