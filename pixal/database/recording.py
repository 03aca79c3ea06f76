"""Write batches into the database, from what their files hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, select
from sqlalchemy.dialects.sqlite import insert

from pixal.database.rows import insert_rows, next_id, photograph_ids
from pixal.database.schema import (
    BATCHES,
    DATA_SETS,
    DERIVED,
    DRIFT_FINDINGS,
    MODELS,
    PARTS,
    PHOTOGRAPHS,
    REGIONS,
    VERDICTS,
)
from pixal.errors import PixalError
from pixal.io.image_time import time_taken
from pixal.report.document import BatchOrigin, ModelOrigin, PartResult, ResultsDocument
from pixal.report.part_verdicts import part_name

_log = logging.getLogger(__name__)

PartKey = tuple[str, str]
"""A part of a batch: its type, and the name of its photograph."""


@dataclass(frozen=True)
class PhotographFacts:
    """The data on a photograph in the files of a batch, except its verdict.

    Attributes:
        path: Its absolute path.
        sha256: The SHA-256 of its file; None if it could not be read.
        modified: The modification time of its file in nanoseconds; None if not known.
    """

    path: str
    sha256: str | None
    modified: int | None


@dataclass(frozen=True)
class BatchContent:
    """The content of the files of a batch.

    Attributes:
        results: The content of ``results.json``.
        photographs: What is known of the photograph of each part.
    """

    results: ResultsDocument
    photographs: Mapping[PartKey, PhotographFacts]


@dataclass(frozen=True)
class BatchFiles:
    """The files of a batch, which are read only if they have changed since the database was written.

    Attributes:
        origin: Name, source and start of the batch.
        folder: Folder of its results, relative to that of the database, or absolute.
        size: Size of ``results.json`` in bytes.
        modified: Its modification time in nanoseconds.
        read: Reads the files. Raises ``InputError`` if they are damaged.
    """

    origin: BatchOrigin
    folder: str
    size: int
    modified: int
    read: Callable[[], BatchContent]


def record_batches(connection: Connection, batches: Iterable[BatchFiles]) -> int:
    """Write the batches that have changed. Return their number. One batch at a time is in memory."""
    known = {(row.source, row.started): row for row in connection.execute(select(BATCHES))}
    count = 0
    for files in batches:
        row = known.get((files.origin.source, files.origin.started))
        if row is not None and (row.results_size, row.results_modified) == (files.size, files.modified):
            if (row.name, row.folder) != (files.origin.name, files.folder):  # moved, or renamed by the user
                values = {"name": files.origin.name, "folder": files.folder}
                connection.execute(BATCHES.update().where(BATCHES.c.id == row.id).values(values))
            continue
        try:
            content = files.read()
        except PixalError as error:
            _log.warning("batch %s is left out of the history: %s", files.origin.name, error)
            continue
        _record(connection, files, content, None if row is None else row.id)
        count += 1
    return count


def add_parts(
    connection: Connection, batch: RowMapping, parts: Iterable[tuple[PartResult, PhotographFacts]], pattern: str | None
) -> int:
    """Add verdicts to a stored batch whose results are still being written, or replace them. Return their number.

    Parts of a type that the batch has no verdict of yet are left out: its model is not known.

    Args:
        connection: A transaction that may write.
        batch: The row of the batch.
        parts: The verdicts, each with what is known of its photograph.
        pattern: See ``part_verdicts.part_name``.
    """
    of_batch = VERDICTS.c.batch_id == batch["id"]
    query = select(VERDICTS.c.type, VERDICTS.c.model_id).where(of_batch)
    models = {row.type: row.model_id for row in connection.execute(query)}
    chosen = [(part, facts) for part, facts in parts if part.type in models]
    if not chosen:
        return 0
    sizes = {facts.sha256: _photograph_row(part, facts.sha256) for part, facts in chosen if facts.sha256}
    photographs = photograph_ids(connection, sizes)
    of_part = select(PARTS.c.name, PARTS.c.id).where(PARTS.c.batch_id == batch["id"])
    known = {row.name: row.id for row in connection.execute(of_part)}
    names = [part_name(part.image, pattern) for part, _ in chosen]
    known |= _part_ids(connection, batch["id"], [name for name in names if name not in known])
    for name, (part, facts) in zip(names, chosen, strict=True):
        same = (of_batch, VERDICTS.c.type == part.type, VERDICTS.c.image == part.image)
        connection.execute(VERDICTS.delete().where(*same))  # with its regions
        number = next_id(connection, VERDICTS)
        row = {
            **{"id": number, "batch_id": batch["id"], "part_id": known[name], "model_id": models[part.type]},
            **{"taken": _time_taken(facts, batch["started"]), "photograph_id": photographs.get(facts.sha256 or "")},
            **_verdict_values(part),
        }
        insert_rows(connection, VERDICTS, [row])
        insert_rows(connection, REGIONS, [_region_values(number, *item) for item in enumerate(part.regions, start=1)])
    return len(chosen)


def forget_batches(connection: Connection) -> None:
    """Remove all that comes from files. Marks stay."""
    for table in reversed(DERIVED):
        connection.execute(table.delete())


def _record(connection: Connection, files: BatchFiles, content: BatchContent, batch_id: int | None) -> None:
    results = content.results
    taken = _times_known(connection, batch_id)
    if batch_id is None:
        batch_id = next_id(connection, BATCHES)
    else:
        connection.execute(BATCHES.delete().where(BATCHES.c.id == batch_id))  # with all that belongs to it
    batch = {
        "id": batch_id,
        **files.origin.model_dump(),
        **{"written": results.created, "pixal_version": results.pixal_version, "folder": files.folder},
        **{"results_size": files.size, "results_modified": files.modified},
    }
    connection.execute(insert(BATCHES), batch)
    findings = [
        {"batch_id": batch_id, **{key: value for key, value in vars(finding).items() if key != "test"}}
        for finding in results.drift.findings
    ]
    insert_rows(connection, DRIFT_FINDINGS, findings)
    models = {name: _model_id(connection, name, results) for name in {part.type for part in results.parts}}
    photographs = photograph_ids(connection, _photographs_of(content))
    part_names = _part_names(results)
    parts = _part_ids(connection, batch_id, part_names.values())
    verdicts, regions = [], []
    for verdict_id, part in enumerate(results.parts, start=next_id(connection, VERDICTS)):
        facts = content.photographs.get((part.type, part.image))
        known = taken.get((part.type, part.image, None if facts is None else facts.sha256))
        verdicts.append(
            {
                **{"id": verdict_id, "batch_id": batch_id, "part_id": parts[part_names[part.type, part.image]]},
                **{"model_id": models[part.type], "taken": known or _time_taken(facts, files.origin.started)},
                "photograph_id": None if facts is None else photographs.get(facts.sha256 or ""),
                **_verdict_values(part),
            }
        )
        regions += [_region_values(verdict_id, rank, region) for rank, region in enumerate(part.regions, start=1)]
    insert_rows(connection, VERDICTS, verdicts)
    insert_rows(connection, REGIONS, regions)


def _verdict_values(part: PartResult) -> dict[str, Any]:
    names = ("type", "image", "source", "verdict", "score", "threshold", "p_value", "p_value_extrapolated")
    return {
        **{name: getattr(part, name) for name in (*names, "reason", "overlay")},
        "true_label": None if part.truth is None else part.truth.label,
        "true_kind": None if part.truth is None else part.truth.kind,
    }


def _region_values(verdict_id: int, rank: int, region: Any) -> dict[str, Any]:
    x, y, width, height = region.reference
    names = ("x", "y", "width", "height", "area_px", "peak", "channel")
    return {
        **{"verdict_id": verdict_id, "rank": rank, **{name: getattr(region, name) for name in names}},
        **{"reference_x": x, "reference_y": y, "reference_width": width, "reference_height": height},
    }


def _model_id(connection: Connection, type_name: str, results: ResultsDocument) -> int:
    """The model of a type, which is stored if it is not known yet."""
    model = results.types[type_name].model or _model_of_all(results)
    data_set_id = None
    if model.data_sha256:
        data_set = {"sha256": model.data_sha256, "photographs": model.good_images}
        connection.execute(insert(DATA_SETS).on_conflict_do_nothing(), data_set)
        data_set_id = connection.execute(
            select(DATA_SETS.c.id).where(DATA_SETS.c.sha256 == model.data_sha256)
        ).scalar_one()
    height, width = model.frame or (None, None)
    key = {"type": type_name, "family": model.family, "name": model.name}
    key |= {"trained": model.trained, "sha256": model.record_sha256}
    values = {**key, "data_set_id": data_set_id, "frame_width": width, "frame_height": height}
    connection.execute(insert(MODELS).on_conflict_do_nothing(), values)
    matches = (MODELS.c[name] == value for name, value in key.items())
    return int(connection.execute(select(MODELS.c.id).where(*matches)).scalar_one())


def _model_of_all(results: ResultsDocument) -> ModelOrigin:
    """The only model that results of versions before ``ModelOrigin`` name."""
    model = results.model
    return ModelOrigin(family=model.family, name=model.name, trained=model.trained, good_images=model.good_images)


def _photographs_of(content: BatchContent) -> dict[str, dict[str, Any]]:
    """The rows of the photographs of a batch, by their hashes."""
    rows = {}
    for part in content.results.parts:
        facts = content.photographs.get((part.type, part.image))
        if facts is not None and facts.sha256:
            rows[facts.sha256] = _photograph_row(part, facts.sha256)
    return rows


def _photograph_row(part: PartResult, sha256: str) -> dict[str, Any]:
    return {"sha256": sha256, "width": part.width, "height": part.height}


def _part_ids(connection: Connection, batch_id: int, part_names: Iterable[str]) -> dict[str, int]:
    """Store the parts of a batch; return their numbers by their names."""
    names = dict.fromkeys(part_names)
    ids = {name: number for number, name in enumerate(names, start=next_id(connection, PARTS))}
    insert_rows(connection, PARTS, [{"id": ids[name], "batch_id": batch_id, "name": name} for name in names])
    return ids


def _part_names(results: ResultsDocument) -> dict[PartKey, str]:
    """The name of the part that each photograph shows."""
    names = {(part.type, part.image): part_name(part.image) for part in results.parts}
    for part in results.part_verdicts:
        names |= {(type_name, image): part.part for type_name, images in part.views.items() for image in images}
    return names


def _times_known(connection: Connection, batch_id: int | None) -> dict[tuple[str, str, str | None], str]:
    """When the photographs of a stored batch were taken, so that only new ones are opened."""
    if batch_id is None:
        return {}
    query = (
        select(VERDICTS.c.type, VERDICTS.c.image, PHOTOGRAPHS.c.sha256, VERDICTS.c.taken)
        .join(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(VERDICTS.c.batch_id == batch_id)
    )
    return {(row.type, row.image, row.sha256): row.taken for row in connection.execute(query)}


def _time_taken(facts: PhotographFacts | None, started: str) -> str:
    """When a photograph was taken, as local time: from its file, else from its record, else the start of the batch."""
    if facts is None or facts.modified is None:
        time = datetime.fromisoformat(started.replace("Z", "+00:00"))
        return time.astimezone().replace(tzinfo=None).isoformat(timespec="seconds")
    path = Path(facts.path)
    time = time_taken(path) if path.is_file() else datetime.fromtimestamp(facts.modified / 1e9)
    return time.isoformat(timespec="seconds")
