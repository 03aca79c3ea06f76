"""Figure of the anomaly scores of a batch, with the threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

SMALL_GROUP = 60  # parts: the rug is drawn if a group has at most this many
MAX_RUG = 400  # parts: the row of a larger group would be a solid bar and stays empty


@dataclass(frozen=True)
class _Group:
    """Scores that are drawn in one colour.

    Attributes:
        scores: (N,), finite.
        colour: Colour of the group.
        label: Legend entry.
    """

    scores: Array
    colour: str
    label: str


def score_distribution(
    training_scores: Array,
    scores: Array,
    labels: Array | None = None,
    *,
    threshold: float,
    log: bool = False,
    unit: str = "",
    title: str,
) -> Figure:
    """Draw histograms of scores and the threshold. Small groups also get a rug: one mark per part.

    Args:
        training_scores: (N,), of the held-out good parts of the training.
        scores: (M,), of the batch. Scores that are not finite are left out and counted in the legend.
        labels: (M,), 1 for a defective part, 0 for a good one, any other value if unknown.
        threshold: Not drawn if it is not finite.
        log: Use a logarithmic score axis with bins of equal width on it. Scores of 0 or below are in the first bin.
        unit: Unit of the scores, for the axis label.
        title: Title of the figure.
    """
    from matplotlib.ticker import MaxNLocator

    groups = _group_scores(training_scores, scores, labels)
    all_scores = np.concatenate([group.scores for group in groups])
    edges, log = _bin_edges(all_scores, threshold, log)
    has_rug = any(0 < group.scores.size <= SMALL_GROUP for group in groups)
    figure, axes = style.new_figure(
        2 if has_rug else 1,
        1,
        size=(7.5, 5.2 if has_rug else 4.6),
        title=title,
        sharex=True,
        height_ratios=[5, 0.4 + 0.35 * len(groups)] if has_rug else None,
    )
    histogram: Axes = axes[0, 0]
    _draw_histogram(histogram, groups, edges)
    histogram.yaxis.set_major_locator(MaxNLocator(integer=True))
    if np.isfinite(threshold):
        for ax in axes.flat:
            label = f"threshold {threshold:.4g}"
            ax.axvline(threshold, color=style.THRESHOLD, linestyle="--", linewidth=1.4, label=label)
    if has_rug:
        _draw_rug(axes[1, 0], groups, edges)
    histogram.set_ylim(bottom=0)
    if log:
        style.set_log_scale(histogram, "x", edges[0], edges[-1])
    else:
        histogram.set_xlim(edges[0], edges[-1])
    style.label_axes(histogram, "", "parts per bin (count)")
    notes = [unit] if unit else []
    if log and (all_scores <= 0).any():
        notes.append("0 and below: first bin")
    axes[-1, 0].set_xlabel(
        style.escape_dollars("anomaly score" + (f" ({'; '.join(notes)})" if notes else "")), fontsize=style.LABEL_SIZE
    )
    style.add_legend(figure, histogram, columns=2)
    return figure


def _group_scores(training_scores: Array, scores: Array, labels: Array | None) -> list[_Group]:
    """The held-out good parts, and each group of the batch that has parts."""
    batch = np.asarray(scores, dtype=np.float64)
    truth = np.full(batch.shape, -1) if labels is None else np.asarray(labels)
    is_good, is_defective = truth == 0, truth == 1
    groups = [_new_group(np.asarray(training_scores, dtype=np.float64), style.TRAINING, "held-out good parts")]
    for chosen, colour, name in (
        (is_good, style.GOOD, "batch, good"),
        (is_defective, style.DEFECTIVE, "batch, defective"),
        (~(is_good | is_defective), style.PURPLE, "batch" if labels is None else "batch, not labelled"),
    ):
        if chosen.any():
            groups.append(_new_group(batch[chosen], colour, name))
    return groups


def _new_group(scores: Array, colour: str, name: str) -> _Group:
    finite = scores[np.isfinite(scores)]
    missing = scores.size - finite.size
    count = f"{finite.size}, {missing} without a score" if missing else f"{finite.size}"
    return _Group(finite, colour, f"{name} ({count})")


def _bin_edges(scores: Array, threshold: float, log: bool) -> tuple[Array, bool]:
    """Bin edges around all scores and the threshold, and whether they are logarithmic: only if a score is positive.

    The threshold is an edge, so that no bar holds parts that pass and parts that fail.
    """
    edges, log = _equal_bins(scores, threshold, log)
    if not np.isfinite(threshold) or (log and threshold <= 0):
        return edges, log
    forward, backward = (np.log, np.exp) if log else (np.asarray, np.asarray)
    positions = forward(edges)
    width = positions[1] - positions[0]
    shifted = positions + (forward(threshold) - positions[0]) % width - width
    edges = backward(np.append(shifted, shifted[-1] + width))
    # A score equal to the threshold passes: it belongs to the bin below.
    edges[np.abs(edges - threshold).argmin()] = np.nextafter(threshold, np.inf)
    return edges, log


def _equal_bins(scores: Array, threshold: float, log: bool) -> tuple[Array, bool]:
    values = np.append(scores, threshold) if np.isfinite(threshold) else scores
    bins = int(np.clip(2 * np.sqrt(max(scores.size, 1)), 15, 60))
    positive = values[values > 0]
    if log and positive.size:
        low, high = float(positive.min()) / 1.25, float(positive.max()) * 1.25
        return np.geomspace(low, high, bins + 1), True
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return np.linspace(low - margin, high + margin, bins + 1), False


def _draw_histogram(ax: Axes, groups: list[_Group], edges: Array) -> None:
    """Draw one histogram per group; scores outside the edges are in the first or last bin."""
    for group in groups:
        counts, _ = np.histogram(np.clip(group.scores, edges[0], edges[-1]), edges)
        heights = np.where(counts > 0, counts, np.nan)  # NaN: no line along the axis over empty bins
        ax.stairs(heights, edges, fill=True, color=group.colour, alpha=0.25)
        ax.stairs(heights, edges, color=group.colour, linewidth=1.6, label=group.label)


def _draw_rug(ax: Axes, groups: list[_Group], edges: Array) -> None:
    """Draw one mark per part, one row per group."""
    appearance: dict[str, Any] = {"linestyle": "", "marker": "|", "markersize": 9, "markeredgewidth": 1.2}
    for row, group in enumerate(groups):
        if group.scores.size <= MAX_RUG:
            x = np.clip(group.scores, edges[0], edges[-1])
            ax.plot(x, np.full(x.size, -row), color=group.colour, **appearance)
    ax.set_ylim(0.6 - len(groups), 0.6)
    ax.set_yticks([])
