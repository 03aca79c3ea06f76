"""Insert rows into the tables, with their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, func, select
from sqlalchemy.dialects.sqlite import insert

from pixal.database.schema import PHOTOGRAPHS


def photograph_ids(connection: Connection, photographs: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """The numbers of photographs by their hashes; those that are not known yet are stored.

    Args:
        connection: A transaction that may write.
        photographs: The columns of ``photographs``, by the hash.
    """
    if photographs:
        connection.execute(insert(PHOTOGRAPHS).on_conflict_do_nothing(), list(photographs.values()))
    hashes, ids = list(photographs), {}
    for start in range(0, len(hashes), 500):  # SQLite limits the number of values in a statement
        chosen = PHOTOGRAPHS.c.sha256.in_(hashes[start : start + 500])
        ids.update({row.sha256: row.id for row in connection.execute(select(PHOTOGRAPHS).where(chosen))})
    return ids


def next_id(connection: Connection, table: Table) -> int:
    """The number of the next row of a table."""
    return int(connection.execute(select(func.coalesce(func.max(table.c.id), 0))).scalar_one()) + 1


def insert_rows(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, if there are any."""
    if rows:
        connection.execute(insert(table), rows)
