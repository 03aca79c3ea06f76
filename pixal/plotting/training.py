"""Figures of training: curves over the epochs, and reconstructions of good parts."""

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

TEXT_LINE = 0.26  # inches: height of a line of text in a strip
MIN_COLUMN = 2.0  # inches: room for the name of a column in a strip
MAX_MARKED_EPOCHS = 30  # longer curves have no markers


def loss_curve(
    training: Array,
    validation: Array | None = None,
    *,
    best_epoch: int | None = None,
    loss_name: str,
    log: bool = False,
    title: str,
) -> Figure:
    """Draw the loss of each epoch.

    Several folds are drawn as their mean and a band from the lowest to the highest.

    Args:
        training: (epochs,) or (folds, epochs). NaN after the early stop of a fold.
        validation: The same for the held-out parts.
        best_epoch: Counted from 1, drawn as a vertical line.
        loss_name: Name of the loss, for the axis label.
        log: Use a logarithmic axis. It stays linear if a loss is negative, for example a log-likelihood, or if none is
            positive. A loss of 0 is then below the axis.
        title: Title of the figure.
    """
    figure, ax = _new_curve_figure(training, validation, f"loss ({loss_name})", title)
    if best_epoch is not None:
        label = f"best epoch ({best_epoch})"
        ax.axvline(best_epoch, color=style.THRESHOLD, linestyle="--", linewidth=1.2, label=label)
    curves = [np.asarray(values, dtype=np.float64).ravel() for values in (training, validation) if values is not None]
    values = np.concatenate(curves)
    positive = values[np.isfinite(values) & (values > 0)]
    if log and positive.size and not (values < 0).any():
        style.set_log_scale(ax, "y", positive.min() / 1.2, positive.max() * 1.2)
    style.add_legend(figure, ax, columns=2)
    return figure


def accuracy_curve(training: Array, validation: Array | None = None, *, name: str, title: str) -> Figure:
    """Draw a metric of each epoch; ``name`` is its axis label. The arrays are those of ``loss_curve``."""
    figure, ax = _new_curve_figure(training, validation, name, title)
    style.add_legend(figure, ax, columns=2)
    return figure


def reconstruction_strip(
    inputs: Array,
    reconstructions: Array | None,
    errors: Array,
    names: Sequence[str],
    *,
    title: str,
    error_name: str = "error",
    input_size: tuple[int, int] | None = None,
) -> Figure:
    """Draw input, reconstruction and error map, one row per part.

    Args:
        inputs: (N, H, W), one channel, or (N, H, W, 3) RGB; values from 0 to 1.
        reconstructions: As ``inputs``. ``None``: this column is left out.
        errors: (N, H, W), at least 0, NaN outside the part. All rows share one colour scale, up to the 99.9th
            percentile.
        names: N names, one above each row.
        title: Title of the figure.
        error_name: Title of the error column and label of its colour bar.
        input_size: (width, height) of the network input in pixels, if the arrays are smaller.
    """
    from matplotlib import colormaps

    count, height, width = errors.shape
    upper, is_clipped = style.robust_upper_limit(errors)
    channel_look: dict[str, Any] = {"cmap": style.VALUE_MAP, "vmin": 0.0, "vmax": 1.0}
    error_colours = colormaps[style.ERROR_MAP].with_extremes(bad=style.PALE)
    error_look: dict[str, Any] = {"cmap": error_colours, "vmin": 0.0, "vmax": upper}
    pixels = " × ".join(map(str, input_size or (width, height)))
    columns = [(f"input ({pixels} pixels)", np.clip(inputs, 0.0, 1.0), channel_look)]
    if reconstructions is not None:
        columns.append(("reconstruction", np.clip(reconstructions, 0.0, 1.0), channel_look))
    columns.append((error_name, np.ma.masked_invalid(errors), error_look))

    # One axes holds all images: one axes per image would take ten times as long to draw. Its unit is one pixel.
    image_inches = min(3.5, 2.8 * width / height)
    pixels_per_inch = width / image_inches
    line = TEXT_LINE * pixels_per_inch
    row_step, column_step = height + line, max(width, MIN_COLUMN * pixels_per_inch) + line
    total_width, total_height = len(columns) * column_step - line, count * row_step + 2 * line
    location = style.colour_bar_location((total_height, total_width))
    extra_width, extra_height = (1.0, 2.4) if location == "bottom" else (3.4, 0.7)
    size = (
        max(7.0, total_width / pixels_per_inch + extra_width),
        max(2.5, total_height / pixels_per_inch + extra_height),
    )
    figure, axes = style.new_figure(size=size, title=title, images=True)
    ax: Axes = axes[0, 0]
    for row in range(count):
        top = row * row_step
        input_image, *_, error_image = (
            ax.imshow(values[row], extent=(left, left + width, top + height, top), **appearance)
            for left, (_, values, appearance) in zip(np.arange(len(columns)) * column_step, columns, strict=True)
        )
        max_length = int(total_width / pixels_per_inch * 72 / (0.75 * style.LABEL_SIZE))
        _write(ax, 0.0, top - 0.25 * line, style.shorten(names[row], max_length))
    for column, (name, *_) in enumerate(columns):
        _write(ax, column * column_step, -1.3 * line, name)
    ax.set(xlim=(0.0, total_width), ylim=(count * row_step, -2.0 * line))
    ax.set_axis_off()
    if count and inputs.ndim == 3:
        style.add_colour_bar(figure, input_image, ax, "channel value (0 to 1)", location=location, aspect=60.0)
    if count:
        label = f"{error_name} ({style.limit_text(upper)})"
        extend = "max" if is_clipped else "neither"
        style.add_colour_bar(figure, error_image, ax, label, location=location, extend=extend, aspect=60.0)
    return figure


def _new_curve_figure(training: Array, validation: Array | None, ylabel: str, title: str) -> tuple[Figure, Axes]:
    """A figure with the curves of training and validation over the epochs."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = style.new_figure(title=title)
    ax: Axes = axes[0, 0]
    _draw_curve(ax, training, style.TRAINING, "-", "training")
    if validation is not None:
        _draw_curve(ax, validation, style.VALIDATION, "--", "validation")
    style.label_axes(ax, "epoch", ylabel)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    style.add_grid(ax)
    return figure, ax


def _draw_curve(ax: Axes, values: Array, colour: str, dashes: str, label: str) -> None:
    """Draw one curve (epochs,), or the mean and the range of several (folds, epochs)."""
    folds = np.ma.masked_invalid(np.atleast_2d(np.asarray(values, dtype=np.float64)))
    fold_count, epoch_count = folds.shape
    epochs = np.arange(1, epoch_count + 1)
    line: dict[str, Any] = {"color": colour, "linestyle": dashes, "markersize": 3.5, "linewidth": 1.6}
    if fold_count > 1:
        low, high = folds.min(axis=0), folds.max(axis=0)
        range_label = f"{label}, lowest to highest fold"
        ax.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0, label=range_label)
        label = f"{label}, mean of {fold_count} folds"
    ax.plot(epochs, folds.mean(axis=0), marker="o" if epoch_count <= MAX_MARKED_EPOCHS else "", label=label, **line)


def _write(ax: Axes, x: float, y: float, text: str) -> None:
    """Write text that starts at (x, y) in data units. The layout ignores it, because its room is already reserved."""
    ax.text(x, y, style.escape_dollars(text), fontsize=style.LABEL_SIZE).set_in_layout(False)
