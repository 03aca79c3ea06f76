"""Failure rates and scores by batch, day, type or model, with the limits of a control chart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Literal, cast, get_args

import numpy as np
from sqlalchemy import Connection, Row, Select, func, literal, select

from pixal.database.marks import is_marked
from pixal.database.schema import BATCHES, DRIFT_FINDINGS, MODELS, PHOTOGRAPHS, VERDICTS
from pixal.database.selection import Selection
from pixal.errors import InputError
from pixal.validation.control_chart import p_chart

Grouping = Literal["batch", "day", "type", "model"]

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Rate:
    """The verdicts of one group on one image type.

    Attributes:
        group: Name of the batch, the day, the type or the model.
        type: The image type.
        first: When its first photograph was taken.
        last: When its last photograph was taken.
        parts: Number of parts with a verdict pass or fail.
        failed: Number of parts that failed.
        errors: Number of parts that could not be processed; they are not in ``parts``.
        false_alarms: Number of parts that failed and were marked as false alarms.
        missed: Number of parts that passed and were marked as missed.
        failure_rate: ``failed / parts``; None without parts.
        centre: Mean failure rate of the type over all groups; None with fewer than two groups.
        lower_limit: Lower limit of the rate by chance; None with fewer than two groups.
        upper_limit: Upper limit of the rate by chance; None with fewer than two groups.
        outside: "above" or "below" the limits, or "".
        scores: The quantiles ``QUANTILES`` of score / threshold; empty without scores.
        highest: The largest score / threshold; None without scores.
        drift: How the batch differs from training, one sentence each; only by batch.
        folder: Folder of the results, as stored in the database; only by batch.
    """

    group: str
    type: str
    first: str
    last: str
    parts: int
    failed: int
    errors: int
    false_alarms: int = 0
    missed: int = 0
    failure_rate: float | None = None
    centre: float | None = None
    lower_limit: float | None = None
    upper_limit: float | None = None
    outside: str = ""
    scores: tuple[float, ...] = ()
    highest: float | None = None
    drift: tuple[str, ...] = ()
    folder: str = ""


def grouping(name: str) -> Grouping:
    """Check the name of a grouping. Raise ``InputError`` if there is no such one."""
    for known in get_args(Grouping):
        if name == known:
            return cast(Grouping, known)
    raise InputError(f"--by {name}: rates can be counted by {', '.join(get_args(Grouping))}")


def failure_rates(connection: Connection, by: Grouping, selection: Selection) -> list[Rate]:
    """The rates of each group and type, by type and then in the order of time.

    Only the scores of one group are in memory at a time.
    """
    findings = _drift(connection) if by == "batch" else {}
    rates = []
    for key, rows in groupby(connection.execute(_query(by, selection)), key=lambda row: (row.group_id, row.type)):
        rates.append(replace(_rate(list(rows)), drift=tuple(findings.get(key, ()))))
    rates.sort(key=lambda rate: (rate.type, rate.first, rate.group))
    return [rate for _, same in groupby(rates, key=lambda rate: rate.type) for rate in _with_limits(list(same))]


def _query(by: Grouping, selection: Selection) -> Select[Any]:
    """One row per verdict, the rows of a group one after the other."""
    model_name = MODELS.c.family + " " + MODELS.c.trained
    group_id, group = {
        "batch": (BATCHES.c.id, BATCHES.c.name),
        "day": (func.substr(VERDICTS.c.taken, 1, 10), func.substr(VERDICTS.c.taken, 1, 10)),
        "type": (VERDICTS.c.type, VERDICTS.c.type),
        "model": (MODELS.c.id, model_name),
    }[by]
    folder = BATCHES.c.folder if by == "batch" else literal("")
    return (
        select(
            *(VERDICTS.c.type, group_id.label("group_id"), group.label("group_name"), folder.label("folder")),
            *(VERDICTS.c.taken, VERDICTS.c.verdict, VERDICTS.c.score, VERDICTS.c.threshold),
            *(
                is_marked("false alarm").label("is_false_alarm"),
                ((VERDICTS.c.verdict == "pass") & is_marked("missed")).label("is_missed"),
            ),
        )
        .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
        .where(*selection.conditions())
        .order_by(VERDICTS.c.type, group_id)
    )


def _rate(rows: list[Row[Any]]) -> Rate:
    failed, errors = (sum(row.verdict == verdict for row in rows) for verdict in ("fail", "error"))
    ratios = np.array([row.score / row.threshold for row in rows if row.score is not None and row.threshold])
    parts = len(rows) - errors
    return Rate(
        group=rows[0].group_name,
        type=rows[0].type,
        first=min(row.taken for row in rows),
        last=max(row.taken for row in rows),
        parts=parts,
        failed=failed,
        errors=errors,
        false_alarms=sum(row.is_false_alarm for row in rows),
        missed=sum(row.is_missed for row in rows),
        failure_rate=failed / parts if parts else None,
        scores=tuple(np.quantile(ratios, QUANTILES).tolist()) if len(ratios) else (),
        highest=float(ratios.max()) if len(ratios) else None,
        folder=rows[0].folder,
    )


def _with_limits(rates: list[Rate]) -> Iterator[Rate]:
    """The rates of one type with the limits of their chart; unchanged if there is nothing to compare."""
    if sum(rate.parts > 0 for rate in rates) < 2:
        yield from rates
        return
    chart = p_chart([rate.failed for rate in rates], [rate.parts for rate in rates])
    for index, rate in enumerate(rates):
        if not rate.parts:
            yield rate
            continue
        yield replace(
            rate,
            centre=chart.centre,
            lower_limit=float(chart.lower[index]),
            upper_limit=float(chart.upper[index]),
            outside=("below", "", "above")[int(chart.outside[index]) + 1],
        )


def _drift(connection: Connection) -> dict[tuple[int, str], list[str]]:
    """The drift findings of each batch, by its number, and type."""
    found: dict[tuple[int, str], list[str]] = {}
    for row in connection.execute(select(DRIFT_FINDINGS)):
        found.setdefault((row.batch_id, row.type), []).append(row.message)
    return found
