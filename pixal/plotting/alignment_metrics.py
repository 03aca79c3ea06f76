"""Figure of the alignment of a type: how well each photograph matches the reference."""

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

MAX_WIDTH = 12.0  # inches
MAX_EVENLY_NAMED = 30  # aligned photographs with a name, if there is no room for all names
NAME_SIZE, NAME_ANGLE = 7.5, 60  # points, degrees
NAME_STEP = 1.3 * NAME_SIZE / np.sin(np.deg2rad(NAME_ANGLE))  # points along the axis from one name to the next
MAX_REASONS = 8  # photographs that are not aligned and whose reason is written below
REFERENCE = style.GREEN
MARKERS = {  # marker, colour, size
    "reference": ("*", REFERENCE, 11.0),
    "aligned": ("o", style.GOOD, 5.0),
    "not aligned": ("X", style.REJECTED, 7.0),
}


def alignment_metrics(
    names: Sequence[str],
    inliers: NDArray[Any],
    ssim: NDArray[Any],
    mse: NDArray[Any],
    is_aligned: Mask,
    *,
    min_inliers: float,
    min_ssim: float,
    max_mse: float,
    title: str,
    reference_name: str | None = None,
    reasons: Sequence[str] = (),
) -> Figure:
    """Draw inliers, SSIM and MSE of each photograph, with their limits.

    If there is no room for all names, the reference and photographs that are not aligned are named first. A photograph
    without a value has a marker at the bottom of the panel.

    Args:
        names: N names of photographs.
        inliers: (N,), number of inliers, NaN without a value.
        ssim: (N,), structural similarity, NaN without a value.
        mse: (N,), mean squared error in grey levels squared, NaN without a value.
        is_aligned: (N,), False for a photograph that is not aligned.
        min_inliers: Limit of the inliers.
        min_ssim: Limit of the SSIM.
        max_mse: Limit of the MSE.
        title: Title of the figure.
        reference_name: Name of the reference photograph.
        reasons: N texts, why a photograph is not aligned; or empty.
    """
    aligned = np.asarray(is_aligned, dtype=bool)
    is_reference = np.array([name == reference_name for name in names], dtype=bool)
    groups = {
        "reference": aligned & is_reference,
        "aligned": aligned & ~is_reference,
        "not aligned": ~aligned,
    }
    width = min(MAX_WIDTH, max(8.0, 4 + 0.2 * len(names)))
    reason_lines = _reason_lines(names, aligned, reasons, characters=int(13 * width))
    figure, axes = style.new_figure(3, 1, size=(width, 7.6 + 0.17 * len(reason_lines)), title=title, sharex=True)
    named_first = [int(i) for group in ("reference", "not aligned") for i in np.flatnonzero(groups[group])]
    # A marker for a missing value is in every legend: the legend is that of the first panel.
    missing = ~(np.isfinite(inliers) & np.isfinite(ssim) & np.isfinite(mse))
    for ax, values, name, unit, limit, at_least in (
        (axes[0, 0], inliers, "inliers", " (count)", min_inliers, True),
        (axes[1, 0], ssim, "SSIM", "", min_ssim, True),
        (axes[2, 0], mse, "MSE", " (grey levels²)", max_mse, False),
    ):
        series = np.asarray(values, dtype=np.float64)
        _draw_values(ax, series, groups, missing)
        _draw_limit(ax, limit, at_least)
        style.label_axes(ax, "", name + unit, panel=f"{name} (at {'least' if at_least else 'most'} {limit:g})")
        style.add_grid(ax, "y")
        if np.isfinite(series).any():
            named_first.append(int(np.nanargmin(series) if at_least else np.nanargmax(series)))
    last: Axes = axes[2, 0]
    named = _set_name_ticks(last, names, named_first, 72 * (width - 1.0))
    for label, i in zip(last.get_xticklabels(), named, strict=True):
        label.set_color(style.REJECTED if not aligned[i] else REFERENCE if is_reference[i] else style.BLACK)
    axis_label = "photographs" if len(named) == len(names) else f"photographs ({len(named)} of {len(names)} are named)"
    lines = [axis_label, *(["not aligned:"] if reason_lines else []), *map(style.escape_dollars, reason_lines)]
    last.set_xlabel("\n".join(lines), loc="left", fontsize=style.TICK_SIZE)
    figure.align_ylabels(axes[:, 0])
    style.add_legend(figure, axes[0, 0], columns=6)
    return figure


def _draw_values(ax: Axes, values: NDArray[np.float64], groups: dict[str, Mask], any_missing: Mask) -> None:
    """Draw one metric (N,), with one marker per group and a hollow marker at the bottom for a missing value."""
    index = np.arange(len(values))
    for name, group in groups.items():
        if name == "reference" and not group.any():
            continue
        marker, colour, size = MARKERS[name]
        if name == "aligned" and len(values) > 100:
            size = 3.0
        drawn = group & np.isfinite(values)
        label = name if name == "reference" else f"{name} ({int(group.sum())})"
        ax.plot(index[drawn], values[drawn], linestyle="", marker=marker, color=colour, markersize=size, label=label)
    if any_missing.any():
        missing = np.flatnonzero(~np.isfinite(values))
        appearance: dict[str, Any] = {"linestyle": "", "marker": "X", "markersize": 7, "markerfacecolor": "none"}
        ax.plot(
            missing,
            np.full(len(missing), 0.06),
            color=style.REJECTED,
            transform=ax.get_xaxis_transform(),
            label=f"no value ({int(any_missing.sum())})",
            **appearance,
        )


def _draw_limit(ax: Axes, limit: float, at_least: bool) -> None:
    """Draw a limit, and shade the range that is not accepted."""
    ax.axhline(limit, color=style.THRESHOLD, linestyle="--", linewidth=1.2, label="limit")
    ax.margins(y=0.12)
    low, high = ax.get_ylim()
    rejected = (low, limit) if at_least else (limit, high)
    ax.axhspan(*rejected, color=style.PALE, alpha=0.6, zorder=0, label="not accepted")
    ax.set_ylim(low, high)


def _set_name_ticks(ax: Axes, names: Sequence[str], named_first: Sequence[int], length: float) -> list[int]:
    """Name as many photographs as are readable on an x axis of ``length`` points.

    Those of ``named_first`` come first, in this order; then others at even distances.

    Returns:
        Indices of the named photographs, rising.
    """
    count = max(len(names), 1)
    min_step = int(np.ceil(NAME_STEP * count / length))
    step = max(min_step, -(-count // MAX_EVENLY_NAMED)) if min_step > 1 else 1
    named: list[int] = []
    for i in (*named_first, *range(0, len(names), step)):
        if all(abs(i - other) >= min_step for other in named):
            named.append(i)
    named.sort()
    ax.set_xticks(
        named,
        [style.escape_dollars(style.shorten(names[i])) for i in named],
        rotation=NAME_ANGLE,
        ha="right",
        rotation_mode="anchor",
        fontsize=NAME_SIZE,
    )
    ax.set_xlim(-0.7, count - 0.3)
    return named


def _reason_lines(names: Sequence[str], aligned: Mask, reasons: Sequence[str], characters: int) -> list[str]:
    """Lines of text: the first photographs that are not aligned with their reason, without advice; how many more."""
    failed = [int(i) for i in np.flatnonzero(~aligned)] if len(reasons) else []
    lines: list[str] = []
    for i in failed[:MAX_REASONS]:
        reason = reasons[i].removeprefix("not aligned: ").partition(";")[0]
        lines += textwrap.wrap(f"{style.shorten(names[i])}: {reason}", characters, subsequent_indent="    ")
    return [*lines, f"and {len(failed) - MAX_REASONS} more"] if len(failed) > MAX_REASONS else lines
