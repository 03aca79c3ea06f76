"""Marks as a table: import what a report or ``pixal serve`` has exported, and export marks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from pixal.database.marks import LONGEST_COMMENT, LONGEST_NAME, MARK_NAMES
from pixal.database.schema import BATCHES, MARKS, PHOTOGRAPHS, VERDICTS
from pixal.errors import InputError
from pixal.io.files import read_bytes
from pixal.io.names import printable
from pixal.io.records import table_text

LARGEST_TABLE = 100 << 20  # bytes
MARK_COLUMNS = (
    *("component", "created", "type", "image", "source", "verdict", "score", "threshold", "mark"),
    *("x", "y", "width", "height", "comment", "made_by", "made_at", "batch"),
)
"""The columns of an exported table. The first nine are those that a ``report.html`` exports."""

_LARGEST_PIXEL = 1e6
_ROUNDING = 1e-8  # relative; tables have 9 significant digits
_NEEDED = {"type", "image", "mark"}
_BOX = ("x", "y", "width", "height")
_EMPTY = {"withdrawn_by": "", "withdrawn_at": ""}
_HINT = (
    "give the table that the button of a report.html or pixal serve exports, or one with the columns type, image, mark"
)


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
    """Store the marks of a table: one that ``report.html`` or ``pixal serve`` has exported, or one written by hand.

    The columns are ``type``, ``image`` and ``mark``, and optionally ``score``, ``batch``, a box around the defect
    (``x``, ``y``, ``width``, ``height`` in pixels of the photograph), ``comment``, ``made_by`` and ``made_at``. A mark
    belongs to the verdict with the same type and photograph, and the same score and batch if they are given; of several
    ones, to that of the newest batch. The same file can be imported again.

    Raises:
        InputError: The file is not such a table.
    """
    try:
        data = read_bytes(path, max_bytes=LARGEST_TABLE)
    except InputError as error:
        raise InputError(f"{path} {error}; {_HINT}") from error
    return import_table(connection, data, str(path))


def import_table(connection: Connection, data: bytes, name: str, made_by: str = "") -> ImportedMarks:
    """Store the marks of a table. See ``import_marks``.

    Args:
        connection: A transaction that may write.
        data: The content of the file.
        name: Its name, for error messages.
        made_by: Who made the marks that do not say it.
    """
    stored, known, unknown = 0, 0, []
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    for row in _parse(data, name):
        verdict = _find(connection, row)
        if verdict is None:
            unknown.append(f"{row['type']}/{row['image']}")
            continue
        values = verdict | {column: row[column] for column in ("mark", "comment", *_BOX)}
        same = [MARKS.c[column] == values[column] for column in ("type", "image", "photograph", "mark", *_BOX)]
        if row["made_by"]:
            same.append(MARKS.c.made_by == row["made_by"])
        if connection.execute(select(MARKS.c.id).where(*same, MARKS.c.withdrawn_at == "")).first() is not None:
            known += 1
            continue
        author = {"made_by": row["made_by"] or made_by, "made_at": row["made_at"] or now}
        connection.execute(insert(MARKS), _EMPTY | values | author)
        stored += 1
    return ImportedMarks(stored, known, tuple(unknown))


def export_marks(connection: Connection, batch_id: int, component: str) -> str:
    """The marks on the verdicts of a batch that hold, as a table, which ``import_marks`` reads."""
    same = (MARKS.c.type == VERDICTS.c.type) & (MARKS.c.image == VERDICTS.c.image)
    same &= (MARKS.c.photograph == PHOTOGRAPHS.c.sha256) & (MARKS.c.verdict == VERDICTS.c.verdict)
    names = ("mark", *_BOX, "comment", "made_by", "made_at")
    query = (
        select(
            *(VERDICTS.c[name] for name in ("type", "image", "source", "verdict", "score", "threshold")),
            *(MARKS.c[name] for name in names),
            *(BATCHES.c.written.label("created"), BATCHES.c.name.label("batch")),
        )
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .join(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .join(MARKS, same)
        .where(BATCHES.c.id == batch_id, MARKS.c.withdrawn_at == "")
        .order_by(VERDICTS.c.type, VERDICTS.c.id, MARKS.c.made_at, MARKS.c.id)
    )
    rows = connection.execute(query).mappings()
    return table_text(MARK_COLUMNS, ({"component": component, **row} for row in rows))


def _find(connection: Connection, row: Mapping[str, Any]) -> dict[str, Any] | None:
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
        limits = sorted((row["score"] * (1 - _ROUNDING), row["score"] * (1 + _ROUNDING)))
        query = query.where(VERDICTS.c.score.between(*limits))
    if row["batch"]:
        query = query.where(BATCHES.c.name == row["batch"])
    found = connection.execute(query).first()
    return None if found is None else dict(found._mapping)


def _parse(data: bytes, name: str) -> Iterable[dict[str, Any]]:
    try:
        text = data.decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name} {error}; {_HINT}") from error
    if not rows or not _NEEDED.issubset(rows[0]):
        raise InputError(f"{name} holds no marks; {_HINT}")
    for line, row in enumerate(rows, start=2):
        where = f"{name}, line {line}"
        texts = {column: _plain(row.get(column) or "") for column in MARK_COLUMNS}
        if texts["mark"] not in MARK_NAMES:
            raise InputError(f"{where}: the mark is {texts['mark']!r}, not one of {', '.join(MARK_NAMES)}")
        box = {column: _number(texts[column], column, where) for column in _BOX}
        if None in box.values() and set(box.values()) != {None}:
            raise InputError(f"{where}: a box needs all of {', '.join(_BOX)}")
        yield {
            **{column: texts[column] for column in ("type", "image", "batch", "mark")},
            **{"comment": texts["comment"][:LONGEST_COMMENT], "made_by": printable(texts["made_by"])[:LONGEST_NAME]},
            **{column: None if value is None else round(value) for column, value in box.items()},
            "score": _number(texts["score"], "score", where),
            "made_at": _time(texts["made_at"], where),
        }


def _number(text: str, column: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{where}: the {column} {text!r} is not a number") from error
    if not math.isfinite(value) or (column in _BOX and not 0 <= value < _LARGEST_PIXEL):
        raise InputError(f"{where}: the {column} {text!r} cannot be used")
    return value


def _time(text: str, where: str) -> str:
    """A time in UTC; "" if none is given."""
    if not text:
        return ""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc).isoformat()
    except (ValueError, OverflowError) as error:
        raise InputError(f"{where}: the time {text!r} is not in ISO 8601, like 2026-11-28T14:30:00+00:00") from error


def _plain(text: str) -> str:
    """Text without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return text[1:] if text[:1] == "'" and text[1:].lstrip()[:1] in ("=", "+", "-", "@") else text
