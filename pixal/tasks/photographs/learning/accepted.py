"""The accepted parts of a type: training photographs and known defects that come from marks, with their versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pixal.config.paths import Paths
from pixal.errors import InputError
from pixal.io.records import read_record, write_record
from pixal.tasks.photographs.discovery import Photograph

ACCEPTED_FOLDER = "accepted"
"""Folder of the accepted parts, in the folder of a type."""

Kind = Literal["good_parts", "known_defects"]
"""The two data sets of accepted parts; also the names of their folders."""

KINDS: tuple[Kind, ...] = ("good_parts", "known_defects")

PhotographBox = tuple[int, int, int, int]
"""x, y, width and height in pixels."""

_RECORD = "accepted.yaml"


class AcceptedPart(BaseModel):
    """A part that was taken over from a mark.

    Attributes:
        kind: The data set that it belongs to.
        file: The copy of its photograph, in the folder of the data set.
        sha256: SHA-256 of the photograph.
        image: File name of the photograph in its batch.
        source: Path of the photograph in its batch.
        batch: Name of the batch.
        mark: What the inspector said: "false alarm", "confirmed", "missed" or "confirmed good".
        verdict: The verdict that was marked.
        score: Its score; None if not known.
        threshold: The threshold of the verdict; None if not known.
        made_by: Who marked it; "" if not known.
        made_at: When the mark was stored (UTC).
        comment: What the inspector wrote.
        boxes: Boxes around the defects in pixels of the photograph: those that the inspector drew, or else the regions
            that were found.
        reference_boxes: The same boxes in pixels of the reference frame; empty if the photograph was not aligned.
        reference_sha256: SHA-256 of the pixels of the reference photograph of that frame; "" if there is none.
        cut_outs: Files with the defects, cut out in the reference frame, in the folder of the data set.
        sampled: Whether all good parts of its batch were taken over together, so that they are a sample of good parts.
            If not, a false alarm was chosen for its high score.
        accepted_by: Who ran ``accept``.
        accepted_at: When (UTC).
        run: Number of the run of ``accept``, which ``accept --undo`` names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    file: str
    sha256: str
    image: str
    source: str
    batch: str
    mark: str
    verdict: str
    score: float | None = None
    threshold: float | None = None
    made_by: str = ""
    made_at: str = ""
    comment: str = ""
    boxes: tuple[PhotographBox, ...] = ()
    reference_boxes: tuple[PhotographBox, ...] = ()
    reference_sha256: str = ""
    cut_outs: tuple[str, ...] = ()
    sampled: bool = False
    accepted_by: str
    accepted_at: str
    run: int

    @field_validator("file", "cut_outs")
    @classmethod
    def _are_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """They are files in the folder of the data set, so that an edited record must not lead elsewhere."""
        for name in (value,) if isinstance(value, str) else value:
            if not name or name == ".." or Path(name).name != name:
                raise ValueError(f"{name!r} is not the name of a file")
        return value


class DataSetVersion(BaseModel):
    """A version of a data set.

    Attributes:
        kind: The data set.
        version: Its number, from 1.
        sha256: Hash of the photographs in it and of their boxes.
        parts: Number of parts in it.
        created: When (UTC).
        run: Number of the run of ``accept`` that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    version: int
    sha256: str
    parts: int
    created: str
    run: int


class AcceptedRecord(BaseModel):
    """The content of ``accepted.yaml``.

    Attributes:
        runs: Number of runs of ``accept`` that changed something.
        versions: All versions of both data sets, the oldest first.
        parts: The parts that count now.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runs: int = 0
    versions: tuple[DataSetVersion, ...] = ()
    parts: tuple[AcceptedPart, ...] = ()


@dataclass(frozen=True)
class AcceptedParts:
    """The accepted parts of a type.

    Attributes:
        type_name: The type.
        folder: Where they are.
        record: The parts and the versions.
    """

    type_name: str
    folder: Path
    record: AcceptedRecord

    @classmethod
    def read(cls, paths: Paths, type_name: str) -> AcceptedParts:
        """Read the accepted parts of a type. Raise ``InputError`` if their record is damaged."""
        folder = paths.in_use().resolve("component_model_path", type_name) / ACCEPTED_FOLDER
        path = folder / _RECORD
        if not path.is_file():
            return cls(type_name, folder, AcceptedRecord())
        try:
            return cls(type_name, folder, AcceptedRecord.model_validate(read_record(path)))
        except ValidationError as error:
            raise InputError(f"{path} is damaged ({error.errors()[0]['msg']}); restore it from a backup") from error

    @property
    def record_file(self) -> Path:
        """``accepted.yaml``."""
        return self.folder / _RECORD

    def of(self, kind: Kind) -> list[AcceptedPart]:
        """The parts of a data set."""
        return [part for part in self.record.parts if part.kind == kind]

    def path(self, part: AcceptedPart) -> Path:
        """The copy of the photograph of a part."""
        return self.folder / part.kind / part.file

    def files(self, part: AcceptedPart) -> list[Path]:
        """All files of a part."""
        return [self.path(part), *(self.folder / part.kind / name for name in part.cut_outs)]

    def version(self, kind: Kind) -> DataSetVersion | None:
        """The newest version of a data set; None if there was never a part in it."""
        return next((version for version in reversed(self.record.versions) if version.kind == kind), None)

    def in_words(self, kind: Kind) -> dict[str, Any] | None:
        """The newest version of a data set, for the record of a model; None if it was never made."""
        version = self.version(kind)
        return None if version is None else version.model_dump(include={"version", "sha256", "parts"})

    def photographs(self) -> list[Photograph]:
        """The accepted good parts as photographs for training."""
        return [
            Photograph(self.type_name, self.path(part).absolute(), part.file, Path(part.file).stem)
            for part in self.of("good_parts")
        ]

    def used_in(self, images: Iterable[str]) -> dict[str, Any] | None:
        """Which version of the good parts is among the photographs that a model was trained on, for its record.

        Args:
            images: The names of the photographs.

        Returns:
            ``version`` (None if it is a part of one), ``sha256`` and ``parts``; None if no accepted part is among them.
        """
        names = set(images)
        used = [part for part in self.of("good_parts") if part.file in names]
        if not used:
            return None
        sha256 = data_set_hash(used)
        known = [version.version for version in self.record.versions if version.sha256 == sha256]
        return {"version": known[-1] if known else None, "sha256": sha256, "parts": len(used)}

    def write(self, parts: Iterable[AcceptedPart], *, run: int, created: str) -> AcceptedParts:
        """Replace the parts; a data set that has changed gets a new version.

        Args:
            parts: The parts that count from now on. Their files exist.
            run: Number of this run.
            created: The time (UTC).
        """
        parts, versions = tuple(parts), list(self.record.versions)
        for kind in KINDS:
            of_kind = [part for part in parts if part.kind == kind]
            before, sha256 = self.version(kind), data_set_hash(of_kind)
            if sha256 != (data_set_hash([]) if before is None else before.sha256):
                number = 1 if before is None else before.version + 1
                versions.append(
                    DataSetVersion(
                        kind=kind, version=number, sha256=sha256, parts=len(of_kind), created=created, run=run
                    )
                )
        record = AcceptedRecord(runs=max(run, self.record.runs), versions=tuple(versions), parts=parts)
        write_record(self.record_file, record.model_dump())
        return AcceptedParts(self.type_name, self.folder, record)


def data_set_hash(parts: Iterable[AcceptedPart]) -> str:
    """SHA-256 of the photographs of parts, and of the boxes around their defects."""
    lines = sorted(f"{part.sha256} {part.boxes}\n" for part in parts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
