"""Which verdicts of the history are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, select

from pixal.database.schema import BATCHES, VERDICTS
from pixal.errors import InputError


@dataclass(frozen=True)
class Selection:
    """A filter of verdicts; the default lets all pass.

    Attributes:
        types: Names of image types; empty for all.
        batches: Names of batches; empty for all.
        since: The earliest time of a photograph, ISO 8601; None for no limit.
        before: Times from this one on are left out; None for no limit.
    """

    types: tuple[str, ...] = ()
    batches: tuple[str, ...] = ()
    since: str | None = None
    before: str | None = None

    @classmethod
    def of(
        cls,
        *,
        types: Sequence[str] | None = None,
        batches: Sequence[str] | None = None,
        since: str | date | None = None,
        until: str | date | None = None,
    ) -> Selection:
        """Build a filter from what the user gave. A day in ``until`` is included.

        Raises:
            InputError: A time is not in ISO 8601.
        """
        first, last = _time(since, "--since"), _time(until, "--until")
        if last is not None:
            is_day = len(str(until)) == len("2026-11-28")
            last += timedelta(days=1) if is_day else timedelta(seconds=1)  # stored times are whole seconds
        if first is not None and last is not None and first >= last:
            raise InputError(f"--since {since} is after --until {until}")
        return cls(tuple(types or ()), tuple(batches or ()), _text(first), _text(last))

    def check(self, connection: Connection) -> None:
        """Raise ``InputError``, which lists the known names, if a type or batch is not in the database."""
        for option, names, column in (
            ("--type", self.types, VERDICTS.c.type),
            ("--batch", self.batches, BATCHES.c.name),
        ):
            known = list(connection.execute(select(column).distinct().order_by(column)).scalars())
            if unknown := [name for name in names if name not in known]:
                raise InputError(f"{option}: the history has no {unknown[0]} (known: {', '.join(known)})")

    def in_words(self) -> str:
        """The filter in words; "" if all verdicts pass."""
        words = [f"type {name}" for name in self.types] + [f"batch {name}" for name in self.batches]
        words += [f"from {self.since.replace('T', ' ')}"] if self.since else []
        words += [f"before {self.before.replace('T', ' ')}"] if self.before else []
        return ", ".join(words)

    def conditions(self) -> list[ColumnElement[Any]]:
        """The conditions on verdicts joined with batches."""
        conditions: list[ColumnElement[Any]] = []
        if self.types:
            conditions.append(VERDICTS.c.type.in_(self.types))
        if self.batches:
            conditions.append(BATCHES.c.name.in_(self.batches))
        if self.since is not None:
            conditions.append(VERDICTS.c.taken >= self.since)
        if self.before is not None:
            conditions.append(VERDICTS.c.taken < self.before)
        return conditions


def _time(value: str | date | None, option: str) -> datetime | None:
    """Local time without a zone, as photographs have it."""
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise InputError(f"{option} {value!r} is not a day like 2026-11-28 or a time like 2026-11-28T14:30") from error
    return time.astimezone().replace(tzinfo=None) if time.tzinfo else time


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="seconds")
