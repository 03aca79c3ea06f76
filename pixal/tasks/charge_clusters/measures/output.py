"""Draw all figures of a validation, and write its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.io.images import write_figure
from pixal.tasks.charge_clusters.measures import figures
from pixal.tasks.charge_clusters.measures.centroid import PITCH
from pixal.tasks.charge_clusters.measures.report import ClusterReport, ReportEvent, ReportFigure, write_report
from pixal.tasks.charge_clusters.measures.summary import standard_deviations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES, REPORT = "figures", "report.html"

_CAPTIONS = {
    "residuals": "Residuals (truth minus prediction) of the network, and of the charge-weighted centroid.",
    "residual_profiles": "Residuals against the truth: means and standard deviations in bins, and the predicted band.",
    "pulls": "Pulls: residuals divided by the predicted σ, with a normal distribution fitted to their core.",
    "coverage": "How often the truth is within the predicted interval, against the probability of that interval.",
}


@dataclass(frozen=True)
class ShownEvent:
    """An event to be shown.

    Attributes:
        name: For example file and row.
        charge: In electrons, (rows, columns, slices).
        truth: True values of the targets.
        predicted: Predicted values.
        sigma: Predicted standard deviations.
        p_value: How often a usual cluster would be this unusual; None if unknown.
        unusual: Whether the event was flagged.
    """

    name: str
    charge: NDArray[Any]
    truth: Sequence[float]
    predicted: Sequence[float]
    sigma: Sequence[float]
    p_value: float | None = None
    unusual: bool = False


def planned_files(folder: Path, events: int) -> list[Path]:
    """The files that ``write_output`` writes for so many shown events."""
    names = [*_CAPTIONS, *(_event_name(index) for index in range(events))]
    return [*(folder / FIGURES / f"{name}.png" for name in names), folder / REPORT]


def write_output(
    folder: Path,
    metrics: Mapping[str, Any],
    predictions: Mapping[str, NDArray[Any]],
    shown: Sequence[ShownEvent],
    *,
    component: str,
    created: str,
    bound: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    slice_names: Sequence[str] | None = None,
    pitch: tuple[float, float] = PITCH,
) -> list[Path]:
    """Write the figures to ``folder/figures`` and the page to ``folder/report.html``.

    Args:
        folder: The folder of the results.
        metrics: As of ``ClusterReport``.
        predictions: ``truth`` and ``mean`` (n, 4), ``covariance`` (n, 4, 4); predictions of other estimators for the
            first targets, such as ``centroid`` (n, 2), are drawn with the residuals.
        shown: The events that can be opened on the page.
        component: Name of the component.
        created: Time in ISO 8601.
        bound: The Cramér-Rao bound by target, if it is known.
        notes: Sentences to read first.
        about: Model and settings, by name.
        slice_names: A name for each slice of the shown events.
        pitch: Size of a pixel along x and y in µm.

    Returns:
        The files, ``planned_files``.
    """
    drawn = []
    for name, figure in _figures(component, predictions).items():
        path = folder / FIGURES / f"{name}.png"
        write_figure(path, figure)
        drawn.append(ReportFigure(path, _CAPTIONS[name]))
    events = [_draw_event(folder, index, event, slice_names, pitch) for index, event in enumerate(shown)]
    content = ClusterReport(component, created, metrics, drawn, events, bound or {}, notes, about or {})
    write_report(folder / REPORT, content)
    return planned_files(folder, len(shown))


def _figures(component: str, predictions: Mapping[str, NDArray[Any]]) -> dict[str, Figure]:
    """The figures of all events by the names of their files."""
    truth, mean = predictions["truth"], predictions["mean"]
    sigma = standard_deviations(predictions["covariance"])
    others = {
        name.replace("_", ", "): values
        for name, values in predictions.items()
        if name not in ("truth", "mean", "covariance") and np.ndim(values) == 2
    }
    title = f"{component}: {len(truth)} events"
    return {
        "residuals": figures.residual_histograms(truth, mean, title=title, others=others),
        "residual_profiles": figures.residual_profiles(truth, mean, sigma, title=title),
        "pulls": figures.pull_histograms(truth, mean, sigma, title=title),
        "coverage": figures.coverage(truth, mean, sigma, title=title),
    }


def _draw_event(
    folder: Path, index: int, event: ShownEvent, slice_names: Sequence[str] | None, pitch: tuple[float, float]
) -> ReportEvent:
    path = folder / FIGURES / f"{_event_name(index)}.png"
    display = figures.event_display(
        event.charge,
        title=event.name,
        truth=event.truth,
        predicted=event.predicted,
        sigma=event.sigma,
        pitch=pitch,
        slice_names=slice_names,
    )
    write_figure(path, display, dpi=90)
    return ReportEvent(event.name, path, event.truth, event.predicted, event.sigma, event.p_value, event.unusual)


def _event_name(index: int) -> str:
    return f"event_{index:03d}"
