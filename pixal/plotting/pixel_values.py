"""Figures of the pixels of a batch: errors, maps, and reconstructed against input values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

MANY_CHANNELS = 8  # with more, the legend is at the right


def pixel_loss_histogram(
    edges: Array, counts: Array, names: Sequence[str], *, loss_name: str = "squared error", title: str
) -> Figure:
    """Draw a histogram of the loss per pixel, with linear counts above and logarithmic counts below.

    Args:
        edges: (bins + 1,), increasing. If they are equally spaced on a logarithmic axis, the axis is logarithmic and
            the first bin also holds all smaller values.
        counts: (C, bins). Each channel is a line, and so is their sum.
        names: C channel names.
        loss_name: Name of the loss, for the axis label.
        title: Title of the figure.
    """
    has_many = len(names) > MANY_CHANNELS
    figure, axes = style.new_figure(2, 1, size=(9.0 if has_many else 7.5, 6.6), title=title, sharex=True)
    total = np.asarray(counts).sum(axis=0)
    highest = float(total.max()) if total.size else 0.0
    ax: Axes
    for ax in axes[:, 0]:
        for row, name, (colour, dashes) in zip(counts, names, style.line_styles(len(names)), strict=True):
            ax.stairs(row, edges, baseline=None, color=colour, linestyle=dashes, linewidth=1.2, label=name)
        if len(names) != 1:
            ax.stairs(total, edges, baseline=None, color=style.SUM, linewidth=1.8, label="all channels")
        if not highest > 0:
            style.add_note(ax, "no pixels")
        style.add_grid(ax)
    linear, log = axes[:, 0]
    linear.set_ylim(0, max(1.0, highest * 1.05))
    style.set_log_scale(log, "y", 0.7, max(10.0, highest * 1.5))
    first_bin = f" ({style.format_log_value(edges[0])} and below: first bin)" if _set_loss_scale(log, edges) else ""
    style.label_axes(linear, "", "pixels per bin (count)")
    style.label_axes(log, f"{loss_name} of a pixel{first_bin}", "pixels per bin (count)")
    style.add_legend(figure, linear, columns=5, right=has_many)
    return figure


def pixel_map(
    values: Array, *, label: str, mask: NDArray[np.bool_] | None = None, title: str, log: bool = False
) -> Figure:
    """Draw one value per pixel as colours, up to the 99.9th percentile.

    Args:
        values: (H, W), at least 0. Values that are not finite are blank.
        label: Name and unit of the values, for the colour bar.
        mask: (H, W); pixels outside it are blank and do not change the colours.
        title: Title of the figure.
        log: Use a logarithmic colour scale. Zeros have its lowest colour.
    """
    image = np.asarray(values, dtype=np.float64)
    is_blank = ~np.isfinite(image)
    if mask is not None:
        is_blank |= ~np.asarray(mask, dtype=bool)
    visible = image[~is_blank]
    upper, is_clipped = style.robust_upper_limit(visible)
    figure, axes = style.new_figure(size=style.image_figure_size(image.shape, bar=True), title=title, images=True)
    ax: Axes = axes[0, 0]
    ax.set_facecolor(style.PALE)
    if log:
        norm = style.log_norm(visible, upper)
        shown = ax.imshow(
            np.ma.masked_array(np.maximum(image, norm.vmin or 0.0), is_blank), cmap=style.ERROR_MAP, norm=norm
        )
    else:
        shown = ax.imshow(np.ma.masked_array(image, is_blank), cmap=style.ERROR_MAP, vmin=0.0, vmax=upper)
    style.label_pixel_axes(ax)
    style.add_colour_bar(
        figure,
        shown,
        ax,
        f"{label}\n({style.limit_text(upper)})",
        location=style.colour_bar_location(image.shape),
        extend="max" if is_clipped else "neither",
    )
    return figure


def pixel_predictions(
    edges: Array, counts: Array, *, channel: str, max_count: float | None = None, title: str
) -> Figure:
    """Draw a two-dimensional histogram of reconstructed against input values, with logarithmic colours.

    Empty bins are blank. A perfect reconstruction is on the diagonal.

    Args:
        edges: (bins + 1,), equally spaced, for both axes.
        counts: (bins, bins), pixels; the first axis is the input value.
        channel: Name of the channel.
        max_count: Upper limit of the colours, to give several figures the same scale; default: the largest count.
        title: Title of the figure.
    """
    figure, axes = style.new_figure(size=(6.4, 5.8), title=title)
    ax: Axes = axes[0, 0]
    _draw_pairs(figure, ax, edges, np.asarray(counts, dtype=np.float64), max_count=max_count, log=True)
    if not np.any(counts):
        style.add_note(ax, "no pixels")
    style.label_axes(ax, f"input value of {channel} (0 to 1)", f"reconstructed value of {channel} (0 to 1)")
    style.add_legend(figure, ax)
    return figure


def combined_distribution(edges: Array, pairs: Array, *, log: bool = True, title: str) -> Figure:
    """Draw reconstructed against input values of all channels together: two histograms, and both in two dimensions.

    Args:
        edges: (bins + 1,), equally spaced.
        pairs: (bins, bins), pixels of all channels; the first axis is the input value.
        log: Use logarithmic axes and colours for the counts.
        title: Title of the figure.
    """
    figure, axes = style.new_figure(1, 2, size=(11.5, 5.2), title=title)
    counts: Axes
    plane: Axes
    counts, plane = axes[0]
    table = np.asarray(pairs, dtype=np.float64)
    inputs, outputs = table.sum(1), table.sum(0)
    counts.stairs(inputs, edges, fill=True, color=style.SKY, alpha=0.5, label="input (true)")
    counts.stairs(
        outputs, edges, baseline=None, color=style.VERMILLION, linewidth=1.4, label="reconstruction (predicted)"
    )
    highest = float(max(inputs.max(), outputs.max()))
    if log:
        style.set_log_scale(counts, "y", 0.7, max(10.0, highest * 1.5))
    else:
        counts.set_ylim(0, max(1.0, highest * 1.05))
    counts.set_xlim(float(edges[0]), float(edges[-1]))
    style.label_axes(counts, "value (0 to 1, all channels)", "pixels per bin (count)")
    style.add_grid(counts)
    _draw_pairs(figure, plane, edges, table, max_count=None, log=log)
    style.label_axes(plane, "input value (true)", "reconstructed value (predicted)")
    if not table.any():
        style.add_note(counts, "no pixels")
    entries = [ax.get_legend_handles_labels() for ax in (counts, plane)]
    style.add_shared_legend(figure, *(first + second for first, second in zip(*entries, strict=True)))
    return figure


def value_distributions(
    edges: Array, input_counts: Array, output_counts: Array, names: Sequence[str], *, title: str
) -> Figure:
    """Draw histograms of input and reconstructed values, one panel per channel.

    Counts are drawn as shares of the pixels of a channel, on a logarithmic axis.

    Args:
        edges: (bins + 1,).
        input_counts: (C, bins), pixels.
        output_counts: (C, bins), pixels of the reconstruction.
        names: C channel names.
        title: Title of the figure.
    """
    cols = min(len(names), 2 if len(names) <= 4 else 3)
    rows = -(-len(names) // cols)
    size = (max(6.5, 4.2 * cols), 3.0 * rows + 1.3)
    figure, axes = style.new_figure(rows, cols, size=size, title=title, sharex=True, sharey=True)
    input_shares, output_shares = _percent(input_counts), _percent(output_counts)
    shares = np.concatenate([input_shares, output_shares])
    positive = shares[shares > 0]
    low = max(1e-5, float(positive.min()) / 2) if positive.size else 0.01
    for i, ax in enumerate(axes.flat):
        if i >= len(names):
            ax.set_axis_off()
            continue
        ax.stairs(input_shares[i], edges, fill=True, color=style.SKY, alpha=0.5, label="input")
        ax.stairs(output_shares[i], edges, baseline=None, color=style.VERMILLION, linewidth=1.2, label="reconstruction")
        is_lowest, is_first_column = i + cols >= len(names), i % cols == 0
        style.label_axes(
            ax,
            "channel value (0 to 1)" if is_lowest else "",
            "share of pixels (%)" if is_first_column else "",
            panel=names[i],
        )
        ax.tick_params(labelbottom=is_lowest)
        ax.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])  # short labels, which do not reach the next panel
    style.set_log_scale(axes[0, 0], "y", low, 150.0)  # the panels share their axes
    axes[0, 0].set_xlim(float(edges[0]), float(edges[-1]))
    style.add_legend(figure, axes[0, 0])
    return figure


def _draw_pairs(figure: Figure, ax: Axes, edges: Array, counts: Array, *, max_count: float | None, log: bool) -> None:
    """Draw the counts (bins, bins) of input and reconstructed values, the diagonal, and a colour bar."""
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(edges[0]), float(edges[-1])
    highest = max(10.0, counts.max() if max_count is None else max_count)
    shown = ax.imshow(
        np.ma.masked_less_equal(counts.T, 0.0),
        cmap=style.VALUE_MAP,
        norm=LogNorm(1.0, highest) if log else Normalize(0.0, highest),
        extent=(low, high, low, high),
        origin="lower",
        interpolation="none",
    )
    diagonal = [low, high]
    ax.plot(diagonal, diagonal, color=style.VERMILLION, linestyle="--", linewidth=1.2, label="perfect reconstruction")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    style.add_colour_bar(figure, shown, ax, "pixels (count)")


def _set_loss_scale(ax: Axes, edges: Array) -> bool:
    """Make the x axis logarithmic if the bins are; return whether it is."""
    first, last = float(edges[0]), float(edges[-1])
    if first > 0 and len(edges) > 2 and np.allclose(np.diff(np.log(edges), 2), 0.0, atol=1e-6):
        style.set_log_scale(ax, "x", first, last)
        return True
    ax.set_xlim(first, last)
    return False


def _percent(counts: Array) -> Array:
    """Counts (C, bins) in percent of the sum of their row; a row without counts stays 0."""
    table = np.asarray(counts, dtype=np.float64)
    percent: Array = 100.0 * table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    return percent
