"""Pictures of how good verdicts are where the truth is known: ROC, precision and recall, confusion matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]
Point = tuple[float, float]

NOT_DEFINED = "not defined: it takes\ngood and defective parts"


def roc_curve(fpr: Array, tpr: Array, *, auc: float, point: Point | None = None, title: str) -> Figure:
    """Draw detection rate `tpr` over false alarm rate `fpr`, both (K,) in [0, 1].

    `point` (false alarm rate, detection rate) is where the set threshold lies. Rates that are not finite, as
    in a batch without good or without defective parts, are left out.
    """
    figure, ax = _square(title)
    chosen = np.isfinite(fpr) & np.isfinite(tpr)
    if chosen.any():
        ax.plot(
            np.asarray(fpr)[chosen],
            np.asarray(tpr)[chosen],
            color=style.BLUE,
            linewidth=1.8,
            label=f"parts (area {auc:.4f})",
            clip_on=False,
        )
        ax.plot([0, 1], [0, 1], color=style.GREY, linestyle=":", linewidth=1.2, label="chance (area 0.5)")
    else:
        style.note(ax, NOT_DEFINED)
    if point is not None:
        _draw_point(ax, point, f"at the threshold: {point[0]:.1%} false alarms, {point[1]:.1%} detected")
    style.label_axes(ax, "false alarm rate (share of good parts)", "detection rate (share of defective parts)")
    style.add_legend(figure, ax, columns=1)
    return figure


def precision_recall_curve(
    precision: Array, recall: Array, *, ap: float, prevalence: float, point: Point | None = None, title: str
) -> Figure:
    """Draw precision over recall, both (K,) in [0, 1], in scikit-learn's order (recall falling).

    `ap` is the average precision, the area under the steps; `prevalence` the share of defective parts, which
    chance has as its precision; `point` (recall, precision) is where the set threshold lies.
    """
    figure, ax = _square(title)
    chosen = np.isfinite(precision) & np.isfinite(recall)
    if chosen.any():
        ax.step(
            np.asarray(recall)[chosen],
            np.asarray(precision)[chosen],
            where="post",
            color=style.BLUE,
            linewidth=1.8,
            label=f"parts (average precision {ap:.4f})",
            clip_on=False,
        )
    else:
        style.note(ax, NOT_DEFINED)
    ax.axhline(prevalence, color=style.GREY, linestyle=":", linewidth=1.2, label=f"chance ({prevalence:.3f})")
    if point is not None:
        _draw_point(ax, point, f"at the threshold: recall {point[0]:.1%}, precision {point[1]:.1%}")
    style.label_axes(ax, "recall (share of defective parts found)", "precision (share of alarms that are right)")
    style.add_legend(figure, ax, columns=1)
    return figure


def confusion_matrix(matrix: Array, *, title: str) -> Figure:
    """Draw the (2, 2) counts, rows the truth (good, defective), columns the verdict (pass, fail).

    Each cell has its count and its percentage of the row; a row without parts has no percentages.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    sums = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(sums, 1)
    figure, axes = style.new_figure(size=(5.6, 4.6), title=title)
    ax: Axes = axes[0, 0]
    shown = ax.imshow(100.0 * shares, cmap=style.TABLE_MAP, vmin=0.0, vmax=100.0)
    for (row, col), count in np.ndenumerate(counts):
        percent = f"{shares[row, col]:.1%}" if sums[row, 0] else "no such parts"
        ax.text(
            col,
            row,
            f"{count}\n{percent}",
            ha="center",
            va="center",
            fontsize=style.TITLE_SIZE,
            color=style.BLACK if shares[row, col] > 0.55 else "white",
        )
    ax.set_xticks([0, 1], ["pass", "fail"])
    ax.set_yticks([0, 1], ["good", "defective"], rotation=90, va="center")
    ax.tick_params(length=0, labelsize=style.LABEL_SIZE)
    style.label_axes(ax, "verdict", "truth")
    style.add_colour_bar(figure, shown, ax, "share of the row (%)")
    return figure


def _square(title: str) -> tuple[Figure, Axes]:
    figure, axes = style.new_figure(size=(5.6, 6.2), title=title)
    ax: Axes = axes[0, 0]
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    style.add_grid(ax)
    return figure, ax


def _draw_point(ax: Axes, point: Point, label: str) -> None:
    if np.isfinite(point).all():
        ax.plot(
            *point,
            marker="o",
            markersize=9,
            markeredgewidth=2,
            markerfacecolor="white",
            linestyle="",
            markeredgecolor=style.VERMILLION,
            label=label,
            clip_on=False,
            zorder=5,
        )
