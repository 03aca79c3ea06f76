"""Write ``history.html``: failure rates, scores and places of regions of all batches, in one page without scripts."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pixal.database.rates import Rate
from pixal.io.provenance import provenance
from pixal.plotting.region_map import count_regions, draw_region_map
from pixal.report.history_charts import Chart, rate_chart, score_chart
from pixal.report.page import csp_hash, page_environment, read_page_file, write_stream

_MAP_WIDTH = 960  # pixels
_LARGEST_SHARE = 0.25  # of the model input; larger regions, for example under another light, would cover the others


@dataclass(frozen=True)
class RegionPlaces:
    """The places of the regions of one type.

    Attributes:
        boxes: (n, 4), x, y, width and height of each region in the model input.
        frame: Height and width of the model input.
        reference: The same area of the reference photograph, (h, w, 3) uint8 RGB; None if it is not known.
        others: Number of regions of other models, whose input may show another area.
    """

    boxes: NDArray[np.int64]
    frame: tuple[int, int]
    reference: NDArray[np.uint8] | None
    others: int


@dataclass(frozen=True)
class _Map:
    image: str
    width: int
    height: int
    regions: int
    most: int
    has_reference: bool
    large: int
    others: int


@dataclass(frozen=True)
class _Row:
    rate: Rate
    link: str


@dataclass(frozen=True)
class _Section:
    """The data of one type on the page."""

    name: str
    rows: list[_Row]
    rate_chart: Chart
    score_chart: Chart
    map: _Map | None


def write_history_page(
    path: Path,
    *,
    component: str,
    by: str,
    selected: str,
    rates: Sequence[Rate],
    places: Mapping[str, RegionPlaces],
) -> None:
    """Write the page atomically.

    Args:
        path: The page, in the folder that the folders of batches are relative to.
        component: Name of the component.
        by: What the rates are grouped by.
        selected: The filters in words; "" if all verdicts are shown.
        rates: The rates, by type and then in the order of time.
        places: Where the regions of each type are. Types without regions may be missing.
    """
    css = read_page_file("report.css") + read_page_file("history.css")
    made = provenance()
    sections = [
        _section(name, list(of_type), places.get(name), path.parent)
        for name, of_type in groupby(rates, key=lambda rate: rate.type)
    ]
    stream = (
        page_environment()
        .get_template("history.html.j2")
        .stream(
            css=Markup(css),
            css_hash=csp_hash(css),
            version=made["pixal_version"],
            created=made["created"],
            component=component,
            by=by,
            selected=selected,
            period=_period(rates),
            totals={name: sum(getattr(rate, name) for rate in rates) for name in ("parts", "failed", "errors")},
            with_marks=any(rate.false_alarms or rate.missed for rate in rates),
            events=_events(rates, by),
            sections=sections,
        )
    )
    write_stream(path, stream)


def _section(name: str, rates: list[Rate], places: RegionPlaces | None, root: Path) -> _Section:
    rows = [_Row(rate, _link(rate, root)) for rate in rates]
    shown = None if places is None or not len(places.boxes) else _map(places)
    return _Section(name, rows, rate_chart(rates), score_chart(rates), shown)


def _link(rate: Rate, root: Path) -> str:
    """The address of the report of a batch below ``root``; "" if there is none."""
    if not rate.folder or not (root / rate.folder / "report.html").is_file() or Path(rate.folder).is_absolute():
        return ""
    return quote((Path(rate.folder) / "report.html").as_posix())


def _map(places: RegionPlaces) -> _Map:
    is_small = places.boxes[:, 2] * places.boxes[:, 3] <= _LARGEST_SHARE * places.frame[0] * places.frame[1]
    boxes = places.boxes[is_small]
    counts = count_regions(boxes, places.frame)
    image = draw_region_map(counts, places.reference)
    scale = min(1.0, _MAP_WIDTH / image.shape[1])
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return _Map(
        image="data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii"),
        width=image.shape[1],
        height=image.shape[0],
        regions=len(boxes),
        most=int(counts.max()),
        has_reference=places.reference is not None,
        large=len(places.boxes) - len(boxes),
        others=places.others,
    )


def _period(rates: Sequence[Rate]) -> str:
    first, last = min(rate.first for rate in rates)[:10], max(rate.last for rate in rates)[:10]
    return first if first == last else f"{first} to {last}"


def _events(rates: Sequence[Rate], by: str) -> list[str]:
    """The most important notes: rates outside their limits, and drift, in the order of time."""
    events = []
    for rate in sorted(rates, key=lambda rate: (rate.first, rate.type)):
        where = rate.group if by == "type" else f"{rate.group}, {rate.type}"
        found = [*([_outside(rate)] if rate.outside else []), *rate.drift]
        if found:
            events.append(f"{rate.first[:10]} {where}: {'; '.join(found)}")
    return events


def _outside(rate: Rate) -> str:
    limits = f"{rate.lower_limit:.1%} to {rate.upper_limit:.1%}"
    return f"{rate.failed} of {rate.parts} parts failed, {rate.outside} the limits of {limits}"
