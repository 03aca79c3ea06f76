"""Messages that are not delivered yet, in a file: they outlast the process, the disk's cache and the receiver.

The file is an SQLite database, so that two processes can use it at the same time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixal.io import ownership

_TABLE = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, created REAL NOT NULL,
    attempts INTEGER NOT NULL, due REAL NOT NULL, problem TEXT NOT NULL)"""
_WAIT = 5.0  # seconds for another process that writes
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0  # seconds between two attempts


@dataclass(frozen=True)
class Message:
    """A message that waits.

    Attributes:
        number: Its place in the order of delivery.
        id: A unique name; a receiver that gets it twice knows it by that.
        body: The JSON.
        attempts: How often its delivery has failed.
    """

    number: int
    id: str
    body: str
    attempts: int


class Outbox:
    """The messages of a component that wait for delivery."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, message_id: str, body: str) -> None:
        """Keep a message until it is delivered. Adding the same one again changes nothing.

        Raises:
            OSError, sqlite3.Error: It cannot be written.
        """
        now = time.time()
        with self._open() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO messages (id, body, created, attempts, due, problem) VALUES (?, ?, ?, 0, ?, '')",
                (message_id, body, now, now),
            )

    def next_due(self) -> tuple[Message | None, float]:
        """The next message to deliver now, and else the seconds until the next one is due (infinite: there is none)."""
        if not self._path.is_file():
            return None, float("inf")
        with self._open() as connection:
            row = connection.execute(
                "SELECT number, id, body, attempts, due FROM messages ORDER BY due > ?, due, number LIMIT 1",
                (time.time(),),
            ).fetchone()
        if row is None:
            return None, float("inf")
        wait = float(row[4]) - time.time()
        return (Message(*row[:4]), 0.0) if wait <= 0 else (None, wait)

    def delivered(self, message: Message) -> None:
        """Forget a message that was delivered."""
        with self._open() as connection:
            connection.execute("DELETE FROM messages WHERE number = ?", (message.number,))

    def failed(self, message: Message, problem: str, *, hold_all: bool) -> float:
        """Note that a delivery has failed, and wait twice as long as before until the next attempt.

        Args:
            message: The message.
            problem: What was wrong.
            hold_all: Whether the receiver cannot be reached, so that all messages wait.

        Returns:
            The seconds until the next attempt.
        """
        pause: float = min(_FIRST_PAUSE * 2**message.attempts, _LONGEST_PAUSE)
        due = time.time() + pause
        with self._open() as connection:
            connection.execute(
                "UPDATE messages SET attempts = attempts + 1, problem = ?, due = ? WHERE number = ?",
                (problem, due, message.number),
            )
            if hold_all:
                connection.execute("UPDATE messages SET due = max(due, ?)", (due,))
        return pause

    def release(self) -> None:
        """Try all messages at once, because the user has started a new run."""
        if self._path.is_file():
            with self._open() as connection:
                connection.execute("UPDATE messages SET due = min(due, ?)", (time.time(),))

    def count(self) -> int:
        """Number of messages that wait."""
        if not self._path.is_file():
            return 0
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        ownership.note(self._path, sync=True)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_WAIT)) as connection, connection:
            connection.execute(_TABLE)
            yield connection
