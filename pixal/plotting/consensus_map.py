"""Figure of the consensus mask: where the foreground masks of the photographs disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.drawing import Image, to_grey, to_rgb
from pixal.plotting.image_axes import Box, add_margin, dark_edges, draw_box, show_region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

Share = NDArray[np.float32]

WIDTH = 12.0  # inches
MAX_NAMED = 4  # photographs named in the title
MAX_DETAILS = 4  # regions shown enlarged
DETAIL_SIZE = 1 / 20  # of the part's longer side


def consensus_map(
    reference: Image,
    mask_share: Share,
    level: float,
    *,
    title: str,
    left_out: Sequence[tuple[str, float]] = (),
) -> Figure:
    """Draw where the foreground masks of a type disagree, over the reference in grey.

    The consensus mask is drawn as an outline. Below, or to the right of a tall part, are the regions where the masks
    disagree most.

    Args:
        reference: (H, W, 3) uint8 RGB.
        mask_share: (H, W), share of the masks that include each pixel, from 0 to 1.
        level: The consensus mask is where the share is above it.
        title: Title of the figure. Notes on ``left_out``, and on masks that all agree, are appended.
        left_out: Photographs whose mask was not used, and the IoU of their mask with the others.
    """
    part = add_margin(cv2.boundingRect((mask_share > 0).view(np.uint8)), mask_share.shape)
    details = _disputed_regions(mask_share, max(24, round(DETAIL_SIZE * max(part[2:]))))
    figure, main, detail_axes = _new_figure(part, len(details), title + _title_notes(details, left_out))
    image, colours = _colour_share(to_grey(to_rgb(reference)), mask_share)
    for ax, region in zip([main, *detail_axes], [part, *details], strict=True):
        show_region(ax, image, region)
        _draw_level(ax, mask_share, level, region)
    for letter, region, ax in zip("ABCD", details, detail_axes, strict=False):
        draw_box(main, region, style.VERMILLION, "_")
        corner = (region[0] + region[2], region[1])
        main.annotate(letter, corner, color="white", weight="bold", fontsize=style.LABEL_SIZE)
        ax.set_title(f"{letter}, enlarged", fontsize=style.LABEL_SIZE)
    style.label_pixel_axes(main)
    style.add_colour_bar(figure, colours, [main, *detail_axes], "share of the masks (0 to 1)")
    label = f"consensus mask: more than {level:g} of the masks"
    main.plot([], [], color="white", linewidth=1.0, label=label, path_effects=dark_edges())
    style.add_legend(figure, main)
    return figure


def _title_notes(details: list[Box], left_out: Sequence[tuple[str, float]]) -> str:
    """Notes for the title: whether all masks agree, and which masks were left out."""
    notes = "" if details else "; all masks agree on every pixel"
    if left_out:
        names = [f"{style.shorten(name)} (IoU\u00a0{overlap:.2f})" for name, overlap in left_out[:MAX_NAMED]]
        more = f" and {len(left_out) - MAX_NAMED} more" if len(left_out) > MAX_NAMED else ""
        notes += f"; masks left out: {', '.join(names)}{more}"
    return notes


def _colour_share(grey: Image, mask_share: Share) -> tuple[Image, ScalarMappable]:
    """A grey image (H, W) with the share in colour where it is neither 0 nor 1, and the mapping of its colours."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(0.0, 1.0), style.VALUE_MAP)
    image = to_rgb(grey // 2 + 40)
    is_disputed = (mask_share > 0) & (mask_share < 1)
    image[is_disputed] = colours.to_rgba(mask_share[is_disputed], bytes=True)[:, :3]
    return image, colours


def _draw_level(ax: Axes, mask_share: Share, level: float, region: Box) -> None:
    """Draw the line in a region where the share equals the level."""
    x, y, width, height = region
    share = mask_share[y : y + height, x : x + width]
    if (share > level).any() and not (share > level).all():  # else matplotlib warns that there is no contour
        grid = np.arange(x, x + width), np.arange(y, y + height)
        ax.contour(*grid, share, levels=[level], colors="white", linewidths=1.0).set_path_effects(dark_edges())


def _disputed_regions(mask_share: Share, side: int) -> list[Box]:
    """Up to four squares of ``side`` pixels where the masks disagree most, without overlap, in falling order."""
    height, width = mask_share.shape
    side = min(side, height, width)
    disagreement = cv2.boxFilter(np.minimum(mask_share, 1 - mask_share), -1, (side, side), normalize=False)
    regions: list[Box] = []
    while len(regions) < MAX_DETAILS and disagreement.max() > 0.5:  # less than half a pixel cannot be seen
        centre_y, centre_x = (int(i) for i in np.unravel_index(disagreement.argmax(), disagreement.shape))
        x = max(0, min(centre_x - side // 2, width - side))
        y = max(0, min(centre_y - side // 2, height - side))
        regions.append((x, y, side, side))
        disagreement[max(0, y - side) : y + 2 * side, max(0, x - side) : x + 2 * side] = 0
    return regions


def _new_figure(part: Box, details: int, title: str) -> tuple[Figure, Axes, list[Axes]]:
    """A figure with large axes for the part, and up to four small axes: below a wide part, else to the right."""
    is_wide = part[2] > 1.5 * part[3]
    main_height = min(5.0, 10.0 * part[3] / part[2])
    if not details:
        figure, axes = style.new_figure(size=(WIDTH, main_height + 1.6 if is_wide else 7.5), title=title)
        return figure, axes[0, 0], []
    if is_wide:
        size, ratios = (WIDTH, main_height + 2.3 + 1.9), (main_height, 2.3)
    else:
        size, ratios = (WIDTH, 7.5), (1.0, 1.0)
    figure, axes = style.new_figure(2, MAX_DETAILS, size=size, title=title, height_ratios=ratios)
    grid = axes[0, 0].get_gridspec()
    small = list(axes[1] if is_wide else axes[:, MAX_DETAILS // 2 :].flat)
    for ax in axes.flat:
        if ax not in small[:details]:
            ax.remove()
    main = figure.add_subplot(grid[0, :] if is_wide else grid[:, : MAX_DETAILS // 2])
    return figure, main, small[:details]
