"""The result of ``pixal history``: failure rates, scores and drift of the batches of a component."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from pixal.database.rates import QUANTILES, Grouping, Rate, failure_rates
from pixal.database.schema import BATCHES, MODELS, PARTS, PHOTOGRAPHS, REGIONS, VERDICTS
from pixal.database.selection import Selection
from pixal.database.store import Store
from pixal.errors import InputError
from pixal.extras import require_extra
from pixal.io.records import write_table
from pixal.outcome import Failure

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    ReferenceOf = Callable[[str, str], NDArray[np.uint8] | None]
    """Gives the area of the reference photograph that the input of a model shows, (h, w, 3) uint8 RGB, by the type and
    the hash of the record of the model; None if it is not known."""

HISTORY_COLUMNS = (
    *("group", "type", "first", "last", "parts", "failed", "errors", "false_alarms", "missed"),
    *("failure_rate", "centre"),
    *("lower_limit", "upper_limit", "outside", *(f"score_{round(100 * share)}" for share in QUANTILES), "highest"),
    "drift",
)
"""The columns of ``history.csv``. Scores are relative to the threshold."""


@dataclass(frozen=True)
class History:
    """The history of a component.

    Attributes:
        component: Its name.
        folder: The folder of its results, where ``write_page`` and ``write_table`` put their files.
        by: What the rates are grouped by.
        selection: Which verdicts are shown.
        rates: The failure rate of each group and image type.
        reference_of: Gives the background of the map of regions.
    """

    component: str
    folder: Path
    by: Grouping
    selection: Selection
    rates: tuple[Rate, ...]
    reference_of: ReferenceOf
    _store: Store

    @classmethod
    def read(
        cls,
        store: Store,
        component: str,
        folder: Path,
        by: Grouping,
        selection: Selection,
        reference_of: ReferenceOf = lambda *_: None,
    ) -> History:
        """Read the rates. See the class for the arguments.

        Raises:
            InputError: There are no verdicts, or none that are selected.
        """
        with store.reading() as connection:
            if not connection.execute(select(func.count()).select_from(VERDICTS)).scalar():
                raise InputError(f"{folder} holds no verdicts yet; run validate first")
            selection.check(connection)
            rates = failure_rates(connection, by, selection)
        if not rates:
            raise InputError("no photograph was taken in this time; choose another --since or --until")
        return cls(component, folder, by, selection, tuple(rates), reference_of, store)

    @property
    def failures(self) -> Sequence[Failure | str]:
        """Nothing: what could not be processed is in the batches."""
        return ()

    @property
    def failed(self) -> int:
        """Number of photographs of failed parts."""
        return sum(rate.failed for rate in self.rates)

    @property
    def all_failed(self) -> bool:
        """False: a history that cannot be read is an error."""
        return False

    def summary(self) -> str:
        """A table for the terminal."""
        width = max(len(self.by), *(len(rate.group) for rate in self.rates))
        lines = [f"{'type':<12} {self.by:<{width}} {'first photograph':<16} {'parts':>6} {'failed':>6}   rate  limits"]
        for rate in self.rates:
            share = "" if rate.failure_rate is None else f"{rate.failure_rate:6.1%}"
            limits = "" if rate.lower_limit is None else f"{rate.lower_limit:.1%} to {rate.upper_limit:.1%}"
            start = f"{rate.type:<12} {rate.group:<{width}} {rate.first[:16].replace('T', ' ')}"
            note = f"  {rate.outside.upper()} THE LIMITS" if rate.outside else ""
            lines.append(f"{start} {rate.parts:>6} {rate.failed:>6} {share:>6}  {limits}{note}".rstrip())
            if rate.false_alarms or rate.missed:
                lines.append(f"{'':12} marked: {rate.false_alarms} false alarms, {rate.missed} missed")
            lines += [f"{'':12} drift: {message}" for message in rate.drift]
        return "\n".join(lines)

    def write_table(self) -> Path:
        """Write ``history.csv``: one row per group and type. Return its path."""
        path = self.folder / "history.csv"
        write_table(path, HISTORY_COLUMNS, map(_table_row, self.rates))
        return path

    def write_page(self) -> Path:
        """Write ``history.html``: charts, the places of regions, and the rates. Return its path."""
        from pixal.database.regions import model_regions
        from pixal.report.history import RegionPlaces, write_history_page

        with self._store.reading() as connection:
            regions = model_regions(connection, self.selection)
        path = self.folder / "history.html"
        write_history_page(
            path,
            component=self.component,
            by=self.by,
            selected=self.selection.in_words(),
            rates=self.rates,
            places={
                name: RegionPlaces(found.boxes, found.frame, self.reference_of(name, found.model_sha256), found.others)
                for name, found in regions.items()
            },
        )
        return path

    def as_json(self) -> str:
        """The rates as a JSON document."""
        content = {
            "schema_version": 1,
            "component": self.component,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "by": self.by,
            "selection": asdict(self.selection),
            "rates": [_json_row(rate) for rate in self.rates],
        }
        return json.dumps(content, indent=1, allow_nan=False)

    def rates_frame(self) -> pd.DataFrame:
        """The rates as a pandas frame, with the columns of ``history.csv``."""
        require_extra("pandas", "a data frame")
        import pandas as pd

        return pd.DataFrame([_table_row(rate) for rate in self.rates], columns=list(HISTORY_COLUMNS))

    def verdicts_frame(self) -> pd.DataFrame:
        """One row per photograph as a pandas frame: batch, part, type, verdict, score, model and so on."""
        require_extra("pandas", "a data frame")
        import pandas as pd

        regions = select(func.count()).where(REGIONS.c.verdict_id == VERDICTS.c.id).scalar_subquery()
        query = (
            select(
                *(BATCHES.c.name.label("batch"), PARTS.c.name.label("part")),
                *(VERDICTS.c[name] for name in _VERDICT_COLUMNS),
                *(regions.label("regions"), PHOTOGRAPHS.c.sha256.label("sha256")),
                *(MODELS.c.family.label("model"), MODELS.c.trained.label("model_trained")),
            )
            .join(BATCHES, BATCHES.c.id == VERDICTS.c.batch_id)
            .join(PARTS, PARTS.c.id == VERDICTS.c.part_id)
            .join(MODELS, MODELS.c.id == VERDICTS.c.model_id)
            .outerjoin(PHOTOGRAPHS, PHOTOGRAPHS.c.id == VERDICTS.c.photograph_id)
            .where(*self.selection.conditions())
            .order_by(VERDICTS.c.taken, VERDICTS.c.id)
        )
        with self._store.reading() as connection:
            result = connection.execute(query)
            frame = pd.DataFrame(result.all(), columns=list(result.keys()))
        return frame.assign(taken=pd.to_datetime(frame["taken"]))


_VERDICT_COLUMNS = (
    *("type", "image", "source", "taken", "verdict", "score", "threshold", "p_value", "p_value_extrapolated"),
    *("reason", "true_label", "true_kind"),
)


def _table_row(rate: Rate) -> dict[str, Any]:
    names = (name for name in HISTORY_COLUMNS if not name.startswith("score_"))
    scores = dict(zip((name for name in HISTORY_COLUMNS if name.startswith("score_")), rate.scores, strict=False))
    return {name: getattr(rate, name) for name in names} | scores | {"drift": "; ".join(rate.drift)}


def _json_row(rate: Rate) -> dict[str, Any]:
    scores = dict(zip(map(str, QUANTILES), rate.scores, strict=False))
    return asdict(rate) | {"scores": scores}
