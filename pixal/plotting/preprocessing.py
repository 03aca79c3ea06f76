"""Pictures of preprocessing. Those of each photograph are drawn by OpenCV alone, for speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.drawing import as_grey, as_rgb, shrunk, with_header

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Image = NDArray[np.uint8]
Points = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

PICTURE_WIDTH = 1920
INLIERS_DRAWN, OUTLIERS_DRAWN = 120, 40
LINE_STRENGTH = 0.5  # the part is to be seen through its lines
NAMED_TICKS = 30


def match_picture(
    photo: Image,
    reference: Image,
    photo_points: Points,
    reference_points: Points,
    inliers: Mask,
    *,
    title: str,
) -> Image:
    """Return photograph and reference side by side with lines between matched points, (h, w, 3) uint8 RGB.

    `photo` and `reference` are (H, W, 3) RGB or (H, W) grey, uint8, of any two sizes; the points (N, 2) are
    (x, y) in pixels of each; `inliers` is (N,). At most 1920 pixels wide. At most 120 inliers and 40 outliers
    are drawn, evenly spread from left to right of the reference; the strip on top counts them all.
    """
    left, right = as_rgb(photo), as_rgb(reference)
    gap = 8
    scale = min(1.0, (PICTURE_WIDTH - gap) / (left.shape[1] + right.shape[1]))
    left, right = shrunk(left, scale), shrunk(right, scale)
    canvas = np.full((max(left.shape[0], right.shape[0]), left.shape[1] + gap + right.shape[1], 3), 24, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], left.shape[1] + gap :] = right
    offset = np.array([left.shape[1] + gap, 0.0])
    starts = _fixed_point(np.asarray(photo_points).reshape(-1, 2) * scale)
    ends = _fixed_point(np.asarray(reference_points).reshape(-1, 2) * scale + offset)
    kept = np.asarray(inliers, dtype=bool)
    drawn = [
        (i, colour)
        for chosen, limit, colour in (
            (~kept, OUTLIERS_DRAWN, style.rgb(style.ORANGE)),
            (kept, INLIERS_DRAWN, style.rgb(style.SKY)),
        )
        for i in _spread_out(np.flatnonzero(chosen), ends, limit)
    ]
    bare = canvas.copy()
    for i, colour in drawn:
        cv2.line(canvas, starts[i], ends[i], colour, 1, cv2.LINE_AA, 4)
    cv2.addWeighted(canvas, LINE_STRENGTH, bare, 1 - LINE_STRENGTH, 0, dst=canvas)
    for i, colour in drawn:
        cv2.circle(canvas, starts[i], 3 << 4, colour, 1, cv2.LINE_AA, 4)
        cv2.circle(canvas, ends[i], 3 << 4, colour, 1, cv2.LINE_AA, 4)
    return with_header(
        canvas,
        title,
        [
            (f"{int(kept.sum())} inliers", style.rgb(style.SKY)),
            (f"{int((~kept).sum())} outliers", style.rgb(style.ORANGE)),
        ],
    )


def alignment_overlay(reference: Image, aligned: Image, *, mask: Mask | None = None, title: str) -> Image:
    """Return the reference in green over the aligned photograph in magenta, (h, w, 3) uint8 RGB.

    Both are (H, W, 3) RGB or (H, W) grey, uint8, of one size. Where they agree the picture is grey. `mask`
    (H, W) is True on the part; what lies outside it is dimmed.
    """
    base, moved = as_grey(reference), as_grey(aligned)
    if mask is not None:
        outside = np.asarray(mask, dtype=bool).astype(np.uint8)
        base, moved = (np.where(outside, plane, plane // 4) for plane in (base, moved))
    picture = np.asarray(cv2.merge([moved, base, moved]), dtype=np.uint8)
    return with_header(picture, title, [("reference", (90, 255, 90)), ("aligned", (255, 110, 255))])


def alignment_metrics(
    images: Sequence[str],
    inliers: NDArray[Any],
    ssim: NDArray[Any],
    mse: NDArray[Any],
    ok: Mask,
    *,
    min_inliers: float,
    min_ssim: float,
    max_mse: float,
    title: str,
) -> Figure:
    """Draw inliers, SSIM and mean squared error of each image, with the limits and the rejected images.

    All arrays are (N,), in the order of `images`; a metric that an image does not have is NaN. `ok` is False
    for a rejected image: it is marked through all three panels.
    """
    count = len(images)
    figure, axes = style.new_figure(3, 1, size=(min(12.0, max(6.5, 4 + 0.2 * count)), 7.5), title=title, sharex=True)
    accepted, index = np.asarray(ok, dtype=bool), np.arange(count)
    for ax, values, name, limit, word in (
        (axes[0, 0], inliers, "inliers (count)", min_inliers, "at least"),
        (axes[1, 0], ssim, "SSIM", min_ssim, "at least"),
        (axes[2, 0], mse, "mean squared error", max_mse, "at most"),
    ):
        series = np.asarray(values, dtype=np.float64)
        ax.vlines(
            index[~accepted],
            0,
            1,
            transform=ax.get_xaxis_transform(),
            color=style.REJECTED,
            alpha=0.25,
            linewidth=min(8.0, max(1.0, 400 / max(count, 1))),
        )
        for chosen, colour, marker, label in (
            (accepted, style.GOOD, "o", f"aligned ({int(accepted.sum())})"),
            (~accepted, style.REJECTED, "X", f"rejected ({int((~accepted).sum())})"),
        ):
            drawn = chosen & np.isfinite(series)
            ax.plot(
                index[drawn],
                series[drawn],
                linestyle="",
                marker=marker,
                color=colour,
                label=label,
                markersize=5 if count <= 80 else 3,
            )
        ax.axhline(limit, color=style.THRESHOLD, linestyle="--", linewidth=1.2, label="limit")
        style.label_axes(ax, "", name, panel=f"limit: {word} {limit:g}")
        style.add_grid(ax, "y")
        ax.margins(y=0.12)
    _name_images(axes[2, 0], images)
    figure.align_ylabels(axes[:, 0])
    style.add_legend(figure, axes[0, 0])
    return figure


def stacked_intensity(mean_image: NDArray[Any], crop_box: Box, *, title: str) -> Figure:
    """Draw the mean of all aligned images, (H, W) in [0, 1], and the crop box (x, y, w, h), in pixels."""
    figure, axes = style.new_figure(size=style.image_size(mean_image.shape, bar=True), title=title, images=True)
    ax = axes[0, 0]
    shown = ax.imshow(mean_image, cmap=style.VALUE_MAP, vmin=0.0, vmax=1.0)
    _draw_box(ax, crop_box, style.VERMILLION, _box_label(crop_box))
    style.pixel_axes(ax)
    style.add_colour_bar(figure, shown, ax, "mean intensity (0 to 1)", location=style.bar_place(mean_image.shape))
    style.add_legend(figure, ax)
    return figure


def crop_preview(
    reference: Image, consensus: Mask, crop_box: Box, *, ignored: Mask | None = None, title: str
) -> Figure:
    """Draw what is compared: the consensus mask and the crop box over the reference, all else dimmed.

    `reference` is (H, W, 3) uint8 RGB; `consensus` and `ignored` are (H, W), True on the part and on what is
    left out of it; `crop_box` is (x, y, width, height) in pixels.
    """
    figure, axes = style.new_figure(size=style.image_size(reference.shape), title=title, images=True)
    ax = axes[0, 0]
    inside = np.asarray(consensus, dtype=bool)
    picture = np.where(inside[..., None], as_rgb(reference), as_rgb(reference) // 3)
    if ignored is not None and np.any(ignored):
        veil = np.array(style.rgb(style.ORANGE), dtype=np.uint16)
        chosen = np.asarray(ignored, dtype=bool)
        picture[chosen] = ((picture[chosen].astype(np.uint16) + veil) // 2).astype(np.uint8)
        ax.fill([], [], color=style.ORANGE, alpha=0.6, label="ignored")
    ax.imshow(picture)
    label = f"consensus mask ({inside.sum():,} pixels)"
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        closed = np.concatenate([outline[:, 0], outline[:1, 0]])
        ax.plot(closed[:, 0], closed[:, 1], color=style.SKY, linewidth=1.4, label=label)
        label = "_more of it"
    _draw_box(ax, crop_box, style.VERMILLION, _box_label(crop_box))
    style.pixel_axes(ax)
    style.add_legend(figure, ax)
    return figure


def channel_sheet(channels: NDArray[Any], names: Sequence[str], *, title: str) -> Figure:
    """Draw each channel of an image, (H, W, C) in [0, 1], as a small multiple; one colour bar serves all."""
    height, width, count = channels.shape
    cols = min(count, 4 if width <= 2.5 * height else 3)
    rows = -(-count // cols)
    each = 2.8 if count > 1 else 6.0
    figure, axes = style.new_figure(
        rows,
        cols,
        size=(each * cols + 1.2, rows * (min(each * height / width, 5.0) + 0.4) + 1.3),
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
        shown = ax.imshow(channels[..., i], cmap=style.VALUE_MAP, vmin=0.0, vmax=1.0)
        last_of_column = i + cols >= count
        style.label_axes(
            ax, "x (pixels)" if last_of_column else "", "y (pixels)" if i % cols == 0 else "", panel=names[i]
        )
        ax.tick_params(labelsize=7, labelbottom=last_of_column)
    if shown is not None:
        style.add_colour_bar(
            figure,
            shown,
            axes,
            "channel value (0 to 1)",
            location=style.bar_place((rows * height, cols * width)),
            aspect=max(30.0, 10.0 * rows),
        )
    return figure


def _fixed_point(points: Points) -> list[tuple[int, int]]:
    """Sixteenths of a pixel, as OpenCV draws with `shift=4`."""
    return [(int(x), int(y)) for x, y in np.rint(points * 16)]


def _spread_out(chosen: NDArray[np.intp], points: list[tuple[int, int]], limit: int) -> list[int]:
    """At most `limit` of the chosen indices, evenly from the leftmost point to the rightmost."""
    ordered = sorted((int(i) for i in chosen), key=lambda i: points[i])
    if len(ordered) <= limit:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, limit).round().astype(int)]


def _name_images(ax: Axes, images: Sequence[str]) -> None:
    """Name the images on the x axis, only so many of them as can be read."""
    step = max(1, -(-len(images) // NAMED_TICKS))
    shown = range(0, len(images), step)
    ax.set_xticks(
        list(shown),
        [style.plain(style.shorten(images[i])) for i in shown],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        fontsize=7.5,
    )
    ax.set_xlim(-0.7, max(len(images), 1) - 0.3)
    ax.set_xlabel("image" if step == 1 else f"image (one in {step} is named)", fontsize=style.LABEL_SIZE)


def _draw_box(ax: Axes, box: Box, colour: str, label: str) -> None:
    """A rectangle around the box's pixels: pixel (x, y) reaches half a pixel each way."""
    x, y, width, height = box
    left, top, right, bottom = x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5
    ax.plot(
        [left, right, right, left, left],
        [top, top, bottom, bottom, top],
        color=colour,
        linewidth=1.6,
        label=label,
    )


def _box_label(box: Box) -> str:
    return f"crop box {box[2]} × {box[3]} pixels at ({box[0]}, {box[1]})"
