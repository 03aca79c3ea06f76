"""Create the MLflow store of the working directory, complete or not at all."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

from pixal.io.locking import lock_folder

_log = logging.getLogger(__name__)

LOCAL_STORE = "mlflow.db"
LOCAL_ARTIFACTS = "mlruns"
_SECONDS = 30.0  # to wait for another process that makes the store
_MAX_CHECKED = 50 << 20  # bytes of a store that is checked for damage, which takes a second


def make_local_store(path: Path) -> None:
    """Create the store of the working directory if there is none, complete or not at all.

    A store without runs is compared with a new one, because a process that was killed while it created the store leaves
    an incomplete one. Such a file is renamed, not deleted. A store with runs is never changed.
    """
    if path.exists() and _count_runs(path) != 0:
        return
    with lock_folder(path.absolute().parent, wait=_SECONDS):  # another process may be making it
        _remove_unfinished(path)
        if not path.exists() or _count_runs(path) == 0:
            _make_or_replace(path)


def _make_or_replace(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # The working directory, made under another name first: a process can be killed at any time.
    temporary = path.absolute().with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")
    try:
        store = SqlAlchemyStore(f"sqlite:///{temporary.as_posix()}", f"./{LOCAL_ARTIFACTS}")
        store.engine.dispose()
        if path.exists():
            if _schema(path) == _schema(temporary):
                return
            aside = path.with_name(f"{path.stem}_unfinished_{uuid.uuid4().hex[:6]}{path.suffix}")
            path.rename(aside)
            _log.warning(
                "%s is incomplete and contains no runs; it was renamed to %s, and a new store is created", path, aside
            )
        try:
            os.link(temporary, path)  # unlike a rename, it does not replace the store of another process
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            temporary.rename(path)
    finally:
        _remove_unfinished(path)


def _remove_unfinished(path: Path) -> None:
    """Remove what processes that were killed while they made the store ``path`` left; the caller holds the lock."""
    name = re.compile(rf"\.[0-9a-f]{{12}}\.{re.escape(path.name)}(-journal|-wal|-shm)?")
    for left in path.absolute().parent.iterdir():
        if name.fullmatch(left.name):
            left.unlink(missing_ok=True)


def _count_runs(path: Path) -> int | None:
    """Number of runs in a store; 0 if it has no table of runs yet, None if another process has locked it.

    Raises:
        OSError: The file is damaged. MLflow itself would try to open it for minutes.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            if path.stat().st_size < _MAX_CHECKED:
                found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
                if found != "ok":
                    raise sqlite3.DatabaseError(found)
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                return 0
            return int(database.execute("SELECT count(*) FROM runs").fetchone()[0])
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise OSError(f"{path} is damaged, or is no SQLite database ({error}); move it to another place") from error


def _schema(path: Path) -> list[tuple[str, ...]]:
    """Tables, indices and version of a store."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT type, name FROM sqlite_master ORDER BY type, name").fetchall()
        if ("table", "alembic_version") not in tables:
            return tables
        return tables + database.execute("SELECT version_num FROM alembic_version").fetchall()
