"""The verdicts of one type on disk, with the inputs they come from. An interrupted run resumes from them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.errors import InputError
from pixal.inputs import InputSet, describing_arrays
from pixal.io import ownership
from pixal.io.files import AppendedFile, FileStat, data_hash, write_bytes
from pixal.io.growing import GrowingRows
from pixal.io.json_text import parse_json
from pixal.io.records import to_builtin
from pixal.io.written_files import WrittenFiles
from pixal.report.document import PartResult
from pixal.tasks.photographs.parts import PhotographRecord

JOURNAL = "judged.journal"  # the name in existing output folders
ROWS_FILE = "inputs.part"
"""Name of the file of the inputs while a batch is being validated, next to ``out.npz``."""


class StoredVerdict(BaseModel):
    """The verdict on one part, as the journal holds it.

    Attributes:
        source: Absolute path of the photograph.
        stat: The ``file_stat`` of its file; None if it could not be read.
        key: Fingerprint of everything the verdict depends on, except the photograph.
        record: How the photograph was prepared.
        part: The part's row in ``results.json``, without the truth of the current run.
        latent: The model's latent vector, (L,); None if it is not computed.
        images: File names of the report's images: photograph, overlay, thumbnail, close-up. None if the photograph
            could not be read.
        files: The anomaly map, the overlay and the report's images; those of the alignment are in ``record``.
        row: Index of the part's input; None if it has no input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    stat: FileStat | None
    key: str
    record: PhotographRecord
    part: PartResult
    latent: tuple[float, ...] | None = None
    images: tuple[str | None, ...] | None = None
    files: WrittenFiles = {}
    row: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The verdict for a line of the journal."""
        return self.model_dump(exclude={"record"}) | {"record": self.record.as_row()}


class VerdictStore:
    """A journal with one line per verdict, and the inputs of the parts.

    A line is added when all files of the part are complete. Each input is written once: to a growing file that becomes
    ``out.npz`` in ``write_inputs``. Only where parts were removed or their order changed are the inputs copied.
    Use as a context manager around ``add``.

    Attributes:
        verdicts: The stored verdicts whose inputs exist and are unchanged, by ``source``.
    """

    def __init__(
        self,
        metadata: Path,
        archive: Path,
        *,
        shape: tuple[int, int, int],
        channels: tuple[str, ...],
        type_name: str,
        types: tuple[str, ...] = (),
    ) -> None:
        """Read what is stored.

        Args:
            metadata: The folder of the type's records.
            archive: The type's ``out.npz``.
            shape: The shape (H, W, C) of an input.
            channels: The names of the C channels.
            type_name: The type of the parts.
            types: The names of all types in one-hot mode, else ().
        """
        self._journal, self._archive, self._shape = metadata / JOURNAL, archive, shape
        self._channels, self._type_name, self._types = channels, type_name, types
        self._growing = self._rows_file(ROWS_FILE)
        self._is_appending = False
        self._journal_file: AppendedFile | None = None
        stored = {verdict.source: verdict for verdict in read_journal(self._journal)}
        self.verdicts = {
            source: verdict for source, verdict in self._with_inputs(stored).items() if self._is_unchanged(verdict)
        }

    def __enter__(self) -> VerdictStore:
        ownership.note(self._journal)
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        self._journal_file = AppendedFile(self._journal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal_file is not None:
            self._journal_file.close()
        self._journal_file = None

    def rewrite_journal(self) -> None:
        """Write the journal again from ``verdicts``."""
        is_open = self._journal_file is not None
        if self._journal_file is not None:
            self._journal_file.close()
        write_bytes(self._journal, b"".join(map(_line, self.verdicts.values())))
        self._journal_file = AppendedFile(self._journal) if is_open else None

    def add(self, verdict: StoredVerdict, image: NDArray[np.float32] | None = None) -> StoredVerdict:
        """Store a verdict, and the part's input (H, W, C) where it is new. Returns what was stored."""
        if image is not None:
            record = verdict.record.model_copy(update={"input_sha256": input_hash(image)})
            verdict = verdict.model_copy(update={"record": record, "row": self._append(image)})
        if self._journal_file is None:
            raise ValueError("add a verdict inside the store's context")
        self.verdicts[verdict.source] = verdict
        self._journal_file.write(_line(verdict))
        return verdict

    def read_input(self, verdict: StoredVerdict) -> NDArray[np.float32]:
        """The input of a part, (H, W, C)."""
        if verdict.row is None:
            raise ValueError(f"{verdict.source} has no input")
        if self._growing.path.is_file():
            values = self._growing.read(verdict.row)
        else:
            values = InputSet.load(self._archive).rows(slice(verdict.row, verdict.row + 1))
        image: NDArray[np.float32] = values.reshape(self._shape)
        return image

    def write_inputs(self, verdicts: Sequence[StoredVerdict]) -> None:
        """Make ``out.npz`` hold the inputs of ``verdicts`` in their order. A run that is killed here loses nothing.

        Args:
            verdicts: Verdicts with an input.
        """
        names = [verdict.record.image for verdict in verdicts]
        if not self._growing.path.is_file():
            is_complete = self._archive_names() == names
        else:
            in_order = [verdict.row for verdict in verdicts] == list(range(len(verdicts)))
            is_complete = in_order and len(self._growing) == len(verdicts)
            if is_complete:
                self._growing.finish(self._archive, self._other_arrays(names))
                self._is_appending = False
        if not is_complete:
            self._copy_inputs(verdicts)

    def _copy_inputs(self, verdicts: Sequence[StoredVerdict]) -> None:
        """Write a new ``out.npz`` from inputs that are stored in another order, or among others."""
        copy = self._rows_file(f".{uuid.uuid4().hex[:12]}.{ROWS_FILE}")
        try:
            copy.start()
            for verdict in verdicts:
                copy.append(self.read_input(verdict))
            copy.finish(self._archive, self._other_arrays([verdict.record.image for verdict in verdicts]))
        finally:
            copy.path.unlink(missing_ok=True)
        ownership.remove(self._growing.path)  # from here on the names in ``out.npz`` tell the rows
        self._is_appending = False
        for row, verdict in enumerate(verdicts):
            self.verdicts[verdict.source] = verdict.model_copy(update={"row": row})
        self.rewrite_journal()

    def _append(self, image: NDArray[np.float32]) -> int:
        if not self._is_appending:
            self._start_appending()
        return self._growing.append(image)

    def _start_appending(self) -> None:
        """Prepare the growing file: with the rows in use, and without a row that was cut short."""
        with_rows = [verdict for verdict in self.verdicts.values() if verdict.row is not None]
        if with_rows and not self._growing.path.is_file():
            self.rewrite_journal()  # from here on it tells the rows, not the names in ``out.npz``
            if not self._growing.reopen(self._archive):
                self._copy_inputs(with_rows)  # into a file that can grow
                self._growing.reopen(self._archive)
        rows = [verdict.row for verdict in self.verdicts.values() if verdict.row is not None]
        self._growing.start(keep=max(rows, default=-1) + 1)
        self._is_appending = True

    def _with_inputs(self, stored: dict[str, StoredVerdict]) -> dict[str, StoredVerdict]:
        """The verdicts whose input exists, or that need none; ``row`` says where it is."""
        if self._growing.path.is_file():
            count = len(self._growing)
            return {
                source: verdict
                for source, verdict in stored.items()
                if not verdict.record.is_ok or (verdict.row is not None and verdict.row < count)
            }
        rows = {name: row for row, name in enumerate(self._archive_names() or ())}
        return {
            source: verdict.model_copy(update={"row": rows.get(verdict.record.image) if verdict.record.is_ok else None})
            for source, verdict in stored.items()
            if not verdict.record.is_ok or verdict.record.image in rows
        }

    def _is_unchanged(self, verdict: StoredVerdict) -> bool:
        """Whether the input of a part holds what was stored."""
        return verdict.row is None or input_hash(self.read_input(verdict)) == verdict.record.input_sha256

    def _archive_names(self) -> list[str] | None:
        """The photographs in ``out.npz``; None if there is no such file, or one of another shape."""
        try:
            inputs = InputSet.load(self._archive)
        except InputError:  # missing, or damaged
            return None
        return list(inputs.names) if inputs.shape == self._shape else None

    def _other_arrays(self, names: list[str]) -> dict[str, NDArray[Any]]:
        """The arrays of an ``out.npz`` that describe its rows."""
        indices = [self._types.index(self._type_name)] * len(names) if self._types else []
        return describing_arrays(self._shape, self._channels, names, self._types, indices)

    def _rows_file(self, name: str) -> GrowingRows:
        return GrowingRows(self._archive.with_name(name), int(np.prod(self._shape)))


def input_hash(image: NDArray[np.float32]) -> str:
    """SHA-256 of the values of an input, of any shape."""
    return data_hash(image.astype(np.float32, copy=False).tobytes())


def read_journal(path: Path) -> Iterator[StoredVerdict]:
    """The verdicts of a journal, oldest first. For each source the last one is valid."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        verdict = parse_line(line)
        if verdict is not None:
            yield verdict


def parse_line(line: bytes) -> StoredVerdict | None:
    """The verdict in a line of a journal; None if it was cut short by a kill, or written by another version."""
    try:
        return StoredVerdict.model_validate(parse_json(line))
    except (ValueError, ValidationError):
        return None


def _line(verdict: StoredVerdict) -> bytes:
    return json.dumps(to_builtin(verdict.as_json())).encode() + b"\n"
