"""Figures of predictions: event displays, residuals, pulls and coverage. Arrays in, a matplotlib figure out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pixal.plotting import style
from pixal.tasks.charge_clusters.measures.centroid import PITCH
from pixal.tasks.charge_clusters.measures.summary import TARGETS, UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

PROFILE_BINS = 15
MAX_SLICES = 20
_BINS = 60
_RANGE = 4.0  # histograms reach so many robust standard deviations to either side
_MIN_IN_BIN = 5


def event_display(
    charge: Array,
    *,
    title: str,
    truth: Sequence[float] | None = None,
    predicted: Sequence[float] | None = None,
    sigma: Sequence[float] | None = None,
    pitch: tuple[float, float] = PITCH,
    slice_names: Sequence[str] | None = None,
) -> Figure:
    """Draw the charge of one cluster, one panel per time slice.

    Args:
        charge: In electrons, (rows, columns, slices), at most ``MAX_SLICES`` slices.
        title: Title of the figure.
        truth: True x and y in µm from the centre of the sensor.
        predicted: Predicted x and y in µm.
        sigma: Predicted standard deviations of x and y in µm, drawn as an ellipse.
        pitch: Size of a pixel along x and y in µm.
        slice_names: A name for each panel.
    """
    rows, columns, slices = charge.shape
    across = min(slices, 4)
    down = -(-slices // across)
    half = columns * pitch[0] / 2, rows * pitch[1] / 2
    size = (max(5.5, 3.0 * across + 1), 2.0 * down + 1.6)
    figure, axes = style.new_figure(down, across, size=size, title=title, sharex=True, sharey=True)
    limit = float(np.abs(charge).max()) or 1.0
    low = -limit if (charge < 0).any() else 0.0
    image = None
    for index, ax in enumerate(axes.flat):
        if index >= slices:
            ax.set_axis_off()
            continue
        colours = "RdBu_r" if low else style.VALUE_MAP
        extent = (-half[0], half[0], -half[1], half[1])
        look: dict[str, Any] = {"cmap": colours, "vmin": low, "vmax": limit, "aspect": "auto"}
        image = ax.imshow(charge[..., index], extent=extent, origin="lower", **look)
        name = slice_names[index] if slice_names else f"slice {index + 1} of {slices}"
        style.label_axes(
            ax, "x (µm)" if index >= slices - across else "", "y (µm)" if not index % across else "", panel=name
        )
        _draw_positions(ax, truth, predicted, sigma)
    if image is not None:
        style.add_colour_bar(figure, image, axes, "charge (electrons)")
    style.add_legend(figure, axes.flat[0])
    return figure


def residual_histograms(truth: Array, mean: Array, *, title: str, others: dict[str, Array] | None = None) -> Figure:
    """Draw the distribution of the residuals truth - prediction of each target, with mean and standard deviation.

    Args:
        truth: (n, 4).
        mean: Predictions, (n, 4).
        title: Title of the figure.
        others: Predictions of other estimators by name, (n, 4) or only the first targets, such as the centroid's.
    """
    figure, axes = style.new_figure(2, 2, size=(9, 6.5), title=title)
    for target, ax in enumerate(axes.flat):
        estimates = {"network": mean} | (others or {})
        estimates = {name: values for name, values in estimates.items() if values.shape[1] > target}
        residuals = {name: truth[:, target] - values[:, target] for name, values in estimates.items()}
        edges = _edges(np.concatenate(list(residuals.values())))
        for (name, values), (colour, dashes) in zip(residuals.items(), style.line_styles(len(residuals)), strict=True):
            label = f"{name}: {_mean_and_width(values)}"
            ax.hist(values, edges, histtype="step", color=colour, linestyle=dashes, linewidth=1.4, label=label)
        style.label_axes(ax, f"truth - prediction{_unit(target)}", "events", panel=TARGETS[target])
        style.add_grid(ax)
        ax.legend(fontsize=7.5, frameon=False, title="mean ± standard deviation", title_fontsize=7.5, loc="upper left")
        ax.set_ylim(0, 1.45 * ax.get_ylim()[1])
    return figure


def residual_profiles(truth: Array, mean: Array, sigma: Array, *, title: str) -> Figure:
    """Draw the residuals of each target against the truth, in ``PROFILE_BINS`` bins.

    Points are means with bars of one standard deviation. The band is the root mean square of the predicted standard
    deviations, so it ends where the bars end if they are right.

    Args:
        truth: (n, 4).
        mean: Predictions, (n, 4).
        sigma: Predicted standard deviations, (n, 4).
        title: Title of the figure.
    """
    figure, axes = style.new_figure(2, 2, size=(9, 6.5), title=title)
    for target, ax in enumerate(axes.flat):
        values = truth[:, target]
        edges = np.linspace(values.min(), values.max() or 1.0, PROFILE_BINS + 1)
        columns = [values, values - mean[:, target], sigma[:, target]]
        points = [
            (chosen[0].mean(), chosen[1].mean(), chosen[1].std(), math.sqrt(np.square(chosen[2]).mean()))
            for chosen in _in_bins(columns, edges)
        ]
        if points:
            centres, means, widths, bands = np.transpose(points)
            ax.fill_between(centres, -bands, bands, color=style.SKY, alpha=0.35, linewidth=0, label="predicted ± σ")
            look: dict[str, Any] = {"color": style.BLACK, "markersize": 3.5, "linewidth": 1.1}
            ax.errorbar(centres, means, widths, fmt="o", label="mean ± standard deviation", **look)
        ax.axhline(0, color=style.GREY, linewidth=0.8)
        style.label_axes(
            ax, f"true {TARGETS[target]}{_unit(target)}", f"truth - prediction{_unit(target)}", panel=TARGETS[target]
        )
        style.add_grid(ax)
    style.add_legend(figure, axes[0, 0])
    return figure


def pull_histograms(truth: Array, mean: Array, sigma: Array, *, title: str) -> Figure:
    """Draw the pulls of each target, a normal distribution fitted to them, and the ideal one.

    The fit is that of ``core_fit``: tails do not widen it. The legend also states mean and standard deviation of all
    pulls.

    Args:
        truth: (n, 4).
        mean: Predictions, (n, 4).
        sigma: Predicted standard deviations, (n, 4).
        title: Title of the figure.
    """
    figure, axes = style.new_figure(2, 2, size=(9, 6.5), title=title)
    edges = np.linspace(-5, 5, _BINS + 1)
    grid = np.linspace(-5, 5, 400)
    for target, ax in enumerate(axes.flat):
        pulls = (truth[:, target] - mean[:, target]) / sigma[:, target]
        label = f"all: {pulls.mean():+.3f} ± {pulls.std():.3f}"
        ax.hist(pulls, edges, density=True, color=style.SKY, alpha=0.6, label=label)
        centre, width = core_fit(pulls)
        if width:
            fitted = f"fit of the core: {centre:+.3f} ± {width:.3f}"
            ax.plot(grid, stats.norm.pdf(grid, centre, width), color=style.VERMILLION, linewidth=1.4, label=fitted)
        ax.plot(grid, stats.norm.pdf(grid), color=style.BLACK, linestyle=":", linewidth=1.2, label="ideal: 0 ± 1")
        style.label_axes(ax, "(truth - prediction) / σ", "density", panel=TARGETS[target])
        style.add_grid(ax)
        ax.set(xlim=(-5, 5), ylim=(0, 1.5 * ax.get_ylim()[1]))
        ax.legend(fontsize=7.5, frameon=False, loc="upper left")
    return figure


def coverage(truth: Array, mean: Array, sigma: Array, *, title: str) -> Figure:
    """Draw how often the truth is inside the predicted central interval, against the interval's probability.

    Args:
        truth: (n, 4).
        mean: Predictions, (n, 4).
        sigma: Predicted standard deviations, (n, 4).
        title: Title of the figure.
    """
    figure, axes = style.new_figure(2, 1, size=(7, 6.2), title=title, sharex=True, height_ratios=[3, 1.4])
    levels = np.linspace(0.01, 0.99, 99)
    distances = np.sort(np.abs(truth - mean) / sigma, axis=0)
    upper, lower = axes[0, 0], axes[1, 0]
    upper.plot([0, 1], [0, 1], color=style.GREY, linewidth=0.9, label="ideal")
    lower.axhline(0, color=style.GREY, linewidth=0.9)
    for target, (colour, dashes) in enumerate(style.line_styles(distances.shape[1])):
        limits = stats.norm.ppf(0.5 + levels / 2)
        observed = np.searchsorted(distances[:, target], limits, side="right") / len(distances)
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.4}
        upper.plot(levels, observed, label=TARGETS[target], **look)
        lower.plot(levels, 100 * (observed - levels), **look)
    style.label_axes(upper, "", "observed coverage")
    style.label_axes(lower, "predicted probability", "difference (%)")
    for ax in (upper, lower):
        style.add_grid(ax)
    style.add_legend(figure, upper, columns=5)
    return figure


def core_fit(pulls: Array) -> tuple[float, float]:
    """Mean and width of a normal distribution fitted to the core of the pulls; a width of 0 if they are all equal.

    The core is within two robust standard deviations of the median. Its width is corrected for the cut.
    """
    median = float(np.median(pulls))
    robust = float(stats.median_abs_deviation(pulls, scale="normal"))
    core = pulls[np.abs(pulls - median) <= 2 * robust]
    if not robust or core.std() == 0:
        return median, 0.0
    # A normal distribution that is cut at ± 2 of its standard deviations is narrower by this factor.
    cut = float(stats.truncnorm.std(-2, 2))
    return float(core.mean()), float(core.std() / cut)


def _draw_positions(
    ax: Axes, truth: Sequence[float] | None, predicted: Sequence[float] | None, sigma: Sequence[float] | None
) -> None:
    from matplotlib.patches import Ellipse

    if truth is not None:
        ax.plot(
            *truth[:2], marker="+", color=style.ORANGE, markersize=11, markeredgewidth=2, linestyle="", label="truth"
        )
    if predicted is not None:
        look: dict[str, Any] = {"color": style.PURPLE, "markersize": 8, "markeredgewidth": 2, "linestyle": ""}
        ax.plot(*predicted[:2], marker="x", label="prediction", **look)
        if sigma is not None:
            width, height = 2 * sigma[0], 2 * sigma[1]
            ax.add_patch(Ellipse((predicted[0], predicted[1]), width, height, fill=False, color=style.PURPLE))


def _edges(values: Array) -> Array:
    """Edges of histogram bins about the median that far outliers do not stretch."""
    centre = float(np.median(values))
    low, high = np.quantile(values, [0.16, 0.84])
    half = _RANGE * max((float(high) - float(low)) / 2, 1e-9)
    return np.linspace(centre - half, centre + half, _BINS + 1)


def _in_bins(columns: Sequence[Array], edges: Array) -> Iterator[list[Array]]:
    """The columns of the events of each bin that has enough of them; bins are those of the first column."""
    places = np.clip(np.searchsorted(edges, columns[0], side="right") - 1, 0, len(edges) - 2)
    for index in range(len(edges) - 1):
        chosen = places == index
        if chosen.sum() >= _MIN_IN_BIN:
            yield [values[chosen] for values in columns]


def _mean_and_width(values: Array) -> str:
    """Mean ± standard deviation, both with three digits of the standard deviation."""
    width = float(values.std())
    digits = min(max(0, 2 - math.floor(math.log10(width))), 6) if width else 3
    return f"{values.mean():+.{digits}f} ± {width:.{digits}f}"


def _unit(target: int) -> str:
    return f" ({UNITS[target]})" if UNITS[target] else ""
