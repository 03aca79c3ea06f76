"""Pictures of training: curves over the epochs, and what the model makes of good parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = NDArray[Any]
TEXT_LINE, COLUMN = 0.26, 2.0  # of a strip, in inches: a line of text, and the least that a column's head needs


def loss_curve(
    training: Series,
    validation: Series | None = None,
    *,
    best_epoch: int | None = None,
    loss_name: str,
    log: bool = False,
    title: str,
) -> Figure:
    """Draw the loss over the epochs, (epochs,) or (folds, epochs) with NaN after a fold's early stop.

    Folds are drawn as the mean of those still running, in a band from lowest to highest. `best_epoch`
    counts from 1. With `log`, a loss of 0 runs out at the lower edge; with a negative loss, as of a likelihood, or
    without any positive one, the axis stays linear.
    """
    figure, ax = _curves(training, validation, f"loss ({loss_name})", title)
    if best_epoch is not None:
        ax.axvline(
            best_epoch,
            color=style.THRESHOLD,
            linestyle="--",
            linewidth=1.2,
            label=f"best epoch ({best_epoch})",
        )
    values = [np.asarray(series, dtype=np.float64).ravel() for series in (training, validation) if series is not None]
    every = np.concatenate(values)
    positive = every[np.isfinite(every) & (every > 0)]
    if log and positive.size and not (every < 0).any():
        style.log_scale(ax, "y", positive.min() / 1.2, positive.max() * 1.2)
    style.add_legend(figure, ax, columns=2)
    return figure


def accuracy_curve(training: Series, validation: Series | None = None, *, name: str, title: str) -> Figure:
    """Draw a metric over the epochs; the arrays are those of `loss_curve`, `name` is the metric's."""
    figure, ax = _curves(training, validation, name, title)
    style.add_legend(figure, ax, columns=2)
    return figure


def reconstruction_strip(
    inputs: NDArray[Any],
    reconstructions: NDArray[Any] | None,
    errors: NDArray[Any],
    names: Sequence[str],
    *,
    title: str,
    error_name: str = "error",
    size: tuple[int, int] | None = None,
) -> Figure:
    """Draw one row a part: input, reconstruction (None: left out) and error map.

    `inputs` and `reconstructions` are (K, H, W), one channel, or (K, H, W, 3) RGB, in [0, 1]; `errors` is
    (K, H, W), at least 0, NaN outside the part, `error_name` says of what; `names` has K entries. Errors have one
    scale for all rows, up to their 99.9th percentile. `size`: the input's (width, height) where these are smaller.
    """
    from matplotlib import colormaps

    count, height, width = errors.shape
    # Inches of a column; one axes holds all pictures, as eleven would take ten times as long to draw.
    across = min(3.5, 2.8 * width / height)
    line = TEXT_LINE * width / across  # in the pictures' pixels
    step, pitch = height + line, max(width, COLUMN * width / across) + line
    upper, clipped = style.robust_upper(errors)
    shown: dict[str, Any] = {"cmap": style.VALUE_MAP, "vmin": 0.0, "vmax": 1.0}
    colours = colormaps[style.ERROR_MAP].with_extremes(bad=style.PALE)
    wrong: dict[str, Any] = {"cmap": colours, "vmin": 0.0, "vmax": upper}
    pixels = " × ".join(map(str, size or (width, height)))
    columns = [(f"input ({pixels} pixels)", np.clip(inputs, 0.0, 1.0), shown)]
    if reconstructions is not None:
        columns.append(("reconstruction", np.clip(reconstructions, 0.0, 1.0), shown))
    columns.append((error_name, np.ma.masked_invalid(errors), wrong))
    total = (len(columns) * pitch - line, count * step + 2 * line)
    place = style.bar_place(total[::-1])
    room = (1.0, 2.4) if place == "bottom" else (3.4, 0.7)
    inches = max(7.0, across * total[0] / width + room[0]), max(2.5, across * total[1] / width + room[1])
    figure, axes = style.new_figure(size=inches, title=title, images=True)
    ax: Axes = axes[0, 0]
    for row in range(count):
        top = row * step
        value, *_, error = (
            ax.imshow(values[row], extent=(left, left + width, top + height, top), **look)
            for left, (_, values, look) in zip(np.arange(len(columns)) * pitch, columns, strict=True)
        )
        _write(ax, 0.0, top - 0.25 * line, _fitting(names[row], across * total[0] / width))
    for column, (head, *_) in enumerate(columns):
        _write(ax, column * pitch, -1.3 * line, head)
    ax.set(xlim=(0.0, total[0]), ylim=(count * step, -2.0 * line))
    ax.set_axis_off()
    if count and inputs.ndim == 3:
        style.add_colour_bar(figure, value, ax, "channel value (0 to 1)", location=place, aspect=60.0)
    if count:
        label, extend = f"{error_name} (limit: 99.9th percentile, {upper:.3g})", "max" if clipped else "neither"
        style.add_colour_bar(figure, error, ax, label, location=place, extend=extend, aspect=60.0)
    return figure


def latent_space(
    good: Series, parts: Series, failed: NDArray[np.bool_], *, named: Mapping[int, str] | None = None, title: str
) -> Figure:
    """Draw production parts over the good parts of training, in the plane in which the good ones vary most.

    `good` (n, L) and `parts` (m, L) are latents, `failed` (m,) says which parts failed; `named`: rows of `parts` to
    number in the picture, with their names for the legend. Fewer than three good parts span no plane; it is then
    that of all parts.
    """
    figure, axes = style.new_figure(size=(7.0, 6.0), title=title)
    ax: Axes = axes[0, 0]
    of_good = len(good) > 2
    centre, directions, shares = _plane(good if of_good else np.concatenate([good, parts]))
    groups: tuple[tuple[Series, str, dict[str, Any]], ...] = (
        (good, "good parts of training", {"marker": "o", "facecolors": "none", "edgecolors": style.TRAINING}),
        (parts[~failed], "parts that pass", {"marker": "+", "color": style.GOOD}),
        (parts[failed], "parts that fail", {"marker": "x", "color": style.DEFECTIVE}),
    )
    for values, label, look in groups:
        if len(values):
            across, up = ((values - centre) @ directions.T).T
            ax.scatter(across, up, s=42, linewidths=1.3, label=f"{label} ({len(values)})", **look)
    for number, name in enumerate((named or {}).values(), 1):
        ax.plot([], [], linestyle="", label=f"{number}: {style.shorten(name, 40)}")
    for place, text in _numbers(
        (parts[list(named or {})] - centre) @ directions.T, across_all=np.asarray(ax.dataLim.size)
    ):
        ax.annotate(text, place, (5, 4), textcoords="offset points", fontsize=style.TICK_SIZE, weight="bold")
    whose = "good parts'" if of_good else "parts'"
    names = (f"latent component {i + 1} ({share:.0%} of the {whose} variance)" for i, share in enumerate(shares))
    style.label_axes(ax, *names)
    ax.margins(0.08)
    style.add_grid(ax)
    style.add_legend(figure, ax, columns=2)
    return figure


def _numbers(places: Series, *, across_all: Series) -> list[tuple[tuple[float, float], str]]:
    """Where to write 1, 2, ... of places (k, 2), and what; places too near to each other have one text, as "2, 4".

    `across_all` (2,): width and height of all that is drawn.
    """
    near = 0.04 * np.maximum(across_all, 1e-30)
    groups: list[tuple[Series, list[str]]] = []
    for number, place in enumerate(places, 1):
        for other, numbers in groups:
            if (np.abs(place - other) < near).all():
                numbers.append(str(number))
                break
        else:
            groups.append((place, [str(number)]))
    return [((float(place[0]), float(place[1])), ", ".join(numbers)) for place, numbers in groups]


def _plane(points: Series) -> tuple[Series, Series, Series]:
    """The mean (L,) of points (n, L), two principal directions (2, L), and their shares of the variance (2,)."""
    centre = points.mean(0) if len(points) else np.zeros(points.shape[1])
    _, spread, found = np.linalg.svd(points - centre, full_matrices=False)
    directions, shares = np.zeros((2, points.shape[1])), np.zeros(2)
    count = min(2, len(spread))
    directions[:count] = found[:count]
    # A direction's sign is arbitrary; its largest entry is made positive, so that two pictures can be compared.
    directions *= np.where(directions[[0, 1], np.abs(directions).argmax(1)] < 0, -1, 1)[:, None]
    shares[:count] = spread[:count] ** 2 / max(float(np.sum(spread**2)), 1e-30)
    return centre, directions, shares


def _curves(training: Series, validation: Series | None, ylabel: str, title: str) -> tuple[Figure, Axes]:
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


def _draw_curve(ax: Axes, values: Series, colour: str, dashes: str, label: str) -> None:
    folds = np.ma.masked_invalid(np.atleast_2d(np.asarray(values, dtype=np.float64)))
    epochs = np.arange(1, folds.shape[1] + 1)
    marker = "o" if folds.shape[1] <= 30 else ""
    if folds.shape[0] > 1:
        ax.fill_between(
            epochs,
            folds.min(axis=0),
            folds.max(axis=0),
            color=colour,
            alpha=0.2,
            linewidth=0,
            label=f"{label}, lowest to highest fold",
        )
        label = f"{label}, mean of {folds.shape[0]} folds"
    ax.plot(
        epochs,
        folds.mean(axis=0),
        color=colour,
        linestyle=dashes,
        marker=marker,
        markersize=3.5,
        linewidth=1.6,
        label=label,
    )


def _fitting(text: str, inches: float) -> str:
    return style.shorten(text, int(inches * 72 / (0.75 * style.LABEL_SIZE)))


def _write(ax: Axes, x: float, y: float, text: str) -> None:
    """Text that starts at a place in the picture's units; it has its room already, and takes none of the layout's."""
    ax.text(x, y, style.plain(text), fontsize=style.LABEL_SIZE).set_in_layout(False)
