"""Read where the regions of a type are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from pixal.database.schema import BATCHES, MODELS, REGIONS, VERDICTS
from pixal.database.selection import Selection


@dataclass(frozen=True)
class ModelRegions:
    """The regions that the newest model of a type found.

    Attributes:
        boxes: (n, 4), x, y, width and height of each region in the model input.
        frame: Height and width of the model input.
        model_sha256: Hash of the record of the model.
        others: Number of regions that other models found.
    """

    boxes: NDArray[np.int64]
    frame: tuple[int, int]
    model_sha256: str
    others: int


def model_regions(connection: Connection, selection: Selection) -> dict[str, ModelRegions]:
    """The regions of each type that has any, of the model that was trained last: the inputs of models may differ."""
    joined = REGIONS.join(VERDICTS, VERDICTS.c.id == REGIONS.c.verdict_id)
    joined = joined.join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id).join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
    chosen = selection.conditions()
    counts = connection.execute(
        select(MODELS, func.count().label("regions"))
        .select_from(joined)
        .where(*chosen)
        .group_by(MODELS.c.id)
        .order_by(MODELS.c.trained, MODELS.c.id)
    ).all()
    found = {}
    for model in {row.type: row for row in counts if row.frame_width}.values():
        names = ("reference_x", "reference_y", "reference_width", "reference_height")
        query = select(*(REGIONS.c[name] for name in names)).select_from(joined)
        boxes = connection.execute(query.where(MODELS.c.id == model.id, *chosen)).all()
        found[model.type] = ModelRegions(
            np.array([tuple(box) for box in boxes], np.int64),
            (model.frame_height, model.frame_width),
            model.sha256,
            sum(row.regions for row in counts if row.type == model.type and row.id != model.id),
        )
    return found
