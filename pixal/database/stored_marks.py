"""Read the marks of inspectors: the ones that hold, one per photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from pixal.database.schema import MARKS

FALSE_ALARM, CONFIRMED, MISSED, COMMENT = "false alarm", "confirmed", "missed", "comment"
CONFIRMED_GOOD = "confirmed good"
"""The name of a confirmed pass in this module."""


@dataclass(frozen=True)
class Mark:
    """The mark of an inspector on a photograph.

    Attributes:
        batch: Name of the batch.
        type: Image type.
        image: Name of the photograph.
        photograph: SHA-256 of the photograph; "" if not known.
        verdict: The verdict that was marked.
        score: Its score; None if not known.
        threshold: Its threshold; None if not known.
        mark: "confirmed", "false alarm", "missed" or "confirmed good"; "" if all its marks were taken back.
        comment: What the inspector wrote.
        made_by: Who marked it; "" if not known.
        made_at: When the mark was stored (UTC).
        boxes: The boxes that were drawn: x, y, width and height in pixels of the photograph.
        found_is_right: Whether it was confirmed that what was found is a defect.
    """

    batch: str
    type: str
    image: str
    photograph: str
    verdict: str
    score: float | None
    threshold: float | None
    mark: str
    comment: str
    made_by: str
    made_at: str
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    found_is_right: bool = False

    @property
    def is_defective(self) -> bool:
        """Whether the part is defective: its verdict was confirmed, or it was missed."""
        return self.mark in (CONFIRMED, MISSED)

    @property
    def is_good(self) -> bool:
        """Whether the part is good: its verdict was a false alarm, or its pass was confirmed."""
        return self.mark in (FALSE_ALARM, CONFIRMED_GOOD)


def read_marks(connection: Connection, types: Sequence[str] = ()) -> list[Mark]:
    """The newest mark of each photograph that was ever marked, in the order in which they were made.

    A photograph is known by its type, name and content. A mark that was taken back does not count. If all marks of a
    photograph were taken back, its ``mark`` is "". The boxes are those of all marks of the same kind. A part that
    failed, and of which another defect was missed, counts as missed. Comments alone are left out.

    Args:
        connection: The database.
        types: Image types; empty for all.
    """
    query = select(MARKS).where(MARKS.c.mark != COMMENT).order_by(MARKS.c.id)
    if types:
        query = query.where(MARKS.c.type.in_(types))
    by_photograph: dict[tuple[str, str, str], list[Any]] = {}
    for row in connection.execute(query):
        by_photograph.setdefault((row.type, row.image, row.photograph), []).append(row)
    return sorted((_mark(rows) for rows in by_photograph.values()), key=lambda mark: mark.made_at)


def _mark(rows: list[Any]) -> Mark:
    holding = [row for row in rows if not row.withdrawn_at]
    last = (holding or rows)[-1]
    missed = [row for row in holding if row.mark == MISSED and row.verdict == "fail"]
    if last.mark in (FALSE_ALARM, CONFIRMED) and last.verdict == "fail" and missed:
        last = missed[-1]  # what was found may be right or wrong: the part has another defect
    same = [row for row in holding if row.mark == last.mark]
    boxes = [(row.x, row.y, row.width, row.height) for row in same if None not in (row.x, row.y, row.width, row.height)]
    names = ("batch", "type", "image", "photograph", "verdict", "score", "threshold", "comment", "made_by", "made_at")
    word = CONFIRMED_GOOD if last.mark == CONFIRMED and last.verdict == "pass" else last.mark
    return Mark(
        **{name: getattr(last, name) for name in names},
        mark=word if holding else "",
        boxes=tuple(dict.fromkeys(boxes)),
        found_is_right=any(row.mark == CONFIRMED and row.verdict == "fail" for row in holding),
    )
