"""Figure of the latent space: how far the parts of a batch are from the good parts, against their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[Any]

MIN_DISTANCE = 0.04  # of the width and height of the data; numbers closer than this share one text


def latent_space(
    training_latents: Array,
    latents: Array,
    scores: Array,
    is_failed: NDArray[np.bool_],
    *,
    threshold: float,
    row_labels: Mapping[int, str] | None = None,
    title: str,
) -> Figure:
    """Draw the score of each part against the distance of its latent vector from those of the good parts.

    The verdict depends on the score, which is that of the reconstruction's errors. Parts that fail are always above the
    threshold; those at the right also have an unusual latent vector. A projection of the vectors on two axes would
    show defects among good parts where something else tells them apart.

    Args:
        training_latents: (N, L), of the good parts of the training; marks at the bottom show their distances, each
            measured from the other good parts.
        latents: (M, L), of the parts of the batch.
        scores: (M,), their scores, finite.
        is_failed: (M,), True where the verdict is fail.
        threshold: A part fails above this score; not drawn if it is not finite.
        row_labels: Rows of ``latents`` that get a number in the figure, and their text in the legend.
        title: Title of the figure.
    """
    figure, axes = style.new_figure(size=(7.0, 6.0), title=title)
    ax: Axes = axes[0, 0]
    good, distances = latent_distances(training_latents, latents)
    points = np.column_stack([distances, scores])
    for chosen, label, marker, color in (
        (~is_failed, "parts that pass", "+", style.GOOD),
        (is_failed, "parts that fail", "x", style.DEFECTIVE),
    ):
        if chosen.any():
            x, y = points[chosen].T
            ax.scatter(x, y, s=42, linewidths=1.3, marker=marker, color=color, label=f"{label} ({chosen.sum()})")
    if len(good):
        label = f"good training parts, distance only ({len(good)})"
        heights, in_axes = np.full(len(good), 0.02), ax.get_xaxis_transform()
        ax.plot(good, heights, "|", markersize=12, color=style.TRAINING, transform=in_axes, label=label)
    if np.isfinite(threshold):
        ax.axhline(threshold, color=style.THRESHOLD, linestyle="--", linewidth=1.4, label=f"threshold {threshold:.4g}")
    rows = row_labels or {}
    for number, text in enumerate(rows.values(), 1):
        ax.plot([], [], linestyle="", label=f"{number}: {style.shorten(text, 40)}")
    size = np.ptp(points, axis=0) if len(points) else np.ones(2)
    for position, text in _number_texts(points[list(rows)], size):
        ax.annotate(text, position, (5, 4), textcoords="offset points", fontsize=style.TICK_SIZE, weight="bold")
    style.label_axes(
        ax, "distance of the latent vector from good parts (typical good part: 1)", "anomaly score of the part"
    )
    ax.margins(0.08)
    style.add_grid(ax)
    style.add_legend(figure, ax, columns=2)
    return figure


def latent_distances(training_latents: Array, latents: Array) -> tuple[Array, Array]:
    """Distances of latent vectors from their nearest good neighbour, in units of the median among the good parts.

    Each component is divided by its standard deviation over the good parts first.

    Args:
        training_latents: (N, L), of good parts.
        latents: (M, L).

    Returns:
        The distance of each good part from the nearest other one, (N,), or (0,) if there are fewer than 2; and the
        distances of ``latents``, (M,), all 0 without good parts.
    """
    if not len(training_latents):
        return np.zeros(0), np.zeros(len(latents))
    good = np.asarray(training_latents, np.float64)
    scale = good.std(0)
    scale = np.where(scale > 1e-9 * max(1.0, np.abs(good).max()), scale, scale.max() or 1.0)
    good, others = good / scale, np.asarray(latents, np.float64) / scale
    nearest = _distances(others, good).min(1)
    if len(good) < 2:
        return np.zeros(0), nearest
    apart = _distances(good, good)
    np.fill_diagonal(apart, np.inf)
    among = apart.min(1)
    unit = float(np.median(among)) or 1.0
    return among / unit, nearest / unit


def _distances(points: Array, others: Array) -> Array:
    """The Euclidean distances of points (n, L) from other points (m, L), (n, m)."""
    return np.array([np.linalg.norm(others - point, axis=1) for point in points]).reshape(len(points), len(others))


def _number_texts(positions: Array, data_size: Array) -> list[tuple[tuple[float, float], str]]:
    """Numbers from 1 for positions (K, 2), each with the position of its text.

    Positions close to each other share one text, for example "2, 4".

    Args:
        positions: (K, 2).
        data_size: (2,), width and height of all data in the figure.
    """
    min_distance = MIN_DISTANCE * np.maximum(data_size, 1e-30)
    groups: list[tuple[Array, list[str]]] = []
    for number, position in enumerate(positions, 1):
        for group_position, numbers in groups:
            if (np.abs(position - group_position) < min_distance).all():
                numbers.append(str(number))
                break
        else:
            groups.append((position, [str(number)]))
    return [((float(x), float(y)), ", ".join(numbers)) for (x, y), numbers in groups]
