"""What all figures share: colours, font sizes, and how figures, log axes, legends and colour bars are made.

matplotlib is imported on first use: the pictures drawn with OpenCV take their colours here and do without it.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

# Okabe & Ito, "Color Universal Design" (2008): told apart with every common colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, PALE = "#767676", "#E4E4E4"

# Roles: the same thing has the same colour in every figure.
TRAINING, VALIDATION, GOOD, DEFECTIVE = GREEN, BLUE, BLUE, VERMILLION
THRESHOLD, REJECTED, SUM = BLACK, VERMILLION, BLACK

VALUE_MAP, ERROR_MAP, TABLE_MAP, PHOTO_MAP = "viridis", "magma", "cividis", "gray"

DPI = 120
TITLE_SIZE, LABEL_SIZE, TICK_SIZE = 12.0, 10.0, 9.0

_MOST_WITH_MINOR = 1e3  # largest over smallest value of a logarithmic axis with ticks between the decades

_LINES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY)
_DASHES = ("-", "--", ":", "-.")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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
    """Return a figure of `size` (width, height) inches and its axes, an object array (rows, cols).

    With `images`, axes that keep the shape of their image are moved together, colour bars with them. A title
    longer than the figure is wide is wrapped; nothing in it is read as mathematics.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="compressed" if images else "constrained")
    if title:
        characters = max(20, int(size[0] * 72 / (0.58 * TITLE_SIZE)))
        figure.suptitle(textwrap.fill(plain(title), characters), fontsize=TITLE_SIZE)
    axes = figure.subplots(rows, cols, sharex=sharex, sharey=sharey, squeeze=False, height_ratios=height_ratios)
    for ax in axes.flat:
        ax.tick_params(labelsize=TICK_SIZE)
    return figure, axes


def plain(text: str) -> str:
    """Return text in which matplotlib finds no mathematics: names of files and folders may hold a `$`.

    Mathematics is also the one kind of text that matplotlib cannot set in several threads at once.
    """
    return text.replace("$", r"\$")


def label_axes(ax: Axes, x: str, y: str, *, panel: str = "") -> None:
    """Name both axes, with their units, and where there are several panels this one."""
    ax.set_xlabel(plain(x), fontsize=LABEL_SIZE)
    ax.set_ylabel(plain(y), fontsize=LABEL_SIZE)
    if panel:
        ax.set_title(plain(panel), fontsize=LABEL_SIZE)


def add_legend(figure: Figure, ax: Axes, *, columns: int = 3, right: bool = False) -> None:
    """Add the legend of `ax` outside all axes: below, in as many columns as fit, or at the right."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    points_an_entry = TICK_SIZE * (0.58 * max(map(len, labels)) + 5.0)
    fitting = max(1, int(72 * figure.get_figwidth() / points_an_entry))
    figure.legend(
        handles,
        [plain(label) for label in labels],
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
    """Add a colour bar of what is `shown`, beside or below the axes that it belongs to.

    `aspect` is its length over its thickness.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    bar = figure.colorbar(shown, ax=axes, location=location, extend=extend, aspect=aspect)
    bar.set_label(plain(label), fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=TICK_SIZE)
    if isinstance(shown.norm, LogNorm):
        bar.formatter = FuncFormatter(log_label)
        bar.minorformatter = NullFormatter()
        if float(shown.norm.vmax or 0) > _MOST_WITH_MINOR * float(shown.norm.vmin or 0):
            bar.minorlocator = NullLocator()
        bar.update_ticks()
    return bar


def log_scale(ax: Axes, which: str, low: float, high: float) -> None:
    """Make the axis `which` ("x" or "y") logarithmic from `low` to `high`, both above 0.

    Over many decades there are no ticks between the labelled ones: they are most of what it takes to draw a figure.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    if which == "x":
        ax.set_xlim(low, high)  # first: matplotlib warns if it has to find the limits of zeros itself
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
    axis.set_major_formatter(FuncFormatter(log_label))
    axis.set_minor_formatter(NullFormatter())
    if high > _MOST_WITH_MINOR * low:
        axis.set_minor_locator(NullLocator())


def log_norm(values: NDArray[Any], upper: float | None = None) -> Any:
    """Return a LogNorm from the smallest positive value to `upper` (else the largest): six decades at most.

    What is 0 or below falls under the lower limit; where no value is positive, the limits are 1 and 10.
    """
    from matplotlib.colors import LogNorm

    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return LogNorm(1.0, 10.0)
    high = float(positive.max()) if upper is None or upper <= 0 else upper
    low = max(float(positive.min()), high * 1e-6)
    return LogNorm(low, high if high > low else low * 10)


def robust_upper(values: NDArray[Any], percentile: float = 99.9) -> tuple[float, bool]:
    """Return the upper limit of a colour scale, and whether any value lies above it.

    The limit is the percentile of the finite values; 1 where none is above 0.
    """
    finite = np.asarray(values)[np.isfinite(values)]
    upper = float(np.percentile(finite, percentile)) if finite.size else 0.0
    if upper <= 0.0:  # fewer than one pixel in a thousand differs from 0: then its own value is the limit
        upper = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return upper, bool(finite.size and finite.max() > upper)


def log_label(value: float, _: int | None = None) -> str:
    """12, 0.05, 2·10⁻⁶: as short as it can be read."""
    if value <= 0:
        return ""
    if 1e-3 <= value < 1e5:
        return f"{value:.6g}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10.0**exponent:.3g}"
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}·{power}"


def pixel_axes(ax: Axes, *, panel: str = "") -> None:
    """Name the axes of an image, in pixels."""
    label_axes(ax, "x (pixels)", "y (pixels)", panel=panel)


def image_size(shape: Sequence[int], *, bar: bool = False, below: float = 1.4) -> tuple[float, float]:
    """Return the size in inches of a figure that one image (H, W) fills, at most 8 by 10.

    `bar` leaves room for a colour bar at `bar_place`, `below` is for title, axis and legend.
    """
    beside = 0.9
    if bar and bar_place(shape) == "bottom":
        below += 0.6
    elif bar:
        beside = 2.0
    scale = min((8.0 - beside) / shape[1], (10.0 - below) / shape[0])
    return max(4.0, scale * shape[1] + beside), max(2.8, scale * shape[0] + below)


def bar_place(shape: Sequence[int]) -> str:
    """Return where the colour bar of an image (H, W) finds room for its label: "bottom" or "right"."""
    return "bottom" if shape[1] > 2.2 * shape[0] else "right"


def line_styles(count: int) -> list[tuple[str, str]]:
    """Return `count` pairs (colour, dashes), all different up to 28."""
    return [(_LINES[i % len(_LINES)], _DASHES[i // len(_LINES) % len(_DASHES)]) for i in range(count)]


def add_grid(ax: Axes, which: Literal["both", "x", "y"] = "both") -> None:
    """Add thin grid lines behind the data."""
    ax.grid(axis=which, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)


def note(ax: Axes, text: str) -> None:
    """Say in the middle of empty axes why they are empty."""
    ax.text(
        0.5,
        0.5,
        plain(text),
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=LABEL_SIZE,
        color=GREY,
        wrap=True,
    )


def shorten(text: str, limit: int = 30) -> str:
    """Cut the middle out of a name longer than `limit`: file names differ at their ends."""
    if len(text) <= limit:
        return text
    half = (limit - 1) // 2
    return f"{text[: limit - 1 - half]}…{text[-half:]}"


def rgb(colour: str) -> tuple[int, int, int]:
    """Return "#RRGGBB" as three values from 0 to 255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
