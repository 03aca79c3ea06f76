"""The figure of a type's alignments: how well each photograph lies on the reference."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Mask = NDArray[np.bool_]

WIDTH = 12.0  # inches, at most
EVENLY_NAMED = 30  # photographs that are named though nothing is the matter with them, where not all can be
NAME_SIZE, NAME_ANGLE = 7.5, 60  # points, degrees
NAME_STEP = 1.3 * NAME_SIZE / np.sin(np.deg2rad(NAME_ANGLE))  # points along the axis from one name to the next
REFERENCE = style.GREEN
MARKS = {  # marker, colour, size
    "reference": ("*", REFERENCE, 11.0),
    "aligned": ("o", style.GOOD, 5.0),
    "not aligned": ("X", style.REJECTED, 7.0),
}
REASONS = 8  # failed photographs whose reason is written below


def alignment_metrics(
    images: Sequence[str],
    inliers: NDArray[Any],
    ssim: NDArray[Any],
    mse: NDArray[Any],
    ok: Mask,
    *,
    min_inliers: float,
    min_ssim: float,
    max_mse: float,
    title: str,
    reference: str | None = None,
    reasons: Sequence[str] = (),
) -> Figure:
    """Draw inliers, SSIM and mean squared error of each photograph, with the limits; failed ones are named first.

    All arrays are (N,), in the order of `images`. A metric that a photograph does not have is NaN: its mark stands at
    the foot of the panel. `ok` is False for a photograph that is not aligned, `reasons` (N,) say why; `reference` is
    the name of the one that all are aligned to.
    """
    accepted = np.asarray(ok, dtype=bool)
    is_reference = np.array([image == reference for image in images], dtype=bool)
    groups = {
        "reference": accepted & is_reference,
        "aligned": accepted & ~is_reference,
        "not aligned": ~accepted,
    }
    width = min(WIDTH, max(8.0, 4 + 0.2 * len(images)))
    notes = _failures(images, accepted, reasons, characters=int(13 * width))
    figure, axes = style.new_figure(3, 1, size=(width, 7.6 + 0.17 * len(notes)), title=title, sharex=True)
    named_first = [int(i) for group in ("reference", "not aligned") for i in np.flatnonzero(groups[group])]
    for ax, values, name, unit, limit, at_least in (
        (axes[0, 0], inliers, "inliers", "", min_inliers, True),
        (axes[1, 0], ssim, "SSIM", "", min_ssim, True),
        (axes[2, 0], mse, "MSE", " (grey levels²)", max_mse, False),
    ):
        series = np.asarray(values, dtype=np.float64)
        _draw_values(ax, series, groups)
        _draw_limit(ax, limit, at_least)
        style.label_axes(ax, "", name + unit, panel=f"{name} (at {'least' if at_least else 'most'} {limit:g})")
        style.add_grid(ax, "y")
        if np.isfinite(series).any():
            named_first.append(int(np.nanargmin(series) if at_least else np.nanargmax(series)))
    named = _name_photographs(axes[2, 0], images, named_first, 72 * (width - 1.0))
    for label, i in zip(axes[2, 0].get_xticklabels(), named, strict=True):
        label.set_color(style.REJECTED if not accepted[i] else REFERENCE if is_reference[i] else style.BLACK)
    every = "photographs" if len(named) == len(images) else f"photographs ({len(named)} of {len(images)} are named)"
    text = "\n".join([every, *(["not aligned:"] if notes else []), *map(style.plain, notes)])
    axes[2, 0].set_xlabel(text, loc="left", fontsize=style.TICK_SIZE)
    figure.align_ylabels(axes[:, 0])
    style.add_legend(figure, axes[0, 0], columns=6)
    return figure


def _draw_values(ax: Axes, values: NDArray[np.float64], groups: dict[str, Mask]) -> None:
    """Draw one metric (N,) with a mark a group; what has no value at the foot."""
    index = np.arange(len(values))
    for name, group in groups.items():
        marker, colour, size = MARKS[name]
        if name == "aligned" and len(values) > 100:
            size = 3.0
        drawn = group & np.isfinite(values)
        label = name if name == "reference" else f"{name} ({int(group.sum())})"
        if group.any() or name != "reference":
            ax.plot(
                index[drawn], values[drawn], linestyle="", marker=marker, color=colour, markersize=size, label=label
            )
    missing = ~np.isfinite(values)
    if missing.any():
        ax.plot(
            index[missing],
            np.full(int(missing.sum()), 0.06),
            linestyle="",
            marker="X",
            color=style.REJECTED,
            markerfacecolor="none",
            markersize=7,
            transform=ax.get_xaxis_transform(),
            label=f"no value ({int(missing.sum())})",
        )


def _draw_limit(ax: Axes, limit: float, at_least: bool) -> None:
    """Draw a limit, and shade what is beyond it."""
    ax.axhline(limit, color=style.THRESHOLD, linestyle="--", linewidth=1.2, label="limit")
    ax.margins(y=0.12)
    low, high = ax.get_ylim()
    beyond = (low, limit) if at_least else (limit, high)
    ax.axhspan(*beyond, color=style.PALE, alpha=0.6, zorder=0, label="beyond the limit")
    ax.set_ylim(low, high)


def _name_photographs(ax: Axes, images: Sequence[str], first: Sequence[int], length: float) -> list[int]:
    """Name photographs on the x axis, `length` points long, as many as can be read; returns which.

    Those of `first`, in that order, and then others, evenly.
    """
    count = max(len(images), 1)
    apart = int(np.ceil(NAME_STEP * count / length))
    evenly = max(apart, -(-count // EVENLY_NAMED)) if apart > 1 else 1
    named: list[int] = []
    for i in (*first, *range(0, len(images), evenly)):
        if all(abs(i - other) >= apart for other in named):
            named.append(i)
    named.sort()
    ax.set_xticks(
        named,
        [style.plain(style.shorten(images[i])) for i in named],
        rotation=NAME_ANGLE,
        ha="right",
        rotation_mode="anchor",
        fontsize=NAME_SIZE,
    )
    ax.set_xlim(-0.7, count - 0.3)
    return named


def _failures(images: Sequence[str], accepted: Mask, reasons: Sequence[str], characters: int) -> list[str]:
    """Lines on the first photographs that are not aligned, with the fact each reason begins with, and how many more."""
    failed = [int(i) for i in np.flatnonzero(~accepted)] if len(reasons) else []
    lines: list[str] = []
    for i in failed[:REASONS]:
        fact = reasons[i].removeprefix("not aligned: ").partition(";")[0]
        lines += textwrap.wrap(f"{style.shorten(images[i])}: {fact}", characters, subsequent_indent="    ")
    return [*lines, f"and {len(failed) - REASONS} more"] if len(failed) > REASONS else lines
