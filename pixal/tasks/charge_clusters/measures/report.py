"""Write ``report.html`` of charge clusters: measures, figures and single events, in one page that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pixal.io.files import read_bytes
from pixal.report.page import csp_hash, page_environment, read_page_file, write_stream
from pixal.tasks.charge_clusters.measures.summary import TARGETS, UNITS
from pixal.version import __version__

_FOLDER = Path(__file__).parent
_NETWORK_TABLES = (
    ("residuals", {"residual_mean": "mean", "half_width_68": "68 % within ±", "half_width_95": "95 % within ±"}),
    ("pulls", {"pull_mean": "mean", "pull_width": "width"}),
    (
        "coverage",
        {
            "interval_coverage_68": "68 %, calibrated",
            "interval_coverage_95": "95 %, calibrated",
            "coverage_68": "68 %, normal",
            "coverage_95": "95 %, normal",
        },
    ),
)
_NAMES = {"size": "pixels of the cluster", "cotAlpha": "true cot α", "cotBeta": "true cot β"}


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the page: a PNG file, and a sentence that says what it shows."""

    path: Path
    caption: str


@dataclass(frozen=True)
class ReportEvent:
    """An event that can be opened.

    Attributes:
        name: For example file and row.
        picture: PNG file of the event display.
        truth: True values of the targets.
        predicted: Predicted values.
        sigma: Predicted standard deviations.
        p_value: How often a usual cluster would be this unusual; None if unknown.
        unusual: Whether the event was flagged.
    """

    name: str
    picture: Path
    truth: Sequence[float]
    predicted: Sequence[float]
    sigma: Sequence[float]
    p_value: float | None = None
    unusual: bool = False

    @property
    def pulls(self) -> list[float]:
        """Residuals in units of the predicted standard deviations."""
        return [(true - mean) / sigma for true, mean, sigma in zip(self.truth, self.predicted, self.sigma, strict=True)]


_ESTIMATORS = {"centroid_eta": "centroid with eta correction", "head_tail": "ends of the cluster"}


@dataclass(frozen=True)
class ClusterReport:
    """The content of the page.

    Attributes:
        component: Name of the component.
        created: Time in ISO 8601.
        metrics: ``events``, ``unusual``, and for ``network`` and ``centroid`` what ``measure``
            returns; further estimators are shown, too.
        figures: The figures, in order.
        events: The events that can be opened.
        bound: The Cramér-Rao bound by target, and its ``bins``, as ``measuring.bound_of`` returns it; empty: unknown.
        notes: Sentences to read first.
        about: Model and settings, by name.
    """

    component: str
    created: str
    metrics: Mapping[str, Any]
    figures: Sequence[ReportFigure] = ()
    events: Sequence[ReportEvent] = ()
    bound: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


def write_report(path: Path, report: ClusterReport) -> None:
    """Write the page atomically. All pictures are inside it."""
    environment = page_environment(_FOLDER)
    css = read_page_file("report.css") + read_page_file("clusters.css", _FOLDER)
    script = f'"use strict";\n(() => {{\n{read_page_file("clusters.js", _FOLDER)}}})();\n'
    stream = environment.get_template("clusters.html.j2").stream(
        css=Markup(css),
        script=Markup(script),
        css_hash=csp_hash(css),
        script_hash=csp_hash(script),
        report=report,
        version=__version__,
        targets=list(zip(TARGETS, UNITS, strict=True)),
        network=report.metrics["network"]["targets"],
        network_tables=[(caption, measures.items()) for caption, measures in _NETWORK_TABLES],
        columns=_widths(report),
        bins=_bins(report.metrics, report.bound.get("bins", {})),
        picture=_data_uri,
    )
    write_stream(path, stream)


def _widths(report: ClusterReport) -> list[tuple[str, dict[str, str]]]:
    """For each estimator its name and the residual width of each target that it estimates, with the interval."""
    columns = []
    for name, measured in report.metrics.items():
        if isinstance(measured, Mapping) and "targets" in measured:
            widths = {target: _interval(values["residual_width"]) for target, values in measured["targets"].items()}
            columns.append((_ESTIMATORS.get(name, name), widths))
    if report.bound:
        bounds = {target: f"{report.bound[target]:.3g}" for target in TARGETS if target in report.bound}
        columns.append(("Cramér-Rao bound (median)", bounds))
    return columns


def _interval(measured: Mapping[str, float]) -> str:
    return f"{measured['value']:.3g} ({measured['low']:.3g} to {measured['high']:.3g})"


def _bins(metrics: Mapping[str, Any], bounds: Mapping[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """For each quantity the rows of its table: the bin, and by target the widths of network and best other estimate.

    The Cramér-Rao bound is added where it is known.
    """
    tables = []
    for name, network in metrics["network"]["bins"].items():
        others = [
            measured["bins"][name]
            for key, measured in metrics.items()
            if key not in ("network", "bound") and isinstance(measured, Mapping) and name in measured.get("bins", {})
        ]
        known = bounds.get(name, [{}] * len(network))
        rows = [_bin_row(one, [bins[index] for bins in others], known[index]) for index, one in enumerate(network)]
        tables.append((_NAMES.get(name, name), [row for row in rows if row["cells"]]))
    return tables


def _bin_row(
    network: Mapping[str, Any], others: Sequence[Mapping[str, Any]], bounds: Mapping[str, float]
) -> dict[str, Any]:
    cells = {}
    for target, values in (network["targets"] or {}).items():
        width = values["residual_width"]["value"]
        rivals = [
            other["targets"][target]["residual_width"]["value"]
            for other in others
            if target in (other["targets"] or {})
        ]
        best = min(rivals, default=None)
        cells[target] = {"width": width, "best": best, "ratio": width / best if best else None}
        cells[target]["bound"] = bounds.get(target)
        cells[target]["pull"] = values.get("pull_width", {}).get("value")
    return {"low": network["low"], "high": network["high"], "events": network["events"], "cells": cells}


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(read_bytes(path)).decode("ascii")
