"""Figures of preprocessing, one per image type: which pixels are compared, and what the network sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.drawing import Image, to_rgb
from pixal.plotting.image_axes import Box, Mask, add_margin, box_label, draw_box, draw_outline, hatch_mask, show_region

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_WIDTH, MAX_HEIGHT = 12.0, 9.0  # inches: 1440 x 1080 pixels


def stacked_intensity(
    mean_image: NDArray[Any], crop_box: Box, *, title: str, consensus_mask: Mask | None = None
) -> Figure:
    """Draw the mean of all aligned photographs around the crop box. It is sharp if they are aligned well.

    Args:
        mean_image: (H, W), grey levels from 0 to 1. The colours span the 0.5th to 99.5th percentile of the box.
        crop_box: (x, y, width, height) in pixels.
        title: Title of the figure.
        consensus_mask: (H, W), drawn as an outline.
    """
    region = add_margin(crop_box, mean_image.shape)
    location = style.colour_bar_location(region[2:][::-1])
    figure, axes = style.new_figure(size=_region_figure_size(region, bar_location=location), title=title, images=True)
    ax = axes[0, 0]
    x, y, width, height = crop_box
    low, high = np.percentile(mean_image[y : y + height, x : x + width], (0.5, 99.5))
    limits = {"vmin": low, "vmax": high if high > low else low + 1.0}
    shown = show_region(ax, mean_image, region, cmap=style.VALUE_MAP, **limits)
    if consensus_mask is not None:
        draw_outline(ax, consensus_mask, "white", "mask", dark_edge=True)
    draw_box(ax, crop_box, style.VERMILLION, box_label(crop_box))
    style.label_pixel_axes(ax)
    style.add_colour_bar(figure, shown, ax, "mean grey level (0 to 1)", location=location, extend="both", aspect=40.0)
    style.add_legend(figure, ax)
    return figure


def crop_preview(
    reference: Image,
    consensus_mask: Mask,
    crop_box: Box,
    *,
    ignore_mask: Mask | None = None,
    title: str,
    mask_name: str = "consensus mask",
) -> Figure:
    """Draw which pixels are compared: the whole reference, and the crop box enlarged. All other pixels are dimmed.

    Args:
        reference: (H, W, 3) uint8 RGB.
        consensus_mask: (H, W), True on the part.
        crop_box: (x, y, width, height) in pixels.
        ignore_mask: (H, W), True where no pixel is compared.
        title: Title of the figure.
        mask_name: Legend entry of ``consensus_mask``.
    """
    inside = np.asarray(consensus_mask, dtype=bool)
    ignored = np.zeros_like(inside) if ignore_mask is None else np.asarray(ignore_mask, dtype=bool)
    image = to_rgb(reference)
    image = np.where((inside & ~ignored)[..., None], image, image // 3)
    whole, crop = (0, 0, image.shape[1], image.shape[0]), add_margin(crop_box, image.shape)
    if crop[2] > crop[3]:  # a wide crop box is shown below the whole reference, a tall one to the right of it
        heights = 3.2, min(4.4, 11.0 * crop[3] / crop[2])
        figure, axes = style.new_figure(2, 1, size=(MAX_WIDTH, sum(heights) + 2.0), title=title, height_ratios=heights)
    else:
        figure, axes = style.new_figure(1, 2, size=(MAX_WIDTH, 7.0), title=title)
    for ax, region, name in zip(axes.flat, (whole, crop), ("whole reference", "crop box, enlarged"), strict=True):
        show_region(ax, image, region)
        draw_outline(ax, inside, style.SKY, f"{mask_name}: {inside.sum():,} pixels")
        if ignored.any():
            count = cv2.connectedComponents(ignored.view(np.uint8))[0] - 1
            regions = f"{count} region{'' if count == 1 else 's'}"
            hatch_mask(ax, ignored, style.ORANGE, f"ignored: {regions}, {ignored.sum():,} pixels")
        draw_box(ax, crop_box, style.VERMILLION, box_label(crop_box))
        style.label_pixel_axes(ax, panel=name)
    style.add_legend(figure, axes.flat[1])
    return figure


def channel_sheet(channels: NDArray[Any], names: Sequence[str], *, title: str, mask: Mask | None = None) -> Figure:
    """Draw each channel of an image in a panel of its own.

    Most channels use only a part of the range from 0 to 1. The colours of each panel therefore span its own 0.5th to
    99.5th percentile, which its title gives.

    Args:
        channels: (H, W, C), values from 0 to 1.
        names: C names.
        title: Title of the figure.
        mask: (H, W); the panels are blank outside it.
    """
    height, width, count = channels.shape
    inside = np.ones((height, width), bool) if mask is None else np.asarray(mask, dtype=bool)
    rows, cols, scale = _grid_layout(count, height, width)
    figure, axes = style.new_figure(
        rows,
        cols,
        size=(cols * (scale * width + 0.3) + 1.9, rows * (scale * height + 0.4) + 1.0),
        title=title,
        sharex=True,
        sharey=True,
        images=True,
    )
    shown = None
    for i, ax in enumerate(axes.flat):
        if i >= count:
            ax.set_axis_off()
            continue
        values = channels[..., i]
        low, high = np.percentile(values[inside], (0.5, 99.5)) if inside.any() else (0.0, 1.0)
        scaled = np.ma.masked_where(~inside, (values - low) / (high - low or 1.0))
        shown = ax.imshow(scaled, cmap=style.VALUE_MAP, vmin=0.0, vmax=1.0)
        is_last_row = i // cols == rows - 1
        panel = f"{names[i]}: {low:.2g} to {high:.2g}"
        style.label_axes(ax, "x (pixels)" if is_last_row else "", "y (pixels)" if i % cols == 0 else "", panel=panel)
        ax.tick_params(labelsize=7, labelbottom=is_last_row)
    if shown is not None:
        bar = style.add_colour_bar(
            figure, shown, axes, "channel value, in the range above each panel", aspect=30.0, extend="both"
        )
        bar.set_ticks([0.0, 1.0], labels=["lowest", "highest"])
    return figure


def _region_figure_size(region: Box, *, bar_location: str) -> tuple[float, float]:
    """Size in inches of a figure that shows one region, with title, legend and colour bar."""
    extra_width, extra_height = (0.9, 2.2) if bar_location == "bottom" else (2.0, 1.5)
    scale = min((MAX_WIDTH - extra_width) / region[2], (MAX_HEIGHT - extra_height) / region[3])
    return max(6.0, scale * region[2] + extra_width), max(3.0, scale * region[3] + extra_height)


def _grid_layout(count: int, height: int, width: int) -> tuple[int, int, float]:
    """Rows and columns that show ``count`` images (height, width) as large as possible, and inches per pixel."""
    best = (1, 1, 0.0)
    for max_cols in range(1, count + 1):
        rows = -(-count // max_cols)
        cols = -(-count // rows)  # no empty column
        scale = min(((MAX_WIDTH - 1.9) / cols - 0.3) / width, ((MAX_HEIGHT - 1.0) / rows - 0.4) / height)
        if scale > best[2]:
            best = rows, cols, scale
    return best
