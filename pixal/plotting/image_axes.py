"""Axes that show one region of a large image, with masks and boxes drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from matplotlib.patheffects import AbstractPathEffect

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # x, y, width, height in pixels

MARGIN = 0.05  # shown around a box, as a share of its longer side


def add_margin(box: Sequence[int], shape: Sequence[int]) -> Box:
    """Return a box (x, y, width, height) with a margin, cut at the edges of an image (H, W, ...)."""
    x, y, width, height = box
    margin = round(MARGIN * max(width, height))
    left, top = max(0, x - margin), max(0, y - margin)
    return left, top, min(shape[1], x + width + margin) - left, min(shape[0], y + height + margin) - top


def show_region(ax: Axes, image: NDArray[Any], region: Box, **imshow: Any) -> AxesImage:
    """Show a region of an image (H, W, ...). The axes count the pixels of the whole image.

    Args:
        ax: The axes to draw on.
        image: (H, W) or (H, W, 3).
        region: (x, y, width, height) in pixels.
        **imshow: Passed to ``Axes.imshow``.
    """
    x, y, width, height = region
    extent = (x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5)
    shown = ax.imshow(image[y : y + height, x : x + width], extent=extent, **imshow)
    ax.set_autoscale_on(False)
    return shown


def draw_box(ax: Axes, box: Box, colour: str, label: str) -> None:
    """Draw a rectangle around the pixels of a box; a pixel extends half a pixel from its centre."""
    x, y, width, height = box
    left, top, right, bottom = x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5
    ax.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1.6, label=label)


def box_label(box: Box) -> str:
    """Return the legend entry of a crop box."""
    return f"crop box: {box[2]} × {box[3]} pixels at ({box[0]}, {box[1]})"


def draw_outline(ax: Axes, mask: Mask, colour: str, label: str, *, dark_edge: bool = False) -> None:
    """Draw a line through the outermost pixels of a mask (H, W), its holes included.

    Args:
        ax: The axes to draw on.
        mask: (H, W).
        colour: Of the line.
        label: The legend entry.
        dark_edge: Add a dark edge, so that a white line is visible on any background.
    """
    gap = [[np.nan, np.nan]]
    lines = [np.concatenate([outline, outline[:1], gap]) for outline in _outlines(mask)]
    x, y = np.concatenate([np.zeros((0, 2)), *lines]).T
    ax.plot(x, y, color=colour, linewidth=1.2, label=label, path_effects=dark_edges() if dark_edge else None)


def hatch_mask(ax: Axes, mask: Mask, colour: str, label: str) -> None:
    """Hatch a mask (H, W), but not its holes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    rings = [Path(np.concatenate([ring, ring[:1]]), closed=True) for ring in _outlines(mask)]
    path = Path.make_compound_path(*rings)
    ax.add_patch(PathPatch(path, facecolor="none", edgecolor=colour, hatch="////", linewidth=1.2, label=label))


def dark_edges() -> list[AbstractPathEffect]:
    """Return the path effects of a line with a dark edge."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground="black")]


def _outlines(mask: Mask) -> list[NDArray[np.int32]]:
    """Outlines (n, 2) (x, y) of a mask (H, W); those of holes run in the opposite direction."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(outline[:, 0], np.int32) for outline in outlines]
