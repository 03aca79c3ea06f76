"""Marks of inspectors: what they said about verdicts."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select

from pixal.database.schema import BATCHES, MARKS, PHOTOGRAPHS, VERDICTS
from pixal.errors import InputError
from pixal.io.files import read_bytes

REPORT_MARKS = ("false alarm", "missed")
_NEEDED = {"type", "image", "score", "mark"}
_MAX_BYTES = 100 << 20
_EMPTY = {"comment": "", "made_by": "", "withdrawn_by": "", "withdrawn_at": ""}


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
    """Store the marks that the button of a ``report.html`` has exported.

    A mark belongs to the verdict with the same type, photograph and score. The same file can be imported again.

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
        values = verdict | {"mark": row["mark"]}
        same = (MARKS.c[name] == values[name] for name in ("type", "image", "photograph", "mark"))
        if connection.execute(select(MARKS.c.id).where(*same, MARKS.c.withdrawn_at == "")).first() is not None:
            known += 1
            continue
        connection.execute(insert(MARKS), _EMPTY | values | {"made_at": made_at})
        stored += 1
    return ImportedMarks(stored, known, tuple(unknown))


def _find(connection: Connection, row: dict[str, Any]) -> dict[str, Any] | None:
    """The verdict that a mark belongs to: the one with its score, of the newest batch that has it."""
    query = (
        select(
            *(BATCHES.c.name.label("batch"), VERDICTS.c.type, VERDICTS.c.image, VERDICTS.c.verdict),
            *(VERDICTS.c.score, VERDICTS.c.threshold, PHOTOGRAPHS.c.sha256.label("photograph")),
        )
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .join(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(VERDICTS.c.type == row["type"], VERDICTS.c.image == row["image"])
        .where(VERDICTS.c.score.between(row["score"] * (1 - 1e-9), row["score"] * (1 + 1e-9)))
        .order_by(BATCHES.c.started.desc())
    )
    found = connection.execute(query).first()
    return None if found is None else dict(found._mapping)


def _read(path: Path) -> Iterable[dict[str, Any]]:
    try:
        text = read_bytes(path, max_bytes=_MAX_BYTES).decode("utf-8-sig")
        rows = list(csv.DictReader(text.splitlines(keepends=True), strict=True))
    except (InputError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} {error}; give the table that the button of a report.html exports") from error
    if not rows or not _NEEDED.issubset(rows[0]):
        raise InputError(f"{path} holds no marks; give the table that the button of a report.html exports")
    for line, row in enumerate(rows, start=2):
        try:
            score = float(row["score"])
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, line {line}: the score {row['score']!r} is not a number") from error
        if row["mark"] not in REPORT_MARKS:
            raise InputError(f"{path}, line {line}: the mark is {row['mark']!r}, not {' or '.join(REPORT_MARKS)}")
        yield {"type": _plain(row["type"]), "image": _plain(row["image"]), "score": score, "mark": row["mark"]}


def _plain(text: str) -> str:
    """Text without the apostrophe that keeps a spreadsheet from taking it for a formula."""
    return text[1:] if text[:1] == "'" and text[1:].lstrip()[:1] in ("=", "+", "-", "@") else text
