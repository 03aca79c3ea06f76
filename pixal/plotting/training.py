"""Pictures of training: curves over the epochs, and what the model makes of good parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = NDArray[Any]


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
    counts from 1. With `log`, a loss of 0 runs out at the lower edge; without any positive loss the axis
    stays linear.
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
    positive = np.concatenate(values)
    positive = positive[np.isfinite(positive) & (positive > 0)]
    if log and positive.size:
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
    reconstructions: NDArray[Any],
    errors: NDArray[Any],
    names: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Draw one row a part: input, reconstruction and error map.

    `inputs` and `reconstructions` are (K, H, W), one channel, or (K, H, W, 3) RGB, in [0, 1]; `errors` is
    (K, H, W), at least 0, NaN outside the part; `names` has K entries. Errors have one scale for all rows,
    up to their 99.9th percentile.
    """
    count, height, width = errors.shape
    row = min(3.0, max(0.8, 3.4 * height / width)) + 0.45
    figure, axes = style.new_figure(
        count, 3, size=(11.5, count * row + 1.5), title=title, sharex=True, sharey=True, images=True
    )
    upper, clipped = style.robust_upper(errors)
    grey = inputs.ndim == 3
    for i in range(count):
        bottom = i == count - 1
        for ax, picture, panel in zip(
            axes[i, :2],
            (inputs[i], reconstructions[i]),
            (f"input, {style.shorten(names[i], 34)}", "reconstruction"),
            strict=True,
        ):
            shown = ax.imshow(np.clip(picture, 0.0, 1.0), cmap=style.VALUE_MAP, vmin=0.0, vmax=1.0)
            _label_cell(ax, panel, bottom)
        error = axes[i, 2].imshow(np.ma.masked_invalid(errors[i]), cmap=style.ERROR_MAP, vmin=0.0, vmax=upper)
        axes[i, 2].set_facecolor(style.PALE)
        _label_cell(axes[i, 2], "error", bottom)
        axes[i, 0].set_ylabel("y (pixels)", fontsize=style.LABEL_SIZE)
    if count and grey:
        style.add_colour_bar(figure, shown, axes[:, :2], "channel value (0 to 1)", location="bottom", aspect=50.0)
    if count:
        style.add_colour_bar(
            figure,
            error,
            axes[:, 2] if grey else axes,
            f"error (limit: 99.9th percentile, {upper:.3g})",
            location="bottom",
            extend="max" if clipped else "neither",
            aspect=25.0 if grey else 75.0,
        )
    return figure


def latent_space(good: Series, parts: Series, failed: NDArray[np.bool_], *, title: str) -> Figure:
    """Draw production parts over the good parts of training, in the plane in which the good ones vary most.

    `good` (n, L) and `parts` (m, L) are latents, `failed` (m,) says which parts failed. Fewer than three good parts
    span no plane; it is then that of all parts.
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
    whose = "good parts'" if of_good else "parts'"
    names = (f"latent component {i + 1} ({share:.0%} of the {whose} variance)" for i, share in enumerate(shares))
    style.label_axes(ax, *names)
    ax.margins(0.08)
    style.add_grid(ax)
    style.add_legend(figure, ax)
    return figure


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


def _label_cell(ax: Axes, panel: str, bottom: bool) -> None:
    style.label_axes(ax, "x (pixels)" if bottom else "", "", panel=panel)
    ax.tick_params(labelsize=7.5)
