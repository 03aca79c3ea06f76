"""The name, the source and the start of a batch, and the file that holds them."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pixal.config.paths import BATCHES_FOLDER
from pixal.errors import InputError
from pixal.io.names import LONGEST_STEM, as_utf8, comparable, printable
from pixal.io.records import read_record, write_record
from pixal.report.document import BatchOrigin

BATCH_RECORD = "batch.yaml"
"""Name of the record, in the folder of the component's results."""

_NOT_ALLOWED = re.compile(r'[<>:"/\\|?*]')  # in a file name of Windows
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows


class BatchRecord(BaseModel):
    """The content of ``batch.yaml``.

    Attributes:
        name: The name of the batch.
        source: Absolute path of the folder of its photographs, or of its only photograph; "" if not known.
        started: When its first run began, ISO 8601.
        types: The image types that have files in its results.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    started: str
    types: tuple[str, ...] = ()

    @field_validator("name", "types")
    @classmethod
    def _are_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        """They become names of folders, so that an edited record must not lead elsewhere."""
        for name in (value,) if isinstance(value, str) else value:
            if not name or name == ".." or Path(name).name != name or printable(name) != name:
                raise ValueError(f"{name!r} is not the name of a folder")
        return value

    @property
    def origin(self) -> BatchOrigin:
        """The description of the batch in the results."""
        return BatchOrigin(name=self.name, source=self.source, started=self.started)

    def with_types(self, types: Collection[str]) -> BatchRecord:
        """The record of the same batch with these types."""
        return self.model_copy(update={"types": tuple(sorted(types))})


def read_batch_record(folder: Path, name: str | None = None) -> BatchRecord | None:
    """Read the record of the batch whose results are in ``folder``; None if there is none, or it is damaged.

    Args:
        folder: The folder.
        name: A name that replaces the one in the record.
    """
    try:
        content = read_record(folder / BATCH_RECORD)
        return BatchRecord.model_validate(content if name is None else content | {"name": name})
    except (InputError, ValidationError):
        return None


def write_batch_record(folder: Path, record: BatchRecord) -> None:
    """Write the record of the batch whose results are in ``folder``, if it has changed."""
    if read_batch_record(folder) != record:
        write_record(folder / BATCH_RECORD, record.model_dump())


def check_batch_name(name: str) -> None:
    """Raise ``InputError`` if a name cannot be that of a folder on all systems."""
    problem = ""
    if not name.strip():
        problem = "is empty"
    elif found := _NOT_ALLOWED.search(name):
        problem = f"holds {found[0]}"
    elif printable(name) != name:
        problem = "holds characters that cannot be shown"
    elif name.startswith((".", "-")) or name != name.strip() or name.endswith("."):
        problem = "begins with a dot, a dash or a space, or ends with a dot or a space"
    elif _DEVICES.fullmatch(name):
        problem = "is the name of a device on Windows"
    elif len(name.encode()) > LONGEST_STEM:
        problem = f"has more than {LONGEST_STEM} bytes"
    if problem:
        raise InputError(f"--batch {name!r} {problem}; choose a name that a folder can have, like 2026-11-28_lot7")


def default_name(source: Path, taken: datetime, known: Collection[str]) -> str:
    """The name of a new batch: that of its folder or photograph, and the time of its first photograph.

    Args:
        source: The folder, or the photograph.
        taken: When the first photograph was taken.
        known: Names that other batches have; a number is appended where two would be the same.
    """
    stem = source.stem if source.is_file() else source.name
    stem = _NOT_ALLOWED.sub("_", printable(stem)).strip(" .-") or "batch"
    stem = stem.encode()[: LONGEST_STEM // 2].decode(errors="ignore").rstrip(" .")
    return free_name(f"{stem}_{taken:%Y-%m-%dT%H-%M}", known)


def free_name(name: str, known: Collection[str]) -> str:
    """``name``, with a number appended if it is among ``known``; some file systems ignore upper and lower case."""
    taken = set(map(comparable, known))
    candidate, number = name, 1
    while comparable(candidate) in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def check_types(types: Collection[str]) -> None:
    """Raise ``InputError`` if the results of a type would lie among the earlier batches."""
    for problem in filter(None, map(name_problem, types)):
        raise InputError(problem)


def name_problem(type_name: str) -> str | None:
    """Why a type cannot be validated: it has the name of the folder of the earlier batches. None if it can."""
    if comparable(type_name) != BATCHES_FOLDER:
        return None
    return (
        f"an image type cannot be called {type_name}, because the results of earlier batches are in a folder of that "
        "name; rename the folder of its photographs, and preprocess and train the type again"
    )


def source_text(path: Path) -> str:
    """The path of a source as a record holds it: absolute, without links; bytes that are no UTF-8 are escaped."""
    return as_utf8(str(path.resolve()))
