"""Write ``inspection.html``: what photographs are like before any training, in one page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pixal.report.inspection_document import Distribution, InspectionDocument
from pixal.report.page import csp_hash, page_environment, read_page_file, write_stream

SHOWN_PER_FINDING = 12
"""Number of photographs that the page shows for one finding; the table names all."""

CLOSE_UP_KINDS = frozenset({"blurred", "sharp", "noisy", "smooth"})
"""Kinds of findings that only a part of the photograph at full size shows."""

_WIDTH, _HEIGHT = 300.0, 70.0  # of a histogram, in units of its drawing
_MAX_BINS = 30


@dataclass(frozen=True)
class Thumbnail:
    """Small images of one photograph, as JPEG.

    Attributes:
        whole: The photograph.
        centre: Its centre at full size.
    """

    whole: bytes
    centre: bytes


@dataclass(frozen=True)
class _Histogram:
    """A drawing of a distribution.

    Attributes:
        label: Name of the figure.
        bars: x, y, width and height of each bar.
        outline: Path of the histogram of the other folder; "" without one.
        marks: x of each outlier.
        low: The smallest value.
        median: The median.
        high: The largest value.
    """

    label: str
    bars: list[tuple[float, float, float, float]]
    outline: str
    marks: list[float]
    low: float
    median: float
    high: float


def write_inspection_page(
    path: Path, document: InspectionDocument, thumbnails: Mapping[tuple[str, str], Thumbnail]
) -> None:
    """Write the page atomically.

    Args:
        path: The page.
        document: Its content.
        thumbnails: Images by type and name of the photograph, as far as there are any.
    """
    css = read_page_file("report.css") + read_page_file("inspection.css")
    environment = page_environment()
    environment.filters["jpeg"] = _data_uri
    stream = environment.get_template("inspection.html.j2").stream(
        css=Markup(css),
        css_hash=csp_hash(css),
        document=document,
        thumbnails=thumbnails,
        close_up_kinds=CLOSE_UP_KINDS,
        shown=SHOWN_PER_FINDING,
        histograms={
            item.name: [_histogram(figure) for figure in item.distributions if np.isfinite(figure.values).any()]
            for item in document.types
        },
    )
    write_stream(path, stream)


def _data_uri(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _histogram(figure: Distribution) -> _Histogram:
    values = figure.values[np.isfinite(figure.values)]
    reference = np.zeros(0) if figure.reference is None else figure.reference[np.isfinite(figure.reference)]
    both = np.concatenate([values, reference])
    low, high = float(both.min()), float(both.max())
    margin = 0.0 if high > low else max(abs(low), 1.0) / 2  # a single value is drawn in the middle
    edges = np.linspace(low - margin, high + margin, min(_MAX_BINS, 2 * int(np.sqrt(len(both))) + 3) + 1)
    x = (edges - edges[0]) / (edges[-1] - edges[0]) * _WIDTH
    heights, other = (_heights(sample, edges) for sample in (values, reference))
    bars = [
        (round(float(left), 1), round(_HEIGHT - height, 1), round(float(right - left), 1), round(height, 1))
        for left, right, height in zip(x[:-1], x[1:], heights, strict=True)
        if height
    ]
    marks = np.interp(figure.marked[np.isfinite(figure.marked)], edges, x)
    outline = _outline(x, other) if len(reference) else ""
    ends = (float(edges[0]), float(np.median(values)), float(edges[-1]))
    return _Histogram(figure.label, bars, outline, [round(float(mark), 1) for mark in marks], *ends)


def _heights(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[float]:
    counts = np.histogram(values, edges)[0]
    return [float(height) for height in counts / max(counts.max(), 1) * _HEIGHT]


def _outline(x: NDArray[np.float64], heights: list[float]) -> str:
    steps = [f"V{_HEIGHT - height:.1f}H{right:.1f}" for right, height in zip(x[1:].tolist(), heights, strict=True)]
    return f"M{x[0]:.1f} {_HEIGHT:.1f}" + "".join(steps) + f"V{_HEIGHT:.1f}"
