"""Good parts of earlier batches, according to the marks of inspectors, and whether they failed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, select

from pixal.database.marks import is_marked
from pixal.database.schema import BATCHES, MODELS, PHOTOGRAPHS, VERDICTS


@dataclass(frozen=True)
class ReviewedParts:
    """Good parts of earlier batches.

    Attributes:
        failed: Whether each of them failed, in the order in which they were photographed.
        unmarked: The first batch with a part that failed and has no mark; it and later ones do not count. "" if all
            have marks.
    """

    failed: list[bool]
    unmarked: str = ""


def reviewed_good_parts(connection: Connection, type_name: str, model_sha256: str, source: str) -> ReviewedParts:
    """Return whether each good part of earlier batches failed.

    A part that failed is good if it is marked as a false alarm, and a part that passed unless it is marked as missed.
    Batches count up to the first one that is not marked. Without this rule, parts that passed, which nobody has to
    mark, would count alone.

    Args:
        connection: The database.
        type_name: The image type.
        model_sha256: Hash of the record of the model; verdicts of other models do not count.
        source: The source of the batch that is validated now; it does not count.
    """
    query = (
        select(
            *(VERDICTS.c.batch_id, BATCHES.c.name, VERDICTS.c.verdict),
            *(is_marked(mark).label(mark.replace(" ", "_")) for mark in ("confirmed", "false alarm", "missed")),
        )
        .join(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
        .where(VERDICTS.c.type == type_name, VERDICTS.c.verdict.in_(("pass", "fail")))
        .where(MODELS.c.sha256 == model_sha256, BATCHES.c.source != source)
        .order_by(BATCHES.c.started, BATCHES.c.id, VERDICTS.c.taken, VERDICTS.c.id)
    )
    failed: list[bool] = []
    for _, rows in groupby(connection.execute(query), key=lambda row: row.batch_id):
        parts = list(rows)
        if not all(part.confirmed or part.false_alarm for part in parts if part.verdict == "fail"):
            return ReviewedParts(failed, parts[0].name)
        failed += [part.verdict == "fail" for part in parts if _is_good(part)]
    return ReviewedParts(failed)


def _is_good(part: Row[Any]) -> bool:
    """Whether a marked part is good. If two inspectors disagree, it is not known, and the part does not count."""
    return part.false_alarm and not part.confirmed if part.verdict == "fail" else not part.missed
