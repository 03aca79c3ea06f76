"""Marks of inspectors: what they said about verdicts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from pixal.database.schema import BATCHES, MARKS, PHOTOGRAPHS, VERDICTS
from pixal.errors import InputError
from pixal.io.files import read_bytes

MARK_NAMES = ("false alarm", "missed", "confirmed")
_NEEDED = {"type", "image", "mark"}
_BOX = ("x", "y", "width", "height")
_MAX_BYTES = 100 << 20
_EMPTY = {"withdrawn_by": "", "withdrawn_at": ""}


@dataclass(frozen=True)
class ImportedMarks:
    """The marks of a file.

    Attributes:
        stored: Number of marks that were added.
        known: Number of marks that were stored before.
        unknown: Those that belong to no verdict of the history, as ``TYPE/IMAGE``.
    """

    stored: int
    known: int
    unknown: tuple[str, ...]


def import_marks(connection: Connection, path: Path) -> ImportedMarks:
    """Store the marks of a table: one that the button of a ``report.html`` has exported, or one written by hand.

    The columns are ``type``, ``image`` and ``mark``, and optionally ``score``, ``batch``, a box around the defect
    (``x``, ``y``, ``width``, ``height`` in pixels of the photograph), ``comment`` and ``made_by``. A mark belongs to
    the verdict with the same type and photograph, and the same score and batch if they are given; of several ones, to
    that of the newest batch. The same file can be imported again.

    Raises:
        InputError: The file is not such a table.
    """
    stored, known, unknown = 0, 0, []
    made_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for row in _read(path):
        verdict = _find(connection, row)
        if verdict is None:
            unknown.append(f"{row['type']}/{row['image']}")
            continue
        values = verdict | {name: row[name] for name in ("mark", "comment", "made_by", *_BOX)}
        same = (MARKS.c[name] == values[name] for name in ("type", "image", "photograph", "mark", *_BOX))
        if connection.execute(select(MARKS.c.id).where(*same, MARKS.c.withdrawn_at == "")).first() is not None:
            known += 1
            continue
        connection.execute(insert(MARKS), _EMPTY | values | {"made_at": made_at})
        stored += 1
    return ImportedMarks(stored, known, tuple(unknown))


def _find(connection: Connection, row: dict[str, Any]) -> dict[str, Any] | None:
    """The verdict that a mark belongs to: the one with its score and batch, of the newest batch that has it."""
    query = (
        select(
            *(BATCHES.c.name.label("batch"), VERDICTS.c.type, VERDICTS.c.image, VERDICTS.c.verdict),
            *(VERDICTS.c.score, VERDICTS.c.threshold, PHOTOGRAPHS.c.sha256.label("photograph")),
        )
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .join(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(VERDICTS.c.type == row["type"], VERDICTS.c.image == row["image"])
        .order_by(BATCHES.c.started.desc())
    )
    if row["score"] is not None:
        query = query.where(VERDICTS.c.score.between(row["score"] * (1 - 1e-9), row["score"] * (1 + 1e-9)))
    if row["batch"]:
        query = query.where(BATCHES.c.name == row["batch"])
    found = connection.execute(query).first()
    return None if found is None else dict(found._mapping)


def _read(path: Path) -> Iterable[dict[str, Any]]:
    hint = "give the table that the button of a report.html exports, or one with the columns type, image, mark"
    try:
        text = read_bytes(path, max_bytes=_MAX_BYTES).decode("utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(keepends=True), strict=True))
    except (InputError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} {error}; {hint}") from error
    if not rows or not _NEEDED.issubset(rows[0]):
        raise InputError(f"{path} holds no marks; {hint}")
    for line, row in enumerate(rows, start=2):
        if row["mark"] not in MARK_NAMES:
            raise InputError(f"{path}, line {line}: the mark is {row['mark']!r}, not one of {', '.join(MARK_NAMES)}")
        box = {name: _number(row, name, path, line) for name in _BOX}
        if None in box.values() and set(box.values()) != {None}:
            raise InputError(f"{path}, line {line}: a box needs all of {', '.join(_BOX)}")
        yield {
            **{name: _plain(row.get(name) or "") for name in ("type", "image", "batch", "comment", "made_by")},
            **{name: None if value is None else round(value) for name, value in box.items()},
            "score": _number(row, "score", path, line),
            "mark": row["mark"],
        }


def _number(row: dict[str, Any], name: str, path: Path, line: int) -> float | None:
    text = row.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, line {line}: the {name} {text!r} is not a number") from error
    if not math.isfinite(value) or (name in _BOX and value < 0):
        raise InputError(f"{path}, line {line}: the {name} {text!r} cannot be used")
    return value


def _plain(text: str) -> str:
    """Text without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return text[1:] if text[:1] == "'" and text[1:].lstrip()[:1] in ("=", "+", "-", "@") else text
