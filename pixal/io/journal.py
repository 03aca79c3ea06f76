"""Remember which outputs of a step are complete, so that an interrupted run can resume."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.io.files import AppendedFile, has_hash, write_bytes
from pixal.io.json_text import parse_json
from pixal.io.records import to_builtin


class OutputRecord(BaseModel):
    """The record of one output file; subclasses add fields. All values are None if the output was not made.

    Attributes:
        file: Name of the output file.
        key: Fingerprint of everything that the output was made of.
        file_sha256: The SHA-256 of the output file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = None
    key: str | None = None
    file_sha256: str | None = None

    @property
    def has_output(self) -> bool:
        """Whether the output was made."""
        return None not in (self.file, self.key, self.file_sha256)


Record = TypeVar("Record", bound=OutputRecord)


class Journal(Generic[Record]):
    """A file with one line of JSON per output of a step; the line is added when the output is complete on disk.

    The journal exists while the step runs. When the step has ended, its record (a YAML file) holds the same entries,
    and the journal is deleted. Use it as a context manager around the step.

    Attributes:
        entries: The entries of earlier runs, by the name of the output file.
    """

    def __init__(self, path: Path, record_types: tuple[type[Record], ...]) -> None:
        """Read the journal of an interrupted run, if there is one.

        Args:
            path: The journal's file.
            record_types: The models that an entry may have. Lines that fit none of them are ignored.
        """
        self._path = path
        self.entries = {str(record.file): record for record in _read(path, record_types)}

    def __enter__(self) -> Journal[Record]:
        write_journal(self._path, self.entries.values())  # drops a line that was cut off when a run was killed
        self._file = AppendedFile(self._path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._path.unlink()

    def add(self, record: Record) -> None:
        """Add an output that is complete on disk."""
        self._file.write(_line(record))


def write_journal(path: Path, records: Iterable[OutputRecord]) -> None:
    """Write a journal with the given entries."""
    write_bytes(path, b"".join(map(_line, records)))


def reusable(record: Record | None, key: str, folder: Path) -> Record | None:
    """Return ``record`` if its output in ``folder`` is unchanged and was made of what ``key`` stands for, else None."""
    if record is None or record.file is None or record.key != key:
        return None
    return record if has_hash(folder / record.file, record.file_sha256) else None


def _line(record: OutputRecord) -> bytes:
    return json.dumps(to_builtin(record.model_dump(exclude_none=True))).encode() + b"\n"


def _read(path: Path, record_types: tuple[type[Record], ...]) -> list[Record]:
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        try:
            content = parse_json(line)
        except ValueError:  # the run was killed while it wrote this line
            continue
        for record_type in record_types:
            try:
                record = record_type.model_validate(content)
            except ValidationError:
                continue
            if record.has_output:
                records.append(record)
                break
    return records
