"""Figure of the latent space: how the parts of a batch compare with the good parts of the training."""

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
    is_failed: NDArray[np.bool_],
    *,
    row_labels: Mapping[int, str] | None = None,
    title: str,
) -> Figure:
    """Draw the latents of the parts and of the training parts, projected on two principal components.

    The components are those of the training parts. With fewer than three of them, those of all parts.

    Args:
        training_latents: (N, L), of the good parts of the training.
        latents: (M, L), of the parts of the batch.
        is_failed: (M,), True where the verdict is fail.
        row_labels: Rows of ``latents`` that get a number in the figure, and their text in the legend.
        title: Title of the figure.
    """
    figure, axes = style.new_figure(size=(7.0, 6.0), title=title)
    ax: Axes = axes[0, 0]
    is_plane_of_good = len(training_latents) > 2
    fitted = training_latents if is_plane_of_good else np.concatenate([training_latents, latents])
    centre, directions, shares = _principal_components(fitted)
    groups: tuple[tuple[Array, str, dict[str, Any]], ...] = (
        (training_latents, "good training parts", {"facecolors": "none", "edgecolors": style.TRAINING}),
        (latents[~is_failed], "parts that pass", {"marker": "+", "color": style.GOOD}),
        (latents[is_failed], "parts that fail", {"marker": "x", "color": style.DEFECTIVE}),
    )
    for values, label, appearance in groups:
        if len(values):
            x, y = ((values - centre) @ directions.T).T
            ax.scatter(x, y, s=42, linewidths=1.3, label=f"{label} ({len(values)})", **appearance)
    rows = row_labels or {}
    for number, text in enumerate(rows.values(), 1):
        ax.plot([], [], linestyle="", label=f"{number}: {style.shorten(text, 40)}")
    positions = (latents[list(rows)] - centre) @ directions.T
    for position, text in _number_texts(positions, np.asarray(ax.dataLim.size)):
        ax.annotate(text, position, (5, 4), textcoords="offset points", fontsize=style.TICK_SIZE, weight="bold")
    owner = "good parts'" if is_plane_of_good else "parts'"
    names = (f"latent component {i + 1} ({share:.0%} of the {owner} variance)" for i, share in enumerate(shares))
    style.label_axes(ax, *names)
    ax.margins(0.08)
    style.add_grid(ax)
    style.add_legend(figure, ax, columns=2)
    return figure


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


def _principal_components(points: Array) -> tuple[Array, Array, Array]:
    """Mean (L,) of points (N, L), two principal directions (2, L), and their shares of the variance (2,).

    With fewer than two directions, the missing ones are zero.
    """
    centre = points.mean(0) if len(points) else np.zeros(points.shape[1])
    _, singular_values, vectors = np.linalg.svd(points - centre, full_matrices=False)
    directions, shares = np.zeros((2, points.shape[1])), np.zeros(2)
    count = min(2, len(singular_values))
    directions[:count] = vectors[:count]
    # The sign of a direction is arbitrary. Its largest entry is made positive, so that figures can be compared.
    directions *= np.where(directions[[0, 1], np.abs(directions).argmax(1)] < 0, -1, 1)[:, None]
    shares[:count] = singular_values[:count] ** 2 / max(float(np.sum(singular_values**2)), 1e-30)
    return centre, directions, shares
