"""Figures of verdicts against truth: ROC curve, precision-recall curve, confusion matrix."""

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

NOT_DEFINED = "not defined: this curve needs\ngood and defective parts"


def roc_curve(fpr: Array, tpr: Array, *, auc: float, point: Point | None = None, title: str) -> Figure:
    """Draw the detection rate over the false alarm rate.

    Args:
        fpr: (K,), false alarm rates from 0 to 1. Values that are not finite are left out; all are NaN in a batch
            without good parts.
        tpr: (K,), detection rates from 0 to 1. All are NaN in a batch without defective parts.
        auc: Area under the curve.
        point: (false alarm rate, detection rate) at the threshold of the verdicts.
        title: Title of the figure.
    """
    figure, ax = _new_unit_square(title)
    is_finite = np.isfinite(fpr) & np.isfinite(tpr)
    if is_finite.any():
        x, y = np.asarray(fpr)[is_finite], np.asarray(tpr)[is_finite]
        ax.plot(x, y, color=style.BLUE, linewidth=1.8, label=f"parts (area {auc:.4f})", clip_on=False)
        ax.plot([0, 1], [0, 1], color=style.GREY, linestyle=":", linewidth=1.2, label="random scores (area 0.5)")
    else:
        style.add_note(ax, NOT_DEFINED)
    if point is not None:
        _draw_point(ax, point, f"at the threshold: {point[0]:.1%} false alarms, {point[1]:.1%} detected")
    style.label_axes(ax, "false alarm rate (share of good parts)", "detection rate (share of defective parts)")
    style.add_legend(figure, ax, columns=1)
    return figure


def precision_recall_curve(
    precision: Array, recall: Array, *, ap: float, prevalence: float, point: Point | None = None, title: str
) -> Figure:
    """Draw precision over recall.

    Args:
        precision: (K,), from 0 to 1. Values that are not finite are left out.
        recall: (K,), from 0 to 1, falling, as scikit-learn returns it.
        ap: Average precision: the area under the steps.
        prevalence: Share of defective parts. It is the precision of random scores.
        point: (recall, precision) at the threshold of the verdicts.
        title: Title of the figure.
    """
    figure, ax = _new_unit_square(title)
    is_finite = np.isfinite(precision) & np.isfinite(recall)
    if is_finite.any():
        x, y = np.asarray(recall)[is_finite], np.asarray(precision)[is_finite]
        label = f"parts (average precision {ap:.4f})"
        ax.step(x, y, where="post", color=style.BLUE, linewidth=1.8, label=label, clip_on=False)
    else:
        style.add_note(ax, NOT_DEFINED)
    label = f"random scores (precision {prevalence:.3f})"
    ax.axhline(prevalence, color=style.GREY, linestyle=":", linewidth=1.2, label=label)
    if point is not None:
        _draw_point(ax, point, f"at the threshold: recall {point[0]:.1%}, precision {point[1]:.1%}")
    style.label_axes(
        ax, "recall (share of defective parts that fail)", "precision (share of failed parts that are defective)"
    )
    style.add_legend(figure, ax, columns=1)
    return figure


def confusion_matrix(matrix: Array, *, title: str) -> Figure:
    """Draw counts of parts by truth and verdict. Each cell gives its count and its percentage of the row.

    Args:
        matrix: (2, 2), rows: truth (good, defective), columns: verdict (pass, fail).
        title: Title of the figure.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    sums = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(sums, 1)
    figure, axes = style.new_figure(size=(5.6, 4.6), title=title)
    ax: Axes = axes[0, 0]
    shown = ax.imshow(100.0 * shares, cmap=style.TABLE_MAP, vmin=0.0, vmax=100.0)
    for (row, col), count in np.ndenumerate(counts):
        percent = f"{shares[row, col]:.1%}" if sums[row, 0] else "no such parts"
        colour = style.BLACK if shares[row, col] > 0.55 else "white"
        ax.text(col, row, f"{count}\n{percent}", ha="center", va="center", fontsize=style.TITLE_SIZE, color=colour)
    ax.set_xticks([0, 1], ["pass", "fail"])
    ax.set_yticks([0, 1], ["good", "defective"], rotation=90, va="center")
    ax.tick_params(length=0, labelsize=style.LABEL_SIZE)
    style.label_axes(ax, "verdict", "truth")
    style.add_colour_bar(figure, shown, ax, "share of the row (%)")
    return figure


def _new_unit_square(title: str) -> tuple[Figure, Axes]:
    """A figure with square axes from 0 to 1."""
    figure, axes = style.new_figure(size=(5.6, 6.2), title=title)
    ax: Axes = axes[0, 0]
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    style.add_grid(ax)
    return figure, ax


def _draw_point(ax: Axes, point: Point, label: str) -> None:
    """Mark a point, if it is finite."""
    if np.isfinite(point).all():
        text_style: dict[str, Any] = {
            "markersize": 9,
            "markeredgewidth": 2,
            "markerfacecolor": "white",
            "linestyle": "",
        }
        ax.plot(
            *point, marker="o", markeredgecolor=style.VERMILLION, label=label, clip_on=False, zorder=5, **text_style
        )
