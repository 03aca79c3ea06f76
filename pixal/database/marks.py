"""Marks of inspectors: what they said about verdicts.

A row is added or withdrawn, and never removed or changed otherwise: two people who mark at the same time lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, cast

from sqlalchemy import ColumnElement, Connection, RowMapping, func, insert, select, update

from pixal.database.schema import BATCHES, MARKS, MODELS, PHOTOGRAPHS, VERDICTS
from pixal.errors import InputError

MarkName = Literal["confirmed", "false alarm", "missed", "comment"]

MARK_NAMES: tuple[MarkName, ...] = ("confirmed", "false alarm", "missed", "comment")
LONGEST_COMMENT, LONGEST_NAME = 2000, 80  # characters

_BOX = ("x", "y", "width", "height")
_REVIEWS = ("confirmed", "false alarm", "missed")  # the marks after which a part is not left any more


@dataclass(frozen=True)
class NewMark:
    """The mark of an inspector on a verdict.

    Attributes:
        mark: "confirmed" (the verdict is right), "false alarm" (a part that failed is good), "missed" (a defect was not
            found), or "comment" (a comment alone).
        box: x, y, width and height around the defect, in pixels of the photograph; None if it is not stated.
        comment: A text, at most 2000 characters.
    """

    mark: MarkName
    box: tuple[int, int, int, int] | None = None
    comment: str = ""


@dataclass(frozen=True)
class Mark:
    """A mark that holds.

    Attributes:
        id: Number of its row.
        mark: See ``NewMark``.
        box: See ``NewMark``.
        comment: See ``NewMark``.
        made_by: Who made it; "" if not known.
        made_at: When (UTC), ISO 8601.
        verdict: The verdict that was marked.
    """

    id: int
    mark: str
    box: tuple[int, int, int, int] | None
    comment: str
    made_by: str
    made_at: str
    verdict: str


def add_mark(connection: Connection, verdict: RowMapping, new: NewMark, by: str) -> int:
    """Store a mark, and withdraw those of the same person that it contradicts. Return the number of its row.

    A mark that the person has already made is not stored again, so that a request can be repeated.

    Args:
        connection: A transaction that may write.
        verdict: The verdict, as ``find_verdict`` returns it.
        new: The mark.
        by: Who makes it.

    Raises:
        InputError: The mark does not fit the verdict.
    """
    _check(verdict, new)
    mine = [mark for mark in marks_of(connection, verdict) if mark.made_by == by]
    for mark in mine:
        same = (new.mark, new.box, new.comment, verdict["verdict"])
        if (mark.mark, mark.box, mark.comment, mark.verdict) == same:
            return mark.id
    now = _now()
    _withdraw(connection, [mark.id for mark in mine if _contradicts(new, mark, verdict["verdict"])], by, now)
    box = dict(zip(_BOX, new.box or (None,) * 4, strict=True))
    values = {name: verdict[name] for name in ("batch", "type", "image", "photograph", "verdict", "score", "threshold")}
    values |= {"mark": new.mark, **box, "comment": new.comment, "made_by": by, "made_at": now}
    result = connection.execute(insert(MARKS), values | {"withdrawn_by": "", "withdrawn_at": ""})
    return cast("tuple[int]", result.inserted_primary_key)[0]


def undo_mark(connection: Connection, batch: str, by: str) -> RowMapping | None:
    """Withdraw the last mark of a person in a batch, and put back the marks that it had replaced.

    Returns:
        The row of the mark that was withdrawn; None if there is none.
    """
    holds = (MARKS.c.batch == batch, MARKS.c.made_by == by, MARKS.c.withdrawn_at == "")
    query = select(MARKS).where(*holds).order_by(MARKS.c.made_at.desc(), MARKS.c.id.desc()).limit(1)
    last = connection.execute(query).mappings().first()
    if last is None:
        return None
    _withdraw(connection, [last["id"]], by, _now())
    same = (MARKS.c[name] == last[name] for name in ("batch", "type", "image", "photograph"))
    replaced = select(MARKS).where(*same, MARKS.c.withdrawn_by == by, MARKS.c.withdrawn_at == last["made_at"])
    for row in connection.execute(replaced).mappings().all():
        values = {name: value for name, value in row.items() if name != "id"}
        connection.execute(insert(MARKS), values | {"withdrawn_by": "", "withdrawn_at": ""})
    return last


def withdraw_mark(connection: Connection, verdict: RowMapping, number: int, by: str) -> bool:
    """Withdraw one mark of a verdict. Return whether it held."""
    if number not in [mark.id for mark in marks_of(connection, verdict)]:
        return False
    _withdraw(connection, [number], by, _now())
    return True


def find_verdict(connection: Connection, batch_id: int, type_name: str, image: str) -> RowMapping | None:
    """The verdict on a photograph in a batch, with all that a mark holds of it and its model; None if there is none."""
    query = (
        select(
            *(VERDICTS.c[name] for name in ("id", "part_id", "type", "image", "verdict", "score", "threshold")),
            *(BATCHES.c.name.label("batch"), func.coalesce(PHOTOGRAPHS.c.sha256, "").label("photograph")),
            MODELS.c.sha256.label("model_sha256"),
        )
        .join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(BATCHES.c.id == batch_id, VERDICTS.c.type == type_name, VERDICTS.c.image == image)
    )
    return connection.execute(query).mappings().first()


def marks_of(connection: Connection, verdict: RowMapping) -> list[Mark]:
    """The marks on a photograph that hold, the first one first."""
    same = (MARKS.c[name] == verdict[name] for name in ("type", "image", "photograph"))
    query = select(MARKS).where(*same, MARKS.c.withdrawn_at == "").order_by(MARKS.c.made_at, MARKS.c.id)
    return [_as_mark(row) for row in connection.execute(query).mappings()]


def is_reviewed() -> ColumnElement[bool]:
    """Whether somebody has reviewed a verdict, for queries of verdicts joined with ``PHOTOGRAPHS``."""
    return is_marked(*_REVIEWS)


def is_marked(*marks: str) -> ColumnElement[bool]:
    """Whether a verdict has one of these marks, for queries of verdicts joined with ``PHOTOGRAPHS``."""
    same = (MARKS.c.type == VERDICTS.c.type, MARKS.c.image == VERDICTS.c.image)
    holds = (MARKS.c.photograph == PHOTOGRAPHS.c.sha256, MARKS.c.verdict == VERDICTS.c.verdict)
    return select(MARKS.c.id).where(*same, *holds, MARKS.c.withdrawn_at == "", MARKS.c.mark.in_(marks)).exists()


def _check(verdict: RowMapping, new: NewMark) -> None:
    """Raise ``InputError`` if a mark does not fit the verdict."""
    problem = ""
    if verdict["verdict"] == "error" and new.mark != "comment":
        problem = "a photograph that could not be processed has no verdict to review; write a comment"
    elif not verdict["photograph"]:
        problem = "the photograph is not known, because it could not be read"
    elif new.mark == "false alarm" and verdict["verdict"] != "fail":
        problem = "a part that passed cannot be a false alarm"
    elif len(new.comment) > LONGEST_COMMENT:
        problem = f"the comment has more than {LONGEST_COMMENT} characters"
    elif new.mark == "comment" and not new.comment.strip():
        problem = "the comment is empty"
    if problem:
        raise InputError(f"{verdict['type']}/{verdict['image']}: {problem}")


def _contradicts(new: NewMark, old: Mark, verdict: str) -> bool:
    """Whether a mark replaces an earlier one of the same person.

    A part may have several missed defects. What was said about another verdict, of an earlier model, is replaced.
    """
    if "comment" in (new.mark, old.mark):
        return new.mark == old.mark
    if old.verdict != verdict:
        return True
    if old.mark == new.mark == "missed":
        return old.box is None or old.box == new.box
    if "missed" in (new.mark, old.mark):
        return verdict == "pass"  # a part that failed may have another defect that was missed
    return True


def _withdraw(connection: Connection, numbers: list[int], by: str, now: str) -> None:
    if numbers:
        holds = (MARKS.c.id.in_(numbers), MARKS.c.withdrawn_at == "")
        connection.execute(update(MARKS).where(*holds).values(withdrawn_by=by, withdrawn_at=now))


def _as_mark(row: RowMapping) -> Mark:
    box = tuple(row[name] for name in _BOX)
    names: tuple[str, ...] = ("id", "mark", "comment", "made_by", "made_at", "verdict")
    values: dict[str, Any] = {name: row[name] for name in names}
    return Mark(**values, box=None if None in box else cast("tuple[int, int, int, int]", box))


def _now() -> str:
    """The time in microseconds, by which actions of one person are told apart."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
