"""Find the inspections of a component, and read their files for its database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixal.config.paths import INSPECTIONS_FOLDER
from pixal.errors import InputError, PixalError
from pixal.io import ownership
from pixal.io.files import file_stat
from pixal.io.records import read_record, read_table
from pixal.tasks.photographs.inspection.results import COLUMNS, FIGURE_COLUMNS, InspectionFiles

if TYPE_CHECKING:
    from pixal.database.inspections import InspectionContent, InspectionSource

_TEXTS = ("type", "image", "source", "format", "hash", "sha256", "findings", "use", "reason")
_COUNTS = ("bytes", "width", "height", "bits")
_ADDED = {"sha256"}  # columns that tables of earlier versions lack


def stored_inspections(component: str, known: Iterable[str]) -> Iterator[InspectionSource]:
    """The inspections of a component: those in ``inspection/`` and those whose folders are known.

    An inspection belongs to the component that the settings named. One that was made with the settings of the package,
    which name none, belongs to the component that its photographs are named after.

    Args:
        component: The name of the component.
        known: Folders whose inspections belong to it.
    """
    from pixal.database.inspections import InspectionSource

    found = {
        str(path.parent): path.parent for path in sorted(Path(INSPECTIONS_FOLDER).absolute().glob("*/inspection.yaml"))
    }
    for folder in {**{name: Path(name) for name in known}, **found}.values():
        files = InspectionFiles(folder)
        if not files.record.is_file() or not ownership.owns(files.record):
            continue
        size, modified, _ = file_stat(files.record)
        if str(folder) not in known and not _belongs_to(component, files.record, (size, modified)):
            continue
        yield InspectionSource(folder.name, str(folder), size, modified, partial(_read, files))


def _belongs_to(component: str, record: Path, stat: tuple[int, int]) -> bool:
    named, source = _origin(record, stat)
    return named == component if named else Path(source).name == component


@lru_cache(maxsize=1024)
def _origin(record: Path, stat: tuple[int, int]) -> tuple[str, str]:  # the key of the cache
    """The component and the source of an inspection; "" if the record is damaged."""
    try:
        content = read_record(record)
    except PixalError:
        return "", ""
    return str(content.get("component") or ""), str(content.get("source") or "")


def _read(files: InspectionFiles) -> InspectionContent:
    from pixal.database.inspections import InspectionContent

    record = read_record(files.record)
    try:
        values = {name: str(record[name] or "") for name in ("source", "against", "created", "pixal_version")}
        findings = [
            {name: str(finding[name]) for name in ("type", "kind", "message", "advice")}
            | {"photographs": len(finding["photographs"])}
            for finding in record["findings"]
        ]
        rows = read_table(files.table, [name for name in COLUMNS if name not in _ADDED])
        photographs = [_photograph(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{files.folder} is damaged ({type(error).__name__}: {error})") from error
    return InspectionContent(values, tuple(photographs), tuple(findings))


def _photograph(row: dict[str, str]) -> dict[str, Any]:
    return {
        **{name: row.get(name, "") for name in _TEXTS},
        **{name: int(row[name]) if row[name] else None for name in _COUNTS},
        **{name: float(row[name]) if row[name] else None for name in FIGURE_COLUMNS},
    }
