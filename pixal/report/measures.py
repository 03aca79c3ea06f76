"""The measures of a batch with known truth, as the report's cards and tables."""

from __future__ import annotations

from typing import Any

MEASURES = {
    "image_auroc": "Image AUROC",
    "image_ap": "Image AP",
    "f1_max": "F1-max",
    "detection_rate": "Detection rate",
    "false_alarm_rate": "False-alarm rate",
    "pixel_auroc": "Pixel AUROC",
    "pixel_ap": "Pixel AP",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
}
INTERVALS = "intervals"


def measure_cards(metrics: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Label and text of each measure over all types; after the first blank its 95 % interval, where there is one."""
    overall = (metrics or {}).get("overall") or {}
    return [(label, _on_card(overall, key)) for key, label in MEASURES.items() if overall.get(key) is not None]


def measure_tables(metrics: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A table of all measures by type, and one for each further breakdown, such as kinds of defect."""
    if not metrics:
        return []
    groups = {**(metrics.get("types") or {}), "overall": metrics.get("overall") or {}}
    tables = [_table("Measures by type (in brackets: 95 % intervals)", groups)]
    for key in dict.fromkeys(
        key
        for values in groups.values()
        for key, value in values.items()
        if isinstance(value, dict) and key != INTERVALS
    ):
        rows = {
            f"{name} · {kind}": value if isinstance(value, dict) else {"value": value}
            for name, values in groups.items()
            for kind, value in (values.get(key) or {}).items()
        }
        tables.append(_table(key.replace("_", " ").capitalize(), rows))
    return tables


def _table(title: str, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    keys = dict.fromkeys(
        key for values in rows.values() for key, value in values.items() if not isinstance(value, dict)
    )
    labels = [MEASURES.get(key, key.replace("_", " ").capitalize()) for key in keys]
    return {
        "title": title,
        "labels": labels,
        "rows": [(name, [_measure(v, key) for key in keys]) for name, v in rows.items()],
    }


def _on_card(values: dict[str, Any], key: str) -> str:
    """Cards are narrow: the interval is rounded, and held on one line (word joiners beside the dash)."""
    text = _measure({key: values[key]}, key)
    interval = (values.get(INTERVALS) or {}).get(key)
    return f"{text} 95\u00a0%: {interval[0]:.2f}\u2060–\u2060{interval[1]:.2f}" if interval else text


def _measure(values: dict[str, Any], key: str) -> str:
    """The measure, with its 95 % interval where ``intervals`` has one."""
    value = values.get(key)
    if value is None:
        return "–"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    interval = (values.get(INTERVALS) or {}).get(key)
    return f"{text} ({interval[0]:.3f}–{interval[1]:.3f})" if interval else text
