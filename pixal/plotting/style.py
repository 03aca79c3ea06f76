"""Colours, font sizes, and the parts that all figures share: log axes, legends, colour bars.

matplotlib is imported on first use, because images drawn with OpenCV only need the colours.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design" (2008): readers with any common colour vision can tell them apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#767676", "#E4E4E4"

# One colour per role, the same in every figure.
TRAINING, VALIDATION, GOOD, DEFECTIVE = GREEN, BLUE, BLUE, VERMILLION
THRESHOLD, REJECTED, SUM = BLACK, VERMILLION, BLACK

VALUE_MAP, ERROR_MAP, TABLE_MAP = "viridis", "magma", "cividis"  # readable with any common colour vision

DPI = 120
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 12.0, 10.0, 9.0

_MAX_MINOR_RATIO = 1e3  # upper over lower limit of a logarithmic axis with minor ticks

_LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
_DASHES = ("-", "--", ":", "-.")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def import_matplotlib() -> None:
    """Import what figures need ahead of their use, because it takes half a second."""
    import matplotlib.backends.backend_agg
    import matplotlib.colorbar
    import matplotlib.figure  # noqa: F401


def new_figure(
    rows: int = 1,
    cols: int = 1,
    *,
    size: tuple[float, float] = (7.0, 4.5),
    title: str = "",
    sharex: bool = False,
    sharey: bool = False,
    height_ratios: Sequence[float] | None = None,
    images: bool = False,
) -> tuple[Figure, NDArray[Any]]:
    """Create a figure with a grid of axes.

    Args:
        rows: Rows of axes.
        cols: Columns of axes.
        size: (width, height) in inches.
        title: Wrapped to the width of the figure. A ``$`` is drawn as it is.
        sharex: Whether all axes have the same x limits.
        sharey: Whether all axes have the same y limits.
        height_ratios: Relative heights of the rows.
        images: Whether the axes show images of a fixed aspect ratio. Axes and colour bars are then moved close to each
            other.

    Returns:
        The figure, and its axes as an object array (rows, cols).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="compressed" if images else "constrained")
    if title:
        characters = max(20, int(size[0] * 72 / (0.58 * TITLE_SIZE)))
        figure.suptitle(textwrap.fill(escape_dollars(title), characters), fontsize=TITLE_SIZE)
    axes = figure.subplots(rows, cols, sharex=sharex, sharey=sharey, squeeze=False, height_ratios=height_ratios)
    for ax in axes.flat:
        ax.tick_params(labelsize=TICK_SIZE)
    return figure, axes


def escape_dollars(text: str) -> str:
    """Return text that matplotlib draws as it is: it would read text between two ``$`` of a file name as a formula.

    Formulas are also the only text that matplotlib cannot draw in several threads at the same time.
    """
    return text.replace("$", r"\$")


def label_axes(ax: Axes, x: str, y: str, *, panel: str = "") -> None:
    """Label both axes, and set the title of a panel if there are several."""
    ax.set_xlabel(escape_dollars(x), fontsize=LABEL_SIZE)
    ax.set_ylabel(escape_dollars(y), fontsize=LABEL_SIZE)
    if panel:
        ax.set_title(escape_dollars(panel), fontsize=LABEL_SIZE)


def add_legend(figure: Figure, ax: Axes, *, columns: int = 3, right: bool = False) -> None:
    """Add the legend of ``ax`` outside the axes: below them, in up to ``columns`` columns, or at the right."""
    add_shared_legend(figure, *ax.get_legend_handles_labels(), columns=columns, right=right)


def add_shared_legend(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], *, columns: int = 3, right: bool = False
) -> None:
    """Add a legend of these handles, of any axes, outside the axes; see ``add_legend``."""
    if not handles:
        return
    entry_points = TICK_SIZE * (0.58 * max(map(len, labels)) + 5.0)
    fitting = max(1, int(72 * figure.get_figwidth() / entry_points))
    figure.legend(
        handles,
        [escape_dollars(label) for label in labels],
        loc="outside right upper" if right else "outside lower center",
        fontsize=TICK_SIZE,
        frameon=False,
        ncols=1 if right else min(columns, fitting, len(handles)),
    )


def add_colour_bar(
    figure: Figure,
    shown: ScalarMappable,
    axes: Axes | Sequence[Axes] | NDArray[Any],
    label: str,
    *,
    location: str = "right",
    extend: str = "neither",
    aspect: float = 25.0,
) -> Colorbar:
    """Add a colour bar.

    Args:
        figure: The figure.
        shown: The image that the colours belong to.
        axes: The axes next to which the bar is placed.
        label: Name and unit of the values.
        location: "right" or "bottom".
        extend: "neither", "max" or "both": the ends beyond which values share one colour.
        aspect: Length of the bar divided by its thickness.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    bar = figure.colorbar(shown, ax=axes, location=location, extend=extend, aspect=aspect)
    bar.set_label(escape_dollars(label), fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    if isinstance(shown.norm, LogNorm):
        bar.formatter = FuncFormatter(format_log_value)
        bar.minorformatter = NullFormatter()
        if float(shown.norm.vmax or 0) > _MAX_MINOR_RATIO * float(shown.norm.vmin or 0):
            bar.minorlocator = NullLocator()
        bar.update_ticks()
    return bar


def set_log_scale(ax: Axes, which: str, low: float, high: float) -> None:
    """Make the axis ``which`` ("x" or "y") logarithmic, from ``low`` to ``high``, both above 0.

    An axis over many decades has no minor ticks: drawing them would take most of the time of a figure.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    if which == "x":
        ax.set_xlim(low, high)  # before the scale: matplotlib warns if it must find the limits of zeros
        ax.set_xscale("log")
    else:
        ax.set_ylim(low, high)
        ax.set_yscale("log")
    axis = ax.xaxis if which == "x" else ax.yaxis
    decades = math.log10(high / low)
    if decades < 0.7:
        axis.set_major_locator(MaxNLocator(5))
    elif decades < 2:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(format_log_value))
    axis.set_minor_formatter(NullFormatter())
    if high > _MAX_MINOR_RATIO * low:
        axis.set_minor_locator(NullLocator())


def log_norm(values: NDArray[Any], upper: float | None = None) -> LogNorm:
    """Return a ``LogNorm`` from the smallest positive value to ``upper`` (default: the largest value).

    It spans at most six decades. Values of 0 and below are under its lower limit. If no value is positive, the limits
    are 1 and 10.
    """
    from matplotlib.colors import LogNorm

    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return LogNorm(1.0, 10.0)
    high = float(positive.max()) if upper is None or upper <= 0 else upper
    low = max(float(positive.min()), high * 1e-6)
    return LogNorm(low, high if high > low else low * 10)


def robust_upper_limit(values: NDArray[Any], percentile: float = 99.9) -> tuple[float, bool]:
    """Return the upper limit of a colour scale, and whether a value is above it.

    The limit is a percentile of the finite values, or their maximum if the percentile is 0, or 1 if none is above 0.
    """
    finite = np.asarray(values)[np.isfinite(values)]
    upper = float(np.percentile(finite, percentile)) if finite.size else 0.0
    if upper <= 0.0:  # fewer than one pixel in a thousand is above 0
        upper = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return upper, bool(finite.size and finite.max() > upper)


def limit_text(upper: float) -> str:
    """Return the note on a colour bar whose upper limit is that of ``robust_upper_limit``."""
    return f"upper limit: 99.9th percentile, {upper:.3g}"


def format_log_value(value: float, _: int | None = None) -> str:
    """Return a short text for a value on a logarithmic axis: 12, 0.05, 2·10⁻⁶. Empty for 0 and below."""
    if value <= 0:
        return ""
    if 1e-3 <= value < 1e5:
        return f"{value:.6g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10.0**exponent:.3g}"
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}·{power}"


def label_pixel_axes(ax: Axes, *, panel: str = "") -> None:
    """Label the axes of an image, in pixels."""
    label_axes(ax, "x (pixels)", "y (pixels)", panel=panel)


def image_figure_size(shape: Sequence[int], *, bar: bool = False, below: float = 1.4) -> tuple[float, float]:
    """Return the size in inches of a figure for one image (H, W), at most 8 by 10.

    Args:
        shape: (H, W, ...) of the image.
        bar: Whether to leave room for a colour bar at ``colour_bar_location``.
        below: Inches for title, axis and legend.
    """
    side = 0.9
    if bar and colour_bar_location(shape) == "bottom":
        below += 0.6
    elif bar:
        side = 2.0
    scale = min((8.0 - side) / shape[1], (10.0 - below) / shape[0])
    return max(4.0, scale * shape[1] + side), max(2.8, scale * shape[0] + below)


def colour_bar_location(shape: Sequence[int]) -> str:
    """Return the side of an image (H, W) that has room for a colour bar and its label: "bottom" or "right"."""
    return "bottom" if shape[1] > 2.2 * shape[0] else "right"


def line_styles(count: int) -> list[tuple[str, str]]:
    """Return ``count`` pairs (colour, dashes). Up to 28 are all different."""
    return [(_LINES[i % len(_LINES)], _DASHES[i // len(_LINES) % len(_DASHES)]) for i in range(count)]


def add_grid(ax: Axes, which: Literal["both", "x", "y"] = "both") -> None:
    """Add thin grid lines behind the data."""
    ax.grid(axis=which, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)


def add_note(ax: Axes, text: str) -> None:
    """Write in the middle of empty axes why they are empty."""
    ax.text(
        0.5,
        0.5,
        escape_dollars(text),
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=LABEL_SIZE,
        color=GREY,
        wrap=True,
    )


def shorten(text: str, limit: int = 30) -> str:
    """Cut the middle out of a text longer than ``limit``, because file names often differ at their ends."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: limit - 1 - half]}…{text[-half:]}"


def hex_to_rgb(colour: str) -> tuple[int, int, int]:
    """Return a colour "#RRGGBB" as three values from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
