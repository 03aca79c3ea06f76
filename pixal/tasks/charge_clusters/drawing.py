"""The figures of ``pixal validate`` for charge clusters, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.io import ownership
from pixal.io.images import write_figure
from pixal.tasks.charge_clusters.measures import figures
from pixal.tasks.charge_clusters.measures.report import ClusterReport, ReportEvent, ReportFigure, write_report
from pixal.tasks.charge_clusters.measures.summary import standard_deviations
from pixal.tasks.charge_clusters.prediction import Predictions

_EVENTS = "events"
"""Folder of the event displays, in the folder of the figures."""


@dataclass
class Displayed:
    """The events that are shown one by one: the first ones, and the most unusual ones.

    Attributes:
        count: Number of events, of both kinds together.
    """

    count: int
    _first: list[dict[str, Any]] = field(default_factory=list)
    _unusual: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: Predictions) -> None:
        """Choose among further events."""
        of_first = self.count - self.count // 2
        wanted = range(min(of_first - len(self._first), len(part.events)))
        self._first += [_event(part, index) for index in wanted]
        lowest = np.argsort(part.p_value, kind="stable")[: self.count // 2 + len(wanted)]
        others = [_event(part, int(index)) for index in lowest if index not in wanted]
        self._unusual = sorted([*self._unusual, *others], key=lambda event: event["p_value"])[: self.count // 2]

    def events(self) -> list[dict[str, Any]]:
        """The events, the most unusual ones first."""
        return [*self._unusual, *self._first]


def draw(
    folder: Path,
    kept: Mapping[str, NDArray[Any]],
    displayed: Displayed,
    *,
    component: str,
    pitch: tuple[float, float],
    slices: tuple[int, ...],
    unusual_rate: float,
) -> tuple[list[ReportFigure], list[ReportEvent]]:
    """Write the figures into ``folder``. Figures of an earlier run are removed.

    Args:
        folder: The folder of the figures.
        kept: What ``measuring.Kept`` holds.
        displayed: The events that are shown one by one.
        component: Name of the component, for titles.
        pitch: Size of a pixel along x and y in µm.
        slices: The numbers of the slices.
        unusual_rate: Largest p-value that is flagged.
    """
    ownership.remove_tree(folder / _EVENTS)
    truth, mean, sigma = kept["truth"], kept["mean"], standard_deviations(kept["covariance"])
    others = {"centroid": kept["centroid"], "centroid, eta": kept["centroid_eta"], "ends": kept["head_tail"]}
    drawn = {
        "residuals.png": (
            figures.residual_histograms(truth, mean, title=f"{component}: residuals", others=others),
            "Residuals, truth minus prediction, of the network and of estimates without one.",
        ),
        "residuals_by_truth.png": (
            figures.residual_profiles(truth, mean, sigma, title=f"{component}: residuals against the truth"),
            "Residuals in bins of the truth, with the predicted standard deviation.",
        ),
        "pulls.png": (
            figures.pull_histograms(truth, mean, sigma, title=f"{component}: pulls"),
            "Pulls: residuals in units of the predicted standard deviation. A mean of 0 and a width of 1 are ideal.",
        ),
        "coverage.png": (
            figures.coverage(truth, mean, sigma, title=f"{component}: coverage"),
            "How often the truth is within the predicted interval, for each probability.",
        ),
    }
    for name, (figure, _) in drawn.items():
        write_figure(folder / name, figure)
    shown = [ReportFigure(folder / name, caption) for name, (_, caption) in drawn.items()]
    names = [f"slice {index}" for index in slices][: figures.MAX_SLICES]
    events = [
        _draw_event(folder / _EVENTS / f"event_{number:03d}.png", event, pitch, names, unusual_rate)
        for number, event in enumerate(displayed.events())
    ]
    return shown, events


def write_page(
    path: Path,
    component: str,
    metrics: Mapping[str, Any],
    drawn: tuple[list[ReportFigure], list[ReportEvent]],
    *,
    notes: list[str],
    about: Mapping[str, Any],
) -> None:
    """Write ``report.html``. ``metrics`` is the content of ``metrics.json``."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    shown, events = drawn
    bound = metrics.get("bound", {})
    write_report(path, ClusterReport(component, created, metrics, shown, events, bound, notes, about))


def _event(part: Predictions, index: int) -> dict[str, Any]:
    return {
        "name": f"{part.file}, row {part.events.rows[index]}",
        "charge": part.events.charge[index].copy(),
        "truth": part.events.labels[index].tolist(),
        "predicted": part.mean[index].tolist(),
        "sigma": part.sigma[index].tolist(),
        "p_value": float(part.p_value[index]),
    }


def _draw_event(
    path: Path, event: dict[str, Any], pitch: tuple[float, float], names: list[str], unusual_rate: float
) -> ReportEvent:
    figure = figures.event_display(
        event["charge"][..., : len(names)],
        title=event["name"],
        truth=event["truth"][:2],
        predicted=event["predicted"][:2],
        sigma=event["sigma"][:2],
        pitch=pitch,
        slice_names=names,
    )
    write_figure(path, figure, dpi=80)
    values = {name: event[name] for name in ("name", "truth", "predicted", "sigma", "p_value")}
    return ReportEvent(picture=path, unusual=event["p_value"] <= unusual_rate, **values)
