"""The batches of a component, and the parts of a batch, as pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, case, func, select

from pixal.database.marks import is_reviewed
from pixal.database.schema import BATCHES, DATA_SETS, MARKS, MODELS, PARTS, PHOTOGRAPHS, REGIONS, VERDICTS

Order = Literal["worst", "name", "taken"]
Reviewed = Literal["", "left", "reviewed", "wrong"]


@dataclass(frozen=True)
class PartFilter:
    """Which parts of a batch are shown, and in which order.

    Attributes:
        verdict: "pass", "fail" or "error"; "" for all.
        reviewed: "left" (nobody has reviewed it), "reviewed", "wrong" (marked as false alarm or missed); "" for all.
        type: The image type; "" for all.
        text: What the name or the reason contains; "" for all.
        order: "worst" (the highest score in units of the threshold first), "name" or "taken".
    """

    verdict: str = ""
    reviewed: Reviewed = ""
    type: str = ""
    text: str = ""
    order: Order = "worst"

    @classmethod
    def of(cls, values: dict[str, str]) -> PartFilter:
        """The filter of a query string. Values that are not known are left out."""
        reviewed, order = values.get("reviewed", ""), values.get("order", "worst")
        return cls(
            verdict=values.get("verdict", "") if values.get("verdict") in ("pass", "fail", "error") else "",
            reviewed=cast(Reviewed, reviewed) if reviewed in get_args(Reviewed) else "",
            type=values.get("only", ""),
            text=values.get("text", "").strip(),
            order=cast(Order, order) if order in get_args(Order) else "worst",
        )

    def values(self) -> dict[str, str]:
        """The values of a query string that give this filter, without those that are the default."""
        found = {"verdict": self.verdict, "reviewed": self.reviewed, "only": self.type, "text": self.text}
        found["order"] = "" if self.order == "worst" else self.order
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Counts:
    """Numbers of photographs of a batch.

    Attributes:
        photographs: All of them.
        failed: With the verdict fail.
        errors: That could not be processed.
        reviewed: With a verdict that somebody has reviewed.
    """

    photographs: int
    failed: int
    errors: int
    reviewed: int

    @property
    def left(self) -> int:
        """Number of verdicts that nobody has reviewed. Photographs that could not be processed do not count."""
        return self.photographs - self.errors - self.reviewed


def list_batches(connection: Connection) -> list[RowMapping]:
    """The batches, the newest first: the columns of ``batches``, and ``taken``, when its first photograph was taken."""
    taken = select(func.min(VERDICTS.c.taken)).where(VERDICTS.c.batch_id == BATCHES.c.id).scalar_subquery()
    query = select(BATCHES, taken.label("taken")).order_by(BATCHES.c.started.desc())
    return list(connection.execute(query).mappings())


def list_models(connection: Connection) -> list[RowMapping]:
    """The models that gave verdicts, the last trained first: the columns of ``models``, ``good`` and ``verdicts``.

    ``good`` is the number of good photographs that a model was trained on, ``verdicts`` the number of its verdicts.
    """
    verdicts = select(func.count()).where(VERDICTS.c.model_id == MODELS.c.id).scalar_subquery()
    query = (
        select(MODELS, DATA_SETS.c.photographs.label("good"), verdicts.label("verdicts"))
        .outerjoin(DATA_SETS, DATA_SETS.c.id == MODELS.c.data_set_id)
        .order_by(MODELS.c.trained.desc(), MODELS.c.type)
    )
    return [row for row in connection.execute(query).mappings() if row["verdicts"]]


def find_batch(connection: Connection, name: str) -> RowMapping | None:
    """The newest batch of a name; None if there is none."""
    query = select(BATCHES).where(BATCHES.c.name == name).order_by(BATCHES.c.started.desc())
    return connection.execute(query).mappings().first()


def batch_version(connection: Connection, batch: RowMapping) -> str:
    """A text that changes whenever verdicts of a batch are added or replaced."""
    newest = select(func.max(VERDICTS.c.id)).where(VERDICTS.c.batch_id == batch["id"])
    return f"{batch['results_modified']}/{connection.execute(newest).scalar()}"


def verdicts_of(connection: Connection, batch_id: int) -> dict[tuple[str, str], tuple[str, str | None]]:
    """Each verdict of a batch and the hash of its photograph (None if it could not be read), by type and name."""
    query = (
        select(VERDICTS.c.type, VERDICTS.c.image, VERDICTS.c.verdict, PHOTOGRAPHS.c.sha256)
        .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(VERDICTS.c.batch_id == batch_id)
    )
    return {(row.type, row.image): (row.verdict, row.sha256) for row in connection.execute(query)}


def count_parts(connection: Connection, batch_id: int) -> Counts:
    """Count the photographs of a batch, and those whose verdicts are reviewed."""
    conditions = (
        VERDICTS.c.verdict == "fail",
        VERDICTS.c.verdict == "error",
        is_reviewed() & (VERDICTS.c.verdict != "error"),
    )
    sums = [func.coalesce(func.sum(case((condition, 1), else_=0)), 0) for condition in conditions]
    query = _verdicts(batch_id).with_only_columns(func.count(), *sums)
    return Counts(*map(int, connection.execute(query).one()))


def types_of(connection: Connection, batch_id: int) -> list[str]:
    """The image types of a batch."""
    query = select(VERDICTS.c.type).where(VERDICTS.c.batch_id == batch_id).distinct().order_by(VERDICTS.c.type)
    return list(connection.execute(query).scalars())


def part_order(connection: Connection, batch_id: int, chosen: PartFilter) -> list[tuple[str, str, str, bool]]:
    """Type, photograph and verdict of each part that is chosen, and whether it is reviewed, in order."""
    query = _chosen(batch_id, chosen).with_only_columns(
        VERDICTS.c.type, VERDICTS.c.image, VERDICTS.c.verdict, is_reviewed()
    )
    return [(row[0], row[1], row[2], bool(row[3])) for row in connection.execute(query)]


def list_parts(
    connection: Connection, batch_id: int, chosen: PartFilter, *, start: int, count: int
) -> tuple[int, list[RowMapping]]:
    """The number of parts that are chosen, and those from ``start`` on, with their marks in words as ``marks``."""
    query = _chosen(batch_id, chosen)
    total = connection.execute(select(func.count()).select_from(query.order_by(None).subquery())).scalar_one()
    regions = select(func.count()).where(REGIONS.c.verdict_id == VERDICTS.c.id).scalar_subquery()
    columns = (*_COLUMNS, regions.label("regions"), _marks_in_words().label("marks"))
    rows = connection.execute(query.with_only_columns(*columns).offset(start).limit(count)).mappings()
    return int(total), list(rows)


def part_details(connection: Connection, verdict_id: int) -> tuple[RowMapping, list[RowMapping]]:
    """A verdict with its photograph and model, and its regions, the worst one first."""
    query = (
        select(
            *(VERDICTS, PARTS.c.name.label("part"), PHOTOGRAPHS.c.sha256, PHOTOGRAPHS.c.width, PHOTOGRAPHS.c.height),
            *(MODELS.c.family.label("model"), MODELS.c.trained, MODELS.c.sha256.label("model_sha256")),
        )
        .join(PARTS, PARTS.c.id == VERDICTS.c.part_id)
        .join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
        .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(VERDICTS.c.id == verdict_id)
    )
    regions = select(REGIONS).where(REGIONS.c.verdict_id == verdict_id).order_by(REGIONS.c.rank)
    return connection.execute(query).mappings().one(), list(connection.execute(regions).mappings())


def views_of_part(connection: Connection, part_id: int) -> list[RowMapping]:
    """All photographs of a part with its name, in this batch and others: batch, type, image, verdict, and reviewed."""
    serial = select(PARTS.c.name).where(PARTS.c.id == part_id).scalar_subquery()
    query = (
        select(
            *(BATCHES.c.name.label("batch"), VERDICTS.c.type, VERDICTS.c.image, VERDICTS.c.verdict),
            (PARTS.c.id == part_id).label("is_here"),
            is_reviewed().label("is_reviewed"),
        )
        .join(PARTS, PARTS.c.id == VERDICTS.c.part_id)
        .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
        .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .where(PARTS.c.name == serial)
        .order_by((PARTS.c.id != part_id), BATCHES.c.started.desc(), VERDICTS.c.type)
        .limit(_MOST_VIEWS)
    )
    return list(connection.execute(query).mappings())


_MOST_VIEWS = 24  # of one part; names such as 0001 may be in every batch
_RATIO = case((VERDICTS.c.threshold > 0, VERDICTS.c.score / VERDICTS.c.threshold))
_COLUMNS: Sequence[ColumnElement[Any]] = (
    *(VERDICTS.c[name] for name in ("type", "image", "taken", "verdict", "score", "threshold", "p_value")),
    *(VERDICTS.c.p_value_extrapolated, VERDICTS.c.reason, VERDICTS.c.true_label, VERDICTS.c.true_kind),
    *(_RATIO.label("ratio"), PHOTOGRAPHS.c.sha256, MODELS.c.sha256.label("model_sha256")),
)


def _verdicts(batch_id: int) -> Select[Any]:
    return (
        select(VERDICTS)
        .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
        .join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
        .where(VERDICTS.c.batch_id == batch_id)
    )


def _chosen(batch_id: int, chosen: PartFilter) -> Select[Any]:
    query = _verdicts(batch_id)
    if chosen.verdict:
        query = query.where(VERDICTS.c.verdict == chosen.verdict)
    if chosen.type:
        query = query.where(VERDICTS.c.type == chosen.type)
    if chosen.reviewed == "left":
        query = query.where(~is_reviewed(), VERDICTS.c.verdict != "error")
    elif chosen.reviewed == "reviewed":
        query = query.where(is_reviewed())
    elif chosen.reviewed == "wrong":
        query = query.where(_marked("false alarm", "missed"))
    if chosen.text:
        contains = (VERDICTS.c[name].icontains(chosen.text, autoescape=True) for name in ("image", "reason"))
        query = query.where(next(contains) | next(contains))
    orders: dict[Order, tuple[ColumnElement[Any], ...]] = {
        "worst": (_RATIO.is_(None), _RATIO.desc(), VERDICTS.c.type, VERDICTS.c.image),
        "name": (VERDICTS.c.type, VERDICTS.c.image),
        "taken": (VERDICTS.c.taken, VERDICTS.c.image, VERDICTS.c.type),
    }
    return query.order_by(*orders[chosen.order])


def _of_verdict() -> tuple[ColumnElement[bool], ...]:
    same = (MARKS.c.type == VERDICTS.c.type, MARKS.c.image == VERDICTS.c.image)
    holds = (MARKS.c.photograph == PHOTOGRAPHS.c.sha256, MARKS.c.withdrawn_at == "")
    return *same, *holds, MARKS.c.verdict == VERDICTS.c.verdict


def _marked(*names: str) -> ColumnElement[bool]:
    return select(MARKS.c.id).where(*_of_verdict(), MARKS.c.mark.in_(names)).exists()


def _marks_in_words() -> ColumnElement[Any]:
    words = func.group_concat(MARKS.c.mark.distinct())
    return select(words).where(*_of_verdict()).correlate(VERDICTS, PHOTOGRAPHS).scalar_subquery()
