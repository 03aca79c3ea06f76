"""The results of ``pixal inspect`` in the database: written from its files, and read for pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from pixal.database.rows import insert_rows, next_id, photograph_ids
from pixal.database.schema import INSPECTED_PHOTOGRAPHS, INSPECTION_FINDINGS, INSPECTIONS
from pixal.errors import PixalError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class InspectionContent:
    """The content of the files of an inspection.

    Attributes:
        values: The columns ``source``, ``against``, ``created`` and ``pixal_version`` of ``inspections``.
        photographs: The columns of ``inspected_photographs`` for each photograph, and its ``sha256``, ``width`` and
            ``height``.
        findings: The columns of ``inspection_findings`` for each finding.
    """

    values: Mapping[str, Any]
    photographs: tuple[Mapping[str, Any], ...]
    findings: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class InspectionSource:
    """The files of an inspection, which are read only if they have changed since the database was written.

    Attributes:
        name: The name of its folder.
        folder: The path of its folder.
        size: The size of ``inspection.yaml`` in bytes.
        modified: The time of its modification in nanoseconds.
        read: Reads the files. Raises ``InputError`` if they are damaged.
    """

    name: str
    folder: str
    size: int
    modified: int
    read: Callable[[], InspectionContent]


def record_inspections(connection: Connection, inspections: Iterable[InspectionSource]) -> int:
    """Write the inspections that have changed. Return their number."""
    known = {row.folder: row for row in connection.execute(select(INSPECTIONS))}
    count = 0
    for files in inspections:
        row = known.get(files.folder)
        if row is not None and (row.record_size, row.record_modified) == (files.size, files.modified):
            continue
        try:
            content = files.read()
        except PixalError as error:
            _log.warning("the inspection in %s is left out of the database: %s", files.folder, error)
            continue
        if row is not None:
            connection.execute(INSPECTIONS.delete().where(INSPECTIONS.c.id == row.id))  # with all that belongs to it
        _record(connection, files, content)
        count += 1
    return count


def inspection_folders(connection: Connection) -> list[str]:
    """The folders of the inspections that are stored."""
    return list(connection.execute(select(INSPECTIONS.c.folder)).scalars())


def list_stored_inspections(connection: Connection) -> list[dict[str, Any]]:
    """The inspections, the newest first: the columns of ``inspections``, ``photographs`` and ``findings``.

    ``photographs`` is their number, ``findings`` the messages with their types.
    """
    photographs = (
        select(func.count()).where(INSPECTED_PHOTOGRAPHS.c.inspection_id == INSPECTIONS.c.id).scalar_subquery()
    )
    rows = connection.execute(
        select(INSPECTIONS, photographs.label("photographs")).order_by(INSPECTIONS.c.created.desc())
    ).mappings()
    findings: dict[int, list[str]] = {}
    for finding in connection.execute(select(INSPECTION_FINDINGS).order_by(INSPECTION_FINDINGS.c.id)):
        findings.setdefault(finding.inspection_id, []).append(f"{finding.type}: {finding.message}")
    return [{**row, "findings": findings.get(row["id"], [])} for row in rows]


def _record(connection: Connection, files: InspectionSource, content: InspectionContent) -> None:
    number = next_id(connection, INSPECTIONS)
    inspection = {"id": number, "name": files.name, "folder": files.folder, **content.values}
    insert_rows(connection, INSPECTIONS, [inspection | {"record_size": files.size, "record_modified": files.modified}])
    sizes = {
        photo["sha256"]: {name: photo[name] for name in ("sha256", "width", "height")}
        for photo in content.photographs
        if photo["sha256"]
    }
    ids = photograph_ids(connection, sizes)
    columns = set(INSPECTED_PHOTOGRAPHS.c.keys()) - {"id", "inspection_id", "photograph_id"}
    of_inspection = {"inspection_id": number}
    photographs = [
        {**of_inspection, "photograph_id": ids.get(photo["sha256"]), **{name: photo[name] for name in columns}}
        for photo in content.photographs
    ]
    insert_rows(connection, INSPECTED_PHOTOGRAPHS, photographs)
    insert_rows(connection, INSPECTION_FINDINGS, [of_inspection | dict(finding) for finding in content.findings])
