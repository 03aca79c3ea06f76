"""Open the database: make it, bring it to the current schema, and turn its errors into PIXAL's.

The journal is SQLite's rollback journal. A write-ahead log would let readers go on while another process writes, but
needs memory that all processes share, which network drives do not give (sqlite.org/wal.html, section 1). Here a
transaction takes milliseconds, and a process that finds the file locked waits. A process that is killed leaves its
journal next to the file, and the next one that opens the file rolls the unfinished transaction back.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, insert, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError, OperationalError

from pixal.database.schema import EXPLANATIONS, VIEWS, explanation_rows
from pixal.errors import InputError, StorageError
from pixal.io import ownership
from pixal.io.files import reporting_storage

SCHEMA = "0002"
"""The newest migration in ``migrations/versions``."""

_WAIT = 30.0  # seconds for another process that writes
_MIGRATIONS = Path(__file__).parent / "migrations"


class DamagedError(InputError):
    """The file is not a database, or is damaged."""


class Store:
    """The database of a component.

    Attributes:
        path: Its file; None: in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._engine = _engine(path)
        self._is_current = False

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write. Only one is open at a time; others wait up to 30 seconds.

        Raises:
            StorageError: The file cannot be written, for example on a read-only or full disk.
            DamagedError: It is damaged.
            InputError: It was made by a newer version of PIXAL, or not by PIXAL.
        """
        if self.path is not None:
            with reporting_storage(self.path):
                ownership.note(self.path, sync=True)
        with _explained(self.path), self._begin("IMMEDIATE") as connection:
            if not self._is_current:
                _bring_up_to_date(connection, self.path)
            yield connection
        self._is_current = True

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads a consistent state. See ``writing`` for errors."""
        with _explained(self.path), self._begin("DEFERRED") as connection:
            if not self._is_current:
                _check_version(_version(connection), self.path)
            yield connection

    @contextmanager
    def _begin(self, kind: str) -> Iterator[Connection]:
        with self._engine.connect().execution_options(begin=kind) as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()


def set_aside(path: Path) -> Path:
    """Rename a damaged database, which may hold marks, and return its new name."""
    aside = path.with_name(f"{path.stem}_damaged_{uuid.uuid4().hex[:6]}{path.suffix}")
    path.rename(aside)
    return aside


def _engine(path: Path | None) -> Engine:
    if path is None:
        engine = create_engine("sqlite://")
    else:
        url = URL.create("sqlite", database=str(path.absolute()))
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _WAIT})

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction by itself, so that DDL is part of one
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")

    return engine


def _version(connection: Connection) -> str | None:
    """The migration that made the tables; None if there are none yet."""
    found = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).first()
    return None if found is None else connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _check_version(version: str | None, path: Path | None) -> None:
    if version is not None and version > SCHEMA:
        raise InputError(f"{path} was made by a newer version of PIXAL; use that version")
    if version != SCHEMA:
        raise DamagedError(f"{path} is not complete")


def _bring_up_to_date(connection: Connection, path: Path | None) -> None:
    """Apply the migrations that are missing, as a part of the transaction."""
    version = _version(connection)
    if version == SCHEMA:
        return
    if version is not None:
        _check_version(max(version, SCHEMA), path)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    for view in VIEWS:
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view}")
    command.upgrade(config, SCHEMA)
    for view, query in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {view} AS {query}")
    connection.execute(EXPLANATIONS.delete())
    connection.execute(insert(EXPLANATIONS), explanation_rows())


@contextmanager
def _explained(path: Path | None) -> Iterator[None]:
    """Turn errors of the database into one line that says what to do."""
    try:
        yield
    except OperationalError as error:
        raise _operational(error, path) from error
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # a mistake in a statement
            raise
        raise DamagedError(
            f"{path} is damaged ({error.orig}); pixal history --rebuild makes it again from the results"
        ) from error


def _operational(error: OperationalError, path: Path | None) -> StorageError:
    reason = str(error.orig)
    if "locked" in reason or "busy" in reason:
        return StorageError(f"{path} has been in use by another program for {_WAIT:.0f} seconds; close that program")
    hint = "change its permissions, free some space, or name another folder in paths.yaml"
    if path is not None and not os.access(path.parent, os.W_OK):
        reason = f"{reason}; its folder is read-only"
    return StorageError(f"{path} cannot be used: {reason}; {hint}")
