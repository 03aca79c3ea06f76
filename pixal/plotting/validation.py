"""Pictures of validation: how scores and pixels are distributed, and how good the verdicts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.quality import confusion_matrix, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "confusion_matrix",
    "pixel_loss_histogram",
    "pixel_map",
    "pixel_predictions",
    "precision_recall_curve",
    "roc_curve",
    "score_distribution",
    "value_distributions",
]

Array = NDArray[Any]
Group = tuple[Array, str, str]

RUG_BELOW, RUG_LIMIT = 60, 400  # parts: a group this small gets a rug, and one above the limit none


def score_distribution(
    training_scores: Array,
    scores: Array,
    labels: Array | None = None,
    *,
    threshold: float,
    log: bool = False,
    unit: str = "",
    title: str,
) -> Figure:
    """Draw the scores of held-out good parts (N,) and of the batch (M,), and the threshold.

    `labels` (M,) is 1 for a defective part, 0 for a good one, anything else where that is not known. Scores
    that are not finite are left out and counted in the legend. With `log` the score axis and the bins are
    logarithmic, and scores of 0 or below stand in the lowest bin. A group of few parts gets a rug.
    """
    from matplotlib.ticker import MaxNLocator

    groups = _score_groups(training_scores, scores, labels)
    every = np.concatenate([values for values, _, _ in groups])
    edges, log = _score_edges(every, threshold, log)
    rug = any(0 < values.size <= RUG_BELOW for values, _, _ in groups)
    figure, axes = style.new_figure(
        2 if rug else 1,
        1,
        size=(7.5, 5.2 if rug else 4.6),
        title=title,
        sharex=True,
        height_ratios=[5, 0.4 + 0.35 * len(groups)] if rug else None,
    )
    ax: Axes = axes[0, 0]
    for values, colour, label in groups:
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        drawn = np.where(counts > 0, counts, np.nan)  # no line along the axis where nothing is
        ax.stairs(drawn, edges, fill=True, color=colour, alpha=0.25)
        ax.stairs(drawn, edges, color=colour, linewidth=1.6, label=label)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    for each in axes.flat:
        if np.isfinite(threshold):
            each.axvline(
                threshold,
                color=style.THRESHOLD,
                linestyle="--",
                linewidth=1.4,
                label=f"threshold {threshold:.4g}",
            )
    if rug:
        _draw_rug(axes[1, 0], groups, edges)
    ax.set_ylim(bottom=0)
    if log:
        style.log_scale(ax, "x", edges[0], edges[-1])
    else:
        ax.set_xlim(edges[0], edges[-1])
    style.label_axes(ax, "", "parts a bin (count)")
    said = [unit] if unit else []
    if log and (every <= 0).any():
        said.append("0 and below: at the left edge")
    style.label_axes(
        axes[-1, 0],
        "anomaly score" + (f" ({'; '.join(said)})" if said else ""),
        "" if rug else "parts a bin (count)",
    )
    style.add_legend(figure, ax, columns=2)
    return figure


def pixel_loss_histogram(
    edges: Array, counts: Array, names: Sequence[str], *, what: str = "squared error", title: str
) -> Figure:
    """Draw how many pixels have which squared error, on a linear scale above and a logarithmic one below.

    `counts` (C, bins): one line a channel, and their sum. `edges` (bins + 1,) increase; where they grow by a factor,
    the axis of the errors is logarithmic, and holds in its first bin all below. On the logarithmic scale of the
    counts, empty bins run out at the lower edge.
    """
    many = len(names) > 8
    figure, axes = style.new_figure(2, 1, size=(9.0 if many else 7.5, 6.6), title=title, sharex=True)
    total = np.asarray(counts).sum(axis=0)
    highest = float(total.max()) if total.size else 0.0
    ax: Axes
    for ax in axes[:, 0]:
        for row, name, (colour, dashes) in zip(counts, names, style.line_styles(len(names)), strict=True):
            ax.stairs(row, edges, baseline=None, color=colour, linestyle=dashes, linewidth=1.2, label=name)
        if len(names) != 1:
            ax.stairs(total, edges, baseline=None, color=style.SUM, linewidth=1.8, label="all channels")
        if not highest > 0:
            style.note(ax, "no pixels")
        style.add_grid(ax)
    linear, log = axes[:, 0]
    linear.set_ylim(0, max(1.0, highest * 1.05))
    style.log_scale(log, "y", 0.7, max(10.0, highest * 1.5))
    below = f" ({style.log_label(edges[0])} and below: first bin)" if _scale_loss_axis(log, edges) else ""
    style.label_axes(linear, "", "pixels a bin (count)")
    style.label_axes(log, f"{what} of a pixel{below}", "pixels a bin (count)")
    style.add_legend(figure, linear, columns=5, right=many)
    return figure


def pixel_map(
    values: Array, *, label: str, mask: NDArray[np.bool_] | None = None, title: str, log: bool = False
) -> Figure:
    """Draw one value a pixel, (H, W), at least 0, as colours up to the 99.9th percentile.

    `mask` (H, W) is True where there is something to see; all else, and what is not finite, stays blank. With
    `log`, zeros have the lowest colour.
    """
    shown = np.asarray(values, dtype=np.float64)
    hidden = ~np.isfinite(shown)
    if mask is not None:
        hidden |= ~np.asarray(mask, dtype=bool)
    seen = shown[~hidden]
    upper, clipped = style.robust_upper(seen)
    figure, axes = style.new_figure(size=style.image_size(shown.shape, bar=True), title=title, images=True)
    ax: Axes = axes[0, 0]
    ax.set_facecolor(style.PALE)
    if log:
        norm = style.log_norm(seen, upper)
        image = ax.imshow(np.ma.masked_array(np.maximum(shown, norm.vmin), hidden), cmap=style.ERROR_MAP, norm=norm)
    else:
        image = ax.imshow(np.ma.masked_array(shown, hidden), cmap=style.ERROR_MAP, vmin=0.0, vmax=upper)
    style.pixel_axes(ax)
    style.add_colour_bar(
        figure,
        image,
        ax,
        f"{label}\n(limit: 99.9th percentile, {upper:.3g})",
        location=style.bar_place(shown.shape),
        extend="max" if clipped else "neither",
    )
    return figure


def pixel_predictions(edges: Array, counts: Array, *, channel: str, highest: float | None = None, title: str) -> Figure:
    """Draw input against reconstructed values: `counts` (bins, bins), first axis the input.

    `edges` (bins + 1,) are those of equal bins, and serve both axes. Colours are logarithmic, from one pixel to
    `highest` (the largest count; given, several channels have one scale), empty bins blank, and a perfect
    reconstruction lies on the diagonal.
    """
    from matplotlib.colors import LogNorm

    figure, axes = style.new_figure(size=(6.4, 5.8), title=title)
    ax: Axes = axes[0, 0]
    table = np.asarray(counts, dtype=np.float64).T
    ends = [float(edges[0]), float(edges[-1])]
    mesh = ax.imshow(
        np.ma.masked_less_equal(table, 0.0),
        cmap=style.VALUE_MAP,
        norm=LogNorm(1.0, max(10.0, table.max() if highest is None else highest)),
        extent=(ends[0], ends[1], ends[0], ends[1]),
        origin="lower",
        interpolation="none",
    )
    ax.plot(ends, ends, color=style.VERMILLION, linestyle="--", linewidth=1.2, label="perfect reconstruction")
    ax.set(xlim=ends, ylim=ends, aspect="equal")
    if not table.any():
        style.note(ax, "no pixels")
    style.label_axes(ax, f"input value of {channel} (0 to 1)", f"reconstructed value of {channel} (0 to 1)")
    style.add_colour_bar(figure, mesh, ax, "pixels (count)")
    style.add_legend(figure, ax)
    return figure


def value_distributions(
    edges: Array, input_counts: Array, output_counts: Array, names: Sequence[str], *, title: str
) -> Figure:
    """Draw, for each channel, how input and reconstructed values are distributed.

    Both counts are (C, bins), `edges` is (bins + 1,). Shares of a channel's pixels, on a logarithmic axis.
    """
    cols = min(len(names), 4)
    rows = -(-len(names) // cols)
    figure, axes = style.new_figure(
        rows, cols, size=(max(6.5, 3.0 * cols), 2.1 * rows + 1.3), title=title, sharex=True, sharey=True
    )
    shares = [_shares(counts) for counts in (input_counts, output_counts)]
    positive = np.concatenate([share[share > 0] for share in shares])
    low = max(1e-5, float(positive.min()) / 2) if positive.size else 0.01
    for i, ax in enumerate(axes.flat):
        if i >= len(names):
            ax.set_axis_off()
            continue
        ax.stairs(shares[0][i], edges, fill=True, color=style.SKY, alpha=0.5, label="input")
        ax.stairs(shares[1][i], edges, baseline=None, color=style.VERMILLION, linewidth=1.2, label="reconstruction")
        style.label_axes(
            ax,
            "channel value (0 to 1)" if i + cols >= len(names) else "",
            "share of pixels (%)" if i % cols == 0 else "",
            panel=names[i],
        )
        ax.tick_params(labelbottom=i + cols >= len(names))
        ax.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])  # no label reaches that of the next panel
    style.log_scale(axes[0, 0], "y", low, 150.0)  # the axes are shared
    axes[0, 0].set_xlim(float(edges[0]), float(edges[-1]))
    style.add_legend(figure, axes[0, 0])
    return figure


def _score_groups(training_scores: Array, scores: Array, labels: Array | None) -> list[Group]:
    """(finite scores, colour, legend entry) of each group that has parts; the held-out good ones always."""
    batch = np.asarray(scores, dtype=np.float64)
    truth = np.full(batch.shape, -1) if labels is None else np.asarray(labels)
    good, defective = truth == 0, truth == 1
    groups = [(np.asarray(training_scores, dtype=np.float64), style.TRAINING, "held-out good parts")]
    for chosen, colour, name in (
        (good, style.GOOD, "batch, good"),
        (defective, style.DEFECTIVE, "batch, defective"),
        (~(good | defective), style.PURPLE, "batch" if labels is None else "batch, not labelled"),
    ):
        if chosen.any():
            groups.append((batch[chosen], colour, name))
    labelled: list[Group] = []
    for values, colour, name in groups:
        finite = values[np.isfinite(values)]
        lost = values.size - finite.size
        counted = f"{finite.size}, {lost} without a score" if lost else f"{finite.size}"
        labelled.append((finite, colour, f"{name} ({counted})"))
    return labelled


def _score_edges(every: Array, threshold: float, log: bool) -> tuple[Array, bool]:
    """Bin edges that hold all scores and the threshold with some room, and whether they grow by a factor."""
    marks = np.append(every, threshold) if np.isfinite(threshold) else every
    bins = int(np.clip(2 * np.sqrt(max(every.size, 1)), 15, 60))
    positive = marks[marks > 0]
    if log and positive.size:
        low, high = float(positive.min()) / 1.25, float(positive.max()) * 1.25
        return np.geomspace(low, high, bins + 1), True
    low, high = (float(marks.min()), float(marks.max())) if marks.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return np.linspace(low - room, high + room, bins + 1), False


def _draw_rug(ax: Axes, groups: list[Group], edges: Array) -> None:
    """One mark a part, one row a group; the row of a large group would be a bar and stays empty."""
    for row, (values, colour, _) in enumerate(groups):
        if values.size <= RUG_LIMIT:
            ax.plot(
                np.clip(values, edges[0], edges[-1]),
                np.full(values.size, -row),
                linestyle="",
                marker="|",
                markersize=9,
                markeredgewidth=1.2,
                color=colour,
            )
    ax.set_ylim(0.6 - len(groups), 0.6)
    ax.set_yticks([])


def _scale_loss_axis(ax: Axes, edges: Array) -> bool:
    """Make the axis logarithmic where the bins are; return whether it is."""
    first, last = float(edges[0]), float(edges[-1])
    if first > 0 and len(edges) > 2 and np.allclose(np.diff(np.log(edges), 2), 0.0, atol=1e-6):
        style.log_scale(ax, "x", first, last)
        return True
    ax.set_xlim(first, last)
    return False


def _shares(counts: Array) -> Array:
    """Percent of each row's sum, (C, bins); a row without counts stays 0."""
    table = np.asarray(counts, dtype=np.float64)
    shares: Array = 100.0 * table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    return shares
