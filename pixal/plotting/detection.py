"""Draw which planted defects are found: the probability of detection by size, and where only larger ones are found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.image_axes import Mask, add_margin, draw_outline, hatch_mask, show_region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Floats = NDArray[np.float64]

_TARGET = 0.9
_COLUMNS = 4
_LABEL_CHARACTERS = 30


@dataclass(frozen=True)
class PlottedCurve:
    """The probability of detection of one kind of defect at one contrast.

    Attributes:
        kind: The kind.
        size: What its size is.
        contrast: Its contrast; below 0 for darker than what lies beneath.
        sizes: The planted sizes, (S,), pixels.
        fractions: The fraction of the defects of each size that was found, (S,).
        grid: Sizes at which the curve is given, (G,), pixels.
        probability: The fitted curve, (G,); None if none could be fitted.
        low: Lower end of the 95 % band, (G,).
        high: Upper end of the 95 % band, (G,).
    """

    kind: str
    size: str
    contrast: float
    sizes: Floats
    fractions: Floats
    grid: Floats
    probability: Floats | None
    low: Floats
    high: Floats


def detection_curves(curves: Sequence[PlottedCurve], *, title: str) -> Figure:
    """Return a figure with one panel per kind of defect: the fraction found, and the fitted curves, by size.

    Args:
        curves: The curves, sorted by kind.
        title: The title.
    """
    panels = [list(members) for _, members in groupby(curves, key=lambda curve: curve.kind)]
    columns = min(_COLUMNS, max(1, len(panels)))
    rows = max(1, -(-len(panels) // columns))
    size = (max(5.5, 3.1 * columns), 1.4 + 2.6 * rows)
    figure, axes = style.new_figure(rows, columns, size=size, title=title, sharey=True)
    levels = sorted({abs(curve.contrast) for curve in curves})
    colours = {level: colour for level, (colour, _) in zip(levels, style.line_styles(len(levels)), strict=True)}
    legend: list[tuple[float, Line2D]] = []
    for ax, members in zip(axes.flat, panels, strict=False):
        for curve in members:
            line = _draw_curve(ax, curve, colours[abs(curve.contrast)])
            if curve.contrast not in [contrast for contrast, _ in legend]:
                legend.append((curve.contrast, line))
        ax.axhline(_TARGET, color=style.GREY, linewidth=0.8, linestyle=":")
        sizes = np.unique(np.concatenate([curve.sizes for curve in members]))
        style.set_log_scale(ax, "x", float(sizes[0]) * 0.9, float(sizes[-1]) * 1.1)
        ax.set_ylim(-0.03, 1.03)
        style.add_grid(ax)
        label = textwrap.fill(f"{members[0].size} (pixels)", _LABEL_CHARACTERS)
        style.label_axes(ax, label, "", panel=members[0].kind)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("fraction found", fontsize=style.LABEL_SIZE)
    if not panels:
        style.add_note(axes[0, 0], "too few defects could be planted")
    order = np.argsort([contrast for contrast, _ in legend])
    handles = [legend[index][1] for index in order]
    labels = [_contrast_label(legend[index][0]) for index in order]
    style.add_shared_legend(figure, handles, labels, columns=6)
    return figure


def blind_spot_map(
    image: NDArray[Any],
    sizes: NDArray[np.float32],
    part: Mask,
    marked: Mask,
    *,
    limits: tuple[float, float],
    label: str,
    title: str,
) -> Figure:
    """Return a figure of the smallest size that is found at each place, drawn over the reference photograph.

    Args:
        image: The reference photograph, (H, W, 3) uint8 RGB.
        sizes: (H, W), pixels: the smallest size; infinite where nothing is compared, NaN outside the part.
        part: (H, W), the pixels of the part.
        marked: (H, W), the places where only much larger defects are found.
        limits: The smallest and the largest planted size, pixels: the ends of the colour scale.
        label: The name of the values.
        title: The title.
    """
    from matplotlib.colors import LogNorm

    region = add_margin(cv2.boundingRect(part.view(np.uint8)), part.shape)
    size = style.image_figure_size((region[3], region[2]), bar=True, below=1.9)
    figure, axes = style.new_figure(size=size, title=title, images=True)
    ax = axes[0, 0]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    show_region(ax, grey, region, cmap="gray", vmin=0, vmax=255)
    never = part & np.isinf(sizes)
    values = np.ma.masked_invalid(sizes)
    shown = show_region(ax, values, region, cmap=style.VALUE_MAP, norm=LogNorm(*limits), alpha=0.55)
    draw_outline(ax, part, "white", "outline of the part", dark_edge=True)
    if marked.any():
        draw_outline(ax, marked, style.ORANGE, "marked: only defects 1.5 times as large are found", dark_edge=True)
    if never.any():
        hatch_mask(ax, never, style.VERMILLION, "never compared")
    style.label_pixel_axes(ax)
    location = style.colour_bar_location((region[3], region[2]))
    bar = style.add_colour_bar(figure, shown, ax, label, location=location, extend="both")
    bar.set_ticks(list(limits[0] * 2.0 ** np.arange(np.log2(limits[1] / limits[0]) + 1e-6)))
    style.add_legend(figure, ax, columns=2)
    return figure


def _draw_curve(ax: Axes, curve: PlottedCurve, colour: str) -> Line2D:
    """Draw points, band and curve; return the line of the curve."""
    is_darker = curve.contrast < 0
    ax.plot(
        curve.sizes,
        curve.fractions,
        marker="v" if is_darker else "o",
        linestyle="none",
        markersize=4,
        color=colour,
        markerfacecolor=colour if is_darker else "white",
    )
    ax.fill_between(curve.grid, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
    line = np.full(len(curve.grid), np.nan) if curve.probability is None else curve.probability
    (drawn,) = ax.plot(curve.grid, line, color=colour, linestyle="--" if is_darker else "-", linewidth=1.4)
    return drawn


def _contrast_label(contrast: float) -> str:
    return f"contrast {contrast:+.0%}{' (darker)' if contrast < 0 else ''}"
