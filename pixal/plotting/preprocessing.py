"""Figures of preprocessing, one a type: what is compared, and what the network sees of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.drawing import as_grey, as_rgb

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]

WIDTH, HEIGHT = 12.0, 9.0  # inches, at most: 1440 x 1080 pixels
MARGIN = 0.05  # of a box's longer side, shown around it
WITHOUT_VOTE = 4  # photographs that are named
DETAILS = 4  # places of the consensus map that are shown enlarged
DETAIL = 1 / 20  # of the part's longer side


def stacked_intensity(mean_image: NDArray[Any], crop_box: Box, *, title: str, consensus: Mask | None = None) -> Figure:
    """Draw the mean of all aligned photographs, (H, W) in [0, 1], at the crop box (x, y, w, h), in pixels.

    Where the photographs are aligned well, it is sharp. `consensus` (H, W) is outlined. The colours span the
    box's 0.5th to its 99.5th percentile.
    """
    view = _around(crop_box, mean_image.shape)
    location = style.bar_place(view[2:][::-1])
    figure, axes = style.new_figure(size=_size(view, bar=location), title=title, images=True)
    ax = axes[0, 0]
    x, y, width, height = crop_box
    low, high = np.percentile(mean_image[y : y + height, x : x + width], (0.5, 99.5))
    shown = _show(ax, mean_image, view, cmap=style.VALUE_MAP, vmin=low, vmax=high if high > low else low + 1.0)
    if consensus is not None:
        _draw_outline(ax, consensus, "white", "mask", path_effects=_dark_edge())
    _draw_box(ax, crop_box, style.VERMILLION, _box_label(crop_box))
    style.pixel_axes(ax)
    style.add_colour_bar(figure, shown, ax, "mean grey level (0 to 1)", location=location, extend="both", aspect=40.0)
    style.add_legend(figure, ax)
    return figure


def crop_preview(
    reference: Image,
    consensus: Mask,
    crop_box: Box,
    *,
    ignored: Mask | None = None,
    title: str,
    mask_name: str = "consensus mask",
) -> Figure:
    """Draw what is compared: the consensus mask and the crop box over the reference, all else dimmed.

    The whole reference, and the crop box enlarged. `reference` is (H, W, 3) uint8 RGB; `consensus` and `ignored` are
    (H, W), True on the part and on what never counts; `crop_box` is (x, y, width, height) in pixels.
    """
    inside = np.asarray(consensus, dtype=bool)
    left_out = np.zeros_like(inside) if ignored is None else np.asarray(ignored, dtype=bool)
    picture = as_rgb(reference)
    picture = np.where((inside & ~left_out)[..., None], picture, picture // 3)
    whole, close = (0, 0, picture.shape[1], picture.shape[0]), _around(crop_box, picture.shape)
    if close[2] > close[3]:  # a wide part is shown below the whole, a tall one beside it
        heights = 3.2, min(4.4, 11.0 * close[3] / close[2])
        figure, axes = style.new_figure(2, 1, size=(WIDTH, sum(heights) + 2.0), title=title, height_ratios=heights)
    else:
        figure, axes = style.new_figure(1, 2, size=(WIDTH, 7.0), title=title)
    for ax, view, name in zip(axes.flat, (whole, close), ("the reference", "the crop box"), strict=True):
        _show(ax, picture, view)
        _draw_outline(ax, inside, style.SKY, f"{mask_name}: {inside.sum():,} pixels")
        if left_out.any():
            count = cv2.connectedComponents(left_out.view(np.uint8))[0] - 1
            regions = f"{count} region{'' if count == 1 else 's'}"
            _hatch(ax, left_out, style.ORANGE, f"ignored: {regions}, {left_out.sum():,} pixels")
        _draw_box(ax, crop_box, style.VERMILLION, _box_label(crop_box))
        style.pixel_axes(ax, panel=name)
    style.add_legend(figure, axes.flat[1])
    return figure


def consensus_map(
    reference: Image,
    share: NDArray[np.float32],
    level: float,
    *,
    title: str,
    left_out: Sequence[tuple[str, float]] = (),
) -> Figure:
    """Draw where the masks of a type's photographs disagree, over the grey reference, with the consensus outlined.

    `share` (H, W) is the share of the masks that hold each pixel; the consensus mask is where it is above `level`.
    `left_out`: the photographs whose masks have no vote, and their IoU with the others'. Below, the places where the
    masks disagree most.
    """
    part = _around(cv2.boundingRect((share > 0).view(np.uint8)), share.shape)
    places = _disputed(share, max(24, round(DETAIL * max(part[2:]))))
    without = ", ".join(f"{style.shorten(name)} (IoU\u00a0{overlap:.2f})" for name, overlap in left_out[:WITHOUT_VOTE])
    more = f" and {len(left_out) - WITHOUT_VOTE} more" if len(left_out) > WITHOUT_VOTE else ""
    title += "" if places else "; all agree on every pixel"
    title += f"; without a vote: {without}{more}" if left_out else ""
    figure, main, details = _one_large(part, len(places), title)
    picture, shown = _coloured_share(as_grey(as_rgb(reference)), share)
    for ax, view in zip([main, *details], [part, *places], strict=True):
        _show(ax, picture, view)
        _draw_level(ax, share, level, view)
    for letter, place, ax in zip("ABCD", places, details, strict=False):
        _draw_box(main, place, style.VERMILLION, "_")
        main.annotate(letter, (place[0] + place[2], place[1]), color="white", weight="bold", fontsize=style.LABEL_SIZE)
        ax.set_title(f"{letter}, enlarged", fontsize=style.LABEL_SIZE)
    style.pixel_axes(main)
    style.add_colour_bar(figure, shown, [main, *details], "share of the masks (0 to 1)")
    label = f"consensus mask: more than {level:g} of the masks"
    main.plot([], [], color="white", linewidth=1.0, label=label, path_effects=_dark_edge())
    style.add_legend(figure, main)
    return figure


def channel_sheet(channels: NDArray[Any], names: Sequence[str], *, title: str, mask: Mask | None = None) -> Figure:
    """Draw each channel of an image, (H, W, C) in [0, 1], as a small multiple; outside `mask` (H, W) it is blank.

    Each is drawn from its 0.5th to its 99.5th percentile, which its title names: in most only a part of 0 to 1 occurs.
    """
    height, width, count = channels.shape
    inside = np.ones((height, width), bool) if mask is None else np.asarray(mask, dtype=bool)
    rows, cols, scale = _balanced(count, height, width)
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
        unit = np.ma.masked_where(~inside, (values - low) / (high - low or 1.0))
        shown = ax.imshow(unit, cmap=style.VALUE_MAP, vmin=0.0, vmax=1.0)
        lowest = i // cols == rows - 1
        panel = f"{names[i]}: {low:.2g} to {high:.2g}"
        style.label_axes(ax, "x (pixels)" if lowest else "", "y (pixels)" if i % cols == 0 else "", panel=panel)
        ax.tick_params(labelsize=7, labelbottom=lowest)
    if shown is not None:
        bar = style.add_colour_bar(figure, shown, axes, "channel value", aspect=30.0, extend="both")
        bar.set_ticks([0.0, 1.0], labels=["lowest", "highest"])
    return figure


def _draw_box(ax: Axes, box: Box, colour: str, label: str) -> None:
    """A rectangle around the box's pixels: pixel (x, y) reaches half a pixel each way."""
    x, y, width, height = box
    left, top, right, bottom = x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5
    ax.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color=colour, linewidth=1.6, label=label)


def _box_label(box: Box) -> str:
    return f"crop box: {box[2]} × {box[3]} pixels at ({box[0]}, {box[1]})"


def _draw_outline(ax: Axes, mask: Mask, colour: str, label: str, **look: Any) -> None:
    """The outermost pixels of a mask (H, W), joined by one line for all its pieces and holes."""
    broken = [np.concatenate([outline, outline[:1], [[np.nan, np.nan]]]) for outline in _outlines(mask)]
    x, y = np.concatenate([np.zeros((0, 2)), *broken]).T
    ax.plot(x, y, color=colour, linewidth=1.2, label=label, **look)


def _dark_edge() -> list[Any]:
    """With it, white is seen on any ground."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground="black")]


def _hatch(ax: Axes, mask: Mask, colour: str, label: str) -> None:
    """Hatch a mask (H, W), its holes left out."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    rings = [Path(np.concatenate([ring, ring[:1]]), closed=True) for ring in _outlines(mask)]
    outline = Path.make_compound_path(*rings)
    ax.add_patch(PathPatch(outline, facecolor="none", edgecolor=colour, hatch="////", linewidth=1.2, label=label))


def _outlines(mask: Mask) -> list[NDArray[np.int32]]:
    """The outlines (n, 2) (x, y) of the pieces of a mask (H, W), and of their holes the other way round."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.asarray(outline[:, 0], np.int32) for outline in found]


def _coloured_share(grey: Image, share: NDArray[np.float32]) -> tuple[Image, ScalarMappable]:
    """A grey image (H, W), flattened, with the share in colour where it is neither 0 nor 1; what its colours mean."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    meaning = ScalarMappable(Normalize(0.0, 1.0), style.VALUE_MAP)
    picture = as_rgb(grey // 2 + 40)
    disputed = (share > 0) & (share < 1)
    picture[disputed] = meaning.to_rgba(share[disputed], bytes=True)[:, :3]
    return picture, meaning


def _draw_level(ax: Axes, share: NDArray[np.float32], level: float, view: Box) -> None:
    """The line in a view on one side of which the share is above the level."""
    x, y, width, height = view
    seen = share[y : y + height, x : x + width]
    if (seen > level).any() and not (seen > level).all():  # else matplotlib warns that there is no contour
        grid = np.arange(x, x + width), np.arange(y, y + height)
        ax.contour(*grid, seen, levels=[level], colors="white", linewidths=1.0).set_path_effects(_dark_edge())


def _disputed(share: NDArray[np.float32], side: int) -> list[Box]:
    """Up to four squares of `side` pixels where the masks disagree most, apart from each other, the worst first."""
    height, width = share.shape
    side = min(side, height, width)
    doubt = cv2.boxFilter(np.minimum(share, 1 - share), -1, (side, side), normalize=False)
    places: list[Box] = []
    while len(places) < DETAILS and doubt.max() > 0.5:  # less than half a pixel in doubt is nothing to see
        middle_y, middle_x = (int(i) for i in np.unravel_index(doubt.argmax(), doubt.shape))
        x, y = (max(0, min(m - side // 2, n - side)) for m, n in ((middle_x, width), (middle_y, height)))
        places.append((x, y, side, side))
        doubt[max(0, y - side) : y + 2 * side, max(0, x - side) : x + 2 * side] = 0
    return places


def _one_large(view: Box, others: int, title: str) -> tuple[Figure, Axes, list[Axes]]:
    """A figure with large axes for a view, and up to four small ones: below it, where it is wide, else beside it."""
    wide = view[2] > 1.5 * view[3]
    upper = min(5.0, 10.0 * view[3] / view[2])
    if not others:
        figure, axes = style.new_figure(size=(WIDTH, upper + 1.6 if wide else 7.5), title=title)
        return figure, axes[0, 0], []
    if wide:
        size, ratios = (WIDTH, upper + 2.3 + 1.9), (upper, 2.3)
    else:
        size, ratios = (WIDTH, 7.5), (1.0, 1.0)
    figure, axes = style.new_figure(2, DETAILS, size=size, title=title, height_ratios=ratios)
    grid = axes[0, 0].get_gridspec()
    small = list(axes[1] if wide else axes[:, DETAILS // 2 :].flat)
    for ax in axes.flat:
        if ax not in small[:others]:
            ax.remove()
    return figure, figure.add_subplot(grid[0, :] if wide else grid[:, : DETAILS // 2]), small[:others]


def _around(box: Sequence[int], shape: Sequence[int]) -> Box:
    """A box (x, y, width, height) with a margin, within an image (H, W, ...)."""
    x, y, width, height = box
    margin = round(MARGIN * max(width, height))
    left, top = max(0, x - margin), max(0, y - margin)
    return left, top, min(shape[1], x + width + margin) - left, min(shape[0], y + height + margin) - top


def _show(ax: Axes, picture: NDArray[Any], view: Box, **look: Any) -> AxesImage:
    """Show a view of a picture (H, W, ...), with the picture's pixels along the axes."""
    x, y, width, height = view
    place = (x - 0.5, x + width - 0.5, y + height - 0.5, y - 0.5)
    shown = ax.imshow(picture[y : y + height, x : x + width], extent=place, **look)
    ax.set_autoscale_on(False)
    return shown


def _size(view: Box, *, bar: str) -> tuple[float, float]:
    """The size in inches of a figure that one view fills, with a colour bar at `bar`, title and legend."""
    beside, below = (0.9, 2.2) if bar == "bottom" else (2.0, 1.5)
    scale = min((WIDTH - beside) / view[2], (HEIGHT - below) / view[3])
    return max(6.0, scale * view[2] + beside), max(3.0, scale * view[3] + below)


def _balanced(count: int, height: int, width: int) -> tuple[int, int, float]:
    """Rows and columns for `count` images (height, width), none of them empty, and the scale at which all are largest.

    The scale is in inches a pixel.
    """
    best = (1, 1, 0.0)
    for wanted in range(1, count + 1):
        rows = -(-count // wanted)
        cols = -(-count // rows)
        scale = min(((WIDTH - 1.9) / cols - 0.3) / width, ((HEIGHT - 1.0) / rows - 0.4) / height)
        if scale > best[2]:
            best = rows, cols, scale
    return best
