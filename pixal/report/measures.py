"""The measures of a batch with known truth, as the report's cards and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from pixal.report.document import MetricsDocument

MEASURES = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "f1_max": "F1-max",
    "detection_rate": "Detection rate",
    "false_alarm_rate": "False-alarm rate",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "aupro": "AUPRO",
    "aupro_near_part": "AUPRO near the part",
    "aupimo": "AUPIMO",
}
INTERVALS = "intervals"

_Values = Mapping[str, JsonValue]


@dataclass(frozen=True)
class MeasureTable:
    """A table of measures.

    Attributes:
        title: Its caption.
        labels: The heads of its columns.
        rows: Name and cells of each row.
    """

    title: str
    labels: list[str]
    rows: list[tuple[str, list[str]]]


def measure_cards(metrics: MetricsDocument | None) -> list[tuple[str, str]]:
    """Label and text of each measure over all types. The 95 % interval follows the first blank of the text."""
    overall = {} if metrics is None else metrics.overall
    return [(label, _card_text(overall, key)) for key, label in MEASURES.items() if overall.get(key) is not None]


def measure_tables(metrics: MetricsDocument | None) -> list[MeasureTable]:
    """A table of all measures by type, and one table per further breakdown, such as kinds of defect."""
    if metrics is None:
        return []
    groups = {**metrics.types, "overall": metrics.overall}
    tables = [_table("Measures by type (in brackets: 95 % intervals)", groups)]
    breakdowns = dict.fromkeys(
        key
        for values in groups.values()
        for key, value in values.items()
        if isinstance(value, dict) and key != INTERVALS
    )
    for key in breakdowns:
        rows: dict[str, _Values] = {}
        for name, values in groups.items():
            inner = values.get(key)
            for kind, value in inner.items() if isinstance(inner, dict) else ():
                rows[f"{name} · {kind}"] = value if isinstance(value, dict) else {"value": value}
        tables.append(_table(key.replace("_", " ").capitalize(), rows))
    return tables


def _table(title: str, rows: Mapping[str, _Values]) -> MeasureTable:
    keys = dict.fromkeys(
        key for values in rows.values() for key, value in values.items() if not isinstance(value, dict)
    )
    labels = [MEASURES.get(key, key.replace("_", " ").capitalize()) for key in keys]
    return MeasureTable(title, labels, [(name, [_cell(values, key) for key in keys]) for name, values in rows.items()])


def _card_text(values: _Values, key: str) -> str:
    """A measure with its rounded interval. Word joiners keep the interval on one line of the narrow card."""
    text = _cell({key: values[key]}, key)
    interval = _interval(values, key)
    return f"{text} 95\u00a0%: {interval[0]:.2f}\u2060–\u2060{interval[1]:.2f}" if interval else text


def _cell(values: _Values, key: str) -> str:
    """A measure, with its 95 % interval where there is one."""
    value = values.get(key)
    if value is None:
        return "–"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    interval = _interval(values, key)
    return f"{text} ({interval[0]:.3f}–{interval[1]:.3f})" if interval else text


def _interval(values: _Values, key: str) -> tuple[float, float] | None:
    intervals = values.get(INTERVALS)
    ends = intervals.get(key) if isinstance(intervals, dict) else None
    match ends:
        case [int() | float() as low, int() | float() as high]:
            return float(low), float(high)
    return None
