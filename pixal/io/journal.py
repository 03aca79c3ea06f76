"""What a step has already made, so that a run that was cut short, or is run again, goes on from there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from pixal.io.files import file_hash, write_bytes
from pixal.io.records import to_builtin

Row = dict[str, Any]


class Journal:
    """A file of one JSON line for each output of a step, added when the output is whole on the disk.

    A row has ``file`` (the output's name), ``key`` (the fingerprint of all it was made of) and ``file_sha256``. While a
    step runs its journal is all there is; when it has ended the record beside it holds the rows, and the journal goes.
    Use as a context manager around the step.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows = {row["file"]: row for row in _read(path)}

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self._path, b"".join(map(_line, self.rows.values())))  # without the line that a kill cut short
        self._file = self._path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._path.unlink()

    def add(self, row: Mapping[str, Any]) -> None:
        """Note an output that has just been made."""
        self._file.write(_line(row))
        self._file.flush()


def keep_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make a journal of the rows of a record that is about to be taken back."""
    write_bytes(path, b"".join(map(_line, rows)))


def made_before(row: Row | None, key: str, folder: Path) -> Row | None:
    """``row`` itself, if the output it notes was made of what ``key`` says and is in ``folder`` as it was made."""
    if row is None or row["key"] != key:
        return None
    path = folder / row["file"]
    return row if path.is_file() and file_hash(path) == row["file_sha256"] else None


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(to_builtin(row)).encode() + b"\n"


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # the run was killed while it wrote this line
            continue
        if isinstance(row, dict) and {"file", "key", "file_sha256"} <= row.keys():
            rows.append(row)
    return rows
