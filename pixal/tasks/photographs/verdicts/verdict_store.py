"""The parts of a type that have their verdict, on disk, so that a batch or a watch that was cut short goes on there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.inputs import InputSet, InputSetWriter
from pixal.io.files import write_bytes
from pixal.io.records import to_builtin

JOURNAL = "judged.journal"
_ROWS_FILE = "inputs.part"

Entry = dict[str, Any]
"""A judged part. source: its photograph's absolute path. stat: that file's size and time. key: the fingerprint of all
the verdict came from but the photograph. record: its row of preprocessing.yaml. part: its row of results.json.
latent: what the model keeps of it, or None. pictures: the names of its pictures for the report, or None. row: where
its input is in ``inputs.part``; None: in ``out.npz``."""


class JudgedParts:
    """A line of a journal for each judged part, added when all of its files are whole, and a row of inputs.

    ``entries`` holds them by source. New inputs wait in a file that only grows, until ``write_inputs`` makes one
    ``out.npz`` of old and new. Use as a context manager around ``add``.
    """

    def __init__(self, metadata: Path, inputs: Path, shape: tuple[int, int, int]) -> None:
        """``metadata``: the type's folder of records. ``inputs``: its ``out.npz``. ``shape``: (H, W, C) of an input."""
        self._journal, self._inputs, self._shape = metadata / JOURNAL, inputs, shape
        self._rows_file = inputs.with_name(_ROWS_FILE)
        self._bytes = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        self._saved = self._load_inputs()
        self._where = {} if self._saved is None else {name: row for row, name in enumerate(self._saved.names)}
        found = {entry["source"]: entry for entry in read_journal(self._journal)}
        self.entries = {source: entry for source, entry in found.items() if self._has_input(entry)}

    def __enter__(self) -> JudgedParts:
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        self._inputs.parent.mkdir(parents=True, exist_ok=True)
        self._lines, self._rows = self._journal.open("ab"), self._rows_file.open("ab")
        used = [entry["row"] for entry in self.entries.values() if entry["row"] is not None]
        self._rows.truncate((max(used) + 1 if used else 0) * self._bytes)  # without the row that a kill cut short
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._rows.close()

    def rewrite(self) -> None:
        """Make the journal that of ``entries``: without what a kill cut short, and what no longer counts."""
        write_bytes(self._journal, b"".join(map(_line, self.entries.values())))

    def add(self, entry: Entry, image: NDArray[np.float32] | None) -> None:
        """Note a part that has just been judged, and its input (H, W, C); None where it could not be prepared."""
        if image is not None:
            self._rows.seek(0, 2)
            entry["row"] = self._rows.tell() // self._bytes
            self._rows.write(np.ascontiguousarray(image, np.float32).data)
            self._rows.flush()
        self.entries[entry["source"]] = entry
        self._lines.write(_line(entry))
        self._lines.flush()

    def image(self, entry: Entry) -> NDArray[np.float32]:
        """The input (H, W, C) of a part."""
        if entry["row"] is None:
            assert self._saved is not None  # else it would not be among the entries
            row = self._where[entry["record"]["image"]]
            return np.asarray(self._saved.images(slice(row, row + 1))[0], np.float32)
        offset = entry["row"] * self._bytes
        values = np.fromfile(self._rows_file, np.float32, int(np.prod(self._shape)), offset=offset)
        return np.asarray(values.reshape(self._shape), np.float32)

    def write_inputs(
        self, entries: list[Entry], channels: tuple[str, ...], types: tuple[str, ...], type_name: str
    ) -> None:
        """Write the ``out.npz`` of ``entries``, in their order; a kill on the way loses nothing."""
        names = tuple(entry["record"]["image"] for entry in entries)
        if self._saved is not None and self._saved.names == names and all(entry["row"] is None for entry in entries):
            return
        with InputSetWriter(self._inputs, self._shape, channels, types) as out:
            for entry in entries:
                out.append(self.image(entry), entry["record"]["image"], type_name)
            self._saved = None  # Windows replaces no file that is mapped
        for entry in entries:
            entry["row"] = None
        self.rewrite()
        self._rows_file.unlink(missing_ok=True)

    def _has_input(self, entry: Entry) -> bool:
        if entry["record"]["status"] != "ok":
            return True
        if entry["row"] is None:
            return entry["record"]["image"] in self._where
        return self._rows_file.is_file() and self._rows_file.stat().st_size >= (entry["row"] + 1) * self._bytes

    def _load_inputs(self) -> InputSet | None:
        try:
            found = InputSet.load(self._inputs)
        except InputError:  # none yet, or one that is made again
            return None
        return found if found.shape == self._shape else None


def _line(entry: Entry) -> bytes:
    return json.dumps(to_builtin(entry)).encode() + b"\n"


def read_journal(path: Path) -> Iterator[Entry]:
    """The entries of a journal, oldest first; the last one of a source counts."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # the run was killed while it wrote this line
            continue
        if isinstance(entry, dict) and entry.keys() >= {"source", "stat", "key", "record", "part", "row"}:
            yield entry
