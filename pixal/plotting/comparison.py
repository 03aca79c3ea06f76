"""Draw which of several models finds more planted defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pixal.plotting import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABEL_CHARACTERS = 40


@dataclass(frozen=True)
class PlottedCandidate:
    """A model of a comparison.

    Attributes:
        name: Its name.
        by_kind: The fraction of the defects that it finds, by kind.
        rate: The fraction of all defects that it finds.
        difference: Its difference from the first model.
        interval: The interval of this difference; None for the first model.
    """

    name: str
    by_kind: Mapping[str, float]
    rate: float
    difference: float
    interval: tuple[float, float] | None


def comparison_figure(candidates: Sequence[PlottedCandidate], *, title: str) -> Figure:
    """Return a figure of the fraction found by kind of defect, and of the differences from the first model.

    Args:
        candidates: The models; the first is the one that the others are compared with.
        title: The title.
    """
    kinds = list(candidates[0].by_kind)
    size = (8.5, 2.2 + 0.34 * len(kinds) + 0.34 * len(candidates))
    ratios = [len(kinds) + 2, len(candidates) + 1]
    figure, axes = style.new_figure(2, 1, size=size, title=title, height_ratios=ratios)
    by_kind, differences = axes[:, 0]
    names = [style.shorten(candidate.name, _LABEL_CHARACTERS) for candidate in candidates]
    rows = np.arange(len(kinds) + 1)
    handles = []
    for number, (candidate, (colour, _)) in enumerate(zip(candidates, style.line_styles(len(candidates)), strict=True)):
        shift = 0.5 * (number / max(1, len(candidates) - 1) - 0.5)
        values = [*candidate.by_kind.values(), candidate.rate]
        handles += by_kind.plot(values, rows + shift, "o", color=colour, markersize=5)
        low, high = candidate.interval or (0.0, 0.0)
        differences.plot([low, high], [number, number], "-", color=colour, linewidth=2)
        differences.plot([candidate.difference], [number], "o", color=colour, markersize=5)
    by_kind.set_yticks(rows, [*(kind.replace("_", " ") for kind in kinds), "all kinds"])
    by_kind.axhline(len(kinds) - 0.5, color=style.GREY, linewidth=0.8)
    by_kind.set_xlim(-0.03, 1.03)
    differences.set_yticks(range(len(names)), names)
    differences.axvline(0, color=style.GREY, linewidth=0.8, linestyle=":")
    differences.set_ylim(-0.5, len(names) - 0.5)
    for ax in (by_kind, differences):
        ax.invert_yaxis()
        style.add_grid(ax)
    style.label_axes(by_kind, "fraction found", "")
    style.label_axes(differences, f"difference from {names[0]}, with its interval (all kinds)", "")
    style.add_shared_legend(figure, handles, names, columns=3)
    return figure
