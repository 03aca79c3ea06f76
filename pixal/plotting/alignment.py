"""Images that show the alignment of one photograph.

They are written for every photograph, so OpenCV draws them: it is much faster than matplotlib.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.drawing import WHITE, Colour, Image, add_header, draw_text, shrink, text_height, to_grey, to_rgb

Points = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]

MAX_SIZE = (1920, 1080)  # width and height in pixels, without the header
MIN_VIEW = (640, 360)  # width and height in pixels; a smaller foreground is shown with more background
MARGIN = 0.06  # shown around the foreground, as a share of its longer side
MAX_INLIERS, MAX_OUTLIERS = 60, 30  # matches drawn
GAP = 12  # pixels between photograph and reference
FULL_COLOUR = 64  # difference in grey levels at which the colour of the overlay is strongest
BACKGROUND_BRIGHTNESS = 0.45
INLIER, OUTLIER = style.hex_to_rgb(style.SKY), style.hex_to_rgb(style.ORANGE)
BRIGHTER, DARKER = style.hex_to_rgb(style.ORANGE), style.hex_to_rgb(style.SKY)
PHOTO_OUTLINE = style.hex_to_rgb(style.YELLOW)
NEUTRAL: Colour = (170, 170, 170)


@dataclass(frozen=True)
class MatchedImage:
    """One of the two images of a match figure.

    Attributes:
        image: (H, W, 3) RGB or (H, W) grey, uint8.
        points: (N, 2), matched points (x, y) in pixels.
        mask: (H, W), True on the foreground. ``None``: the whole image is shown.
    """

    image: Image
    points: Points
    mask: Mask | None = None


def match_figure(
    photo: MatchedImage, reference: MatchedImage, is_inlier: Mask, *, title: str, warning: str = ""
) -> Image:
    """Draw photograph and reference in grey, with lines between matched points.

    Only the foreground and the matched points are shown, with a margin. The photograph is above the reference, or to
    the left of it if both are then larger. Inliers are circles and solid lines, outliers are crosses and dashed lines.
    At most 60 inliers and 30 outliers are drawn, spread over the part.

    Args:
        photo: The photograph and its N matched points.
        reference: The reference, of any size, and its N matched points.
        is_inlier: (N,), True where a match agrees with the pose.
        title: Drawn above the images.
        warning: Why the photograph is not aligned, drawn below the title. The whole photograph is then shown, with the
            outline of its mask, because a wrong mask may be the reason.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    inlier = np.asarray(is_inlier, dtype=bool)
    starts, ends = (np.asarray(each.points, np.float64).reshape(-1, 2) for each in (photo, reference))
    photo_view = _view(None if warning else photo.mask, photo.image.shape, starts)
    reference_view = _view(reference.mask, reference.image.shape, ends)
    is_stacked, scale = _arrangement(_view_shape(photo_view), _view_shape(reference_view))
    first = shrink(to_grey(photo.image[photo_view]), scale)
    second = shrink(to_grey(reference.image[reference_view]), scale)
    shift = np.array([0.0, first.shape[0] + GAP] if is_stacked else [first.shape[1] + GAP, 0.0])
    canvas = _join_images(first, second, shift)
    starts = _to_view(starts, photo_view, scale)
    ends = _to_view(ends, reference_view, scale) + shift
    inliers = _spread(np.flatnonzero(inlier), ends, MAX_INLIERS)
    outliers = _spread(np.flatnonzero(~inlier), ends, MAX_OUTLIERS)
    entries = [
        (_count_label("o", "inlier", int(inlier.sum()), len(inliers)), INLIER),
        (_count_label("x", "outlier", int((~inlier).sum()), len(outliers)), OUTLIER),
    ]
    if warning and photo.mask is not None:
        _draw_outline(canvas, _shrink_mask(photo.mask[photo_view], scale), PHOTO_OUTLINE)
        entries.append(("photograph's outline", PHOTO_OUTLINE))
    size = text_height(canvas)
    radius = max(4, size // 4)
    _draw_lines(canvas, np.stack([starts[inliers], ends[inliers]], axis=1), INLIER)
    _draw_lines(canvas, _dashes(starts[outliers], ends[outliers]), OUTLIER)
    _draw_lines(canvas, _crosses(np.concatenate([starts[outliers], ends[outliers]]), radius), OUTLIER)
    for x, y in _to_sixteenths(np.concatenate([starts[inliers], ends[inliers]])).tolist():
        cv2.circle(canvas, (x, y), radius << 4, INLIER, 1, cv2.LINE_AA, 4)
    for name, (x, y) in (("photograph", (0, 0)), ("reference", shift.astype(int).tolist())):
        _draw_name(canvas, name, x + size // 2, y + size // 2, size)
    return add_header(canvas, title, entries, warning=warning)


def alignment_overlay(
    reference: Image,
    aligned: Image,
    *,
    title: str,
    reference_mask: Mask | None = None,
    photo_mask: Mask | None = None,
    warning: str = "",
) -> Image:
    """Draw in colour where an aligned photograph differs from the reference.

    Orange: the photograph is brighter. Blue: it is darker. The colour is strongest at a difference of 64 of 255 grey
    levels. The photograph is first scaled to the brightness of the reference, by one factor.

    Args:
        reference: (H, W, 3) RGB or (H, W) grey, uint8.
        aligned: The photograph in the reference frame, of the same size.
        title: Drawn above the image.
        reference_mask: (H, W), foreground of the reference. It is shown with a margin of dimmed background.
        photo_mask: (H, W), foreground of the aligned photograph. The outlines of both masks are drawn.
        warning: Why the photograph is not aligned, drawn below the title.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    masks = [mask for mask in (reference_mask, photo_mask) if mask is not None]
    foreground = np.logical_or.reduce(masks) if masks else np.ones(reference.shape[:2], bool)
    view = shown_window(foreground)
    height, width = _view_shape(view)
    scale = min(1.0, MAX_SIZE[0] / width, MAX_SIZE[1] / height)
    base, photo = shrink(to_grey(reference[view]), scale), shrink(to_grey(aligned[view]), scale)
    inside = _shrink_mask(foreground[view], scale)
    gain = _brightness_ratio(base, photo, inside)
    canvas = _colour_difference(base, np.asarray(cv2.convertScaleAbs(photo, alpha=gain), np.uint8), inside)
    entries = [("photograph brighter", BRIGHTER), ("darker", DARKER), (f"brightness ×{gain:.2f}", NEUTRAL)]
    for mask, name, colour in (
        (photo_mask, "photograph's outline", PHOTO_OUTLINE),
        (reference_mask, "reference's outline", WHITE),
    ):
        if mask is not None:
            _draw_outline(canvas, _shrink_mask(mask[view], scale), colour)
            entries.append((name, colour))
    return add_header(canvas, title, entries, warning=warning)


def shown_window(foreground: Mask) -> Window:
    """Rows and columns that ``alignment_overlay`` shows, for the foreground (H, W) of all masks that it gets."""
    return _view(foreground, foreground.shape, np.zeros((0, 2)))


def _view(mask: Mask | None, shape: tuple[int, ...], points: Points) -> Window:
    """Rows and columns that show a mask and all points, with a margin; without a mask, the whole image.

    A view smaller than ``MIN_VIEW`` is extended to it, as far as the image allows.
    """
    height, width = shape[:2]
    if mask is None:
        return slice(0, height), slice(0, width)
    x, y, w, h = cv2.boundingRect(np.asarray(mask, dtype=np.uint8))
    corners = np.concatenate([[[x, y], [x + w, y + h]], points])
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    margin = MARGIN * max(right - left, bottom - top)
    rows = _extended_range(top - margin, bottom + margin, MIN_VIEW[1], height)
    return rows, _extended_range(left - margin, right + margin, MIN_VIEW[0], width)


def _extended_range(start: float, stop: float, min_length: int, limit: int) -> slice:
    """A range, cut to 0 to ``limit`` and extended on both sides to ``min_length`` where there is room."""
    first, last = max(0, int(start)), min(limit, int(np.ceil(stop)))
    if last - first < min_length:
        first = max(0, min((first + last - min_length) // 2, limit - min_length))
        last = min(limit, first + min_length)
    return slice(first, last)


def _view_shape(view: Window) -> tuple[int, int]:
    """Height and width of a view."""
    return view[0].stop - view[0].start, view[1].stop - view[1].start


def _arrangement(first: tuple[int, int], second: tuple[int, int]) -> tuple[bool, float]:
    """Whether two views (h, w) are larger one above the other than side by side, and the scale that then fits."""
    max_width, max_height = MAX_SIZE
    side_by_side = min(1.0, (max_width - GAP) / (first[1] + second[1]), max_height / max(first[0], second[0]))
    stacked = min(1.0, max_width / max(first[1], second[1]), (max_height - GAP) / (first[0] + second[0]))
    return stacked > side_by_side, max(stacked, side_by_side)


def _join_images(first: Image, second: Image, shift: Points) -> Image:
    """Two grey images on a dark background, (h, w, 3); the second one is moved by ``shift`` (x, y)."""
    x, y = int(shift[0]), int(shift[1])
    height, width = max(first.shape[0], y + second.shape[0]), max(first.shape[1], x + second.shape[1])
    canvas = np.full((height, width), 24, np.uint8)
    canvas[: first.shape[0], : first.shape[1]] = first
    canvas[y : y + second.shape[0], x : x + second.shape[1]] = second
    return to_rgb(canvas)


def _to_view(points: Points, view: Window, scale: float) -> NDArray[np.float64]:
    """Points (N, 2) of an image in pixels of its scaled view; the centre of a pixel stays a centre."""
    return np.asarray((points - (view[1].start, view[0].start) + 0.5) * scale - 0.5)


def _spread(rows: NDArray[np.intp], points: Points, limit: int) -> NDArray[np.intp]:
    """At most ``limit`` of the row indices; each next point is the one farthest from those already chosen."""
    if len(rows) <= limit:
        return rows
    positions = points[rows] @ (1, 1j)
    chosen, distance = [0], np.abs(positions - positions[0])
    while len(chosen) < limit:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(positions - positions[chosen[-1]]))
    return rows[chosen]


def _draw_name(canvas: Image, name: str, x: int, y: int, size: int) -> None:
    """Draw a name in place, white with a dark edge, readable on any background."""
    for right, down in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        draw_text(canvas, name, x + right, y + down, size, colour=(0, 0, 0), weight=600)
    draw_text(canvas, name, x, y, size, weight=600)


def _draw_lines(canvas: Image, lines: Points, colour: Colour) -> None:
    """Draw thin lines (N, 2 ends, 2) in place."""
    cv2.polylines(canvas, list(_to_sixteenths(lines)), False, colour, 1, cv2.LINE_AA, 4)


def _dashes(starts: Points, ends: Points) -> NDArray[np.float64]:
    """Lines from ``starts`` (N, 2) to ``ends`` as dashes (M, 2 ends, 2); dashes and gaps are about 8 pixels long."""
    dashes = []
    for start, end in zip(starts, ends, strict=True):
        count = max(1, int(np.hypot(*(end - start)) / 16))
        shares = (np.arange(2 * count).reshape(count, 2) / (2 * count - 1))[..., None]
        dashes.append(start + shares * (end - start))
    return np.concatenate(dashes) if dashes else np.zeros((0, 2, 2))


def _crosses(points: Points, radius: int) -> NDArray[np.float64]:
    """A cross on each point (N, 2), as lines (2 N, 2 ends, 2)."""
    strokes = radius * np.array([[[-1.0, -1.0], [1.0, 1.0]], [[-1.0, 1.0], [1.0, -1.0]]])
    return np.asarray((points[:, None, None] + strokes).reshape(-1, 2, 2))


def _to_sixteenths(points: Points) -> NDArray[np.int32]:
    """Coordinates in sixteenths of a pixel, as OpenCV expects them with ``shift=4``."""
    return np.rint(points * 16).astype(np.int32)


def _count_label(marker: str, name: str, count: int, drawn: int) -> str:
    return f"{marker} {count} {name}{'' if count == 1 else 's'}{f', {drawn} drawn' if drawn < count else ''}"


def _brightness_ratio(base: Image, photo: Image, inside: Image) -> float:
    """The factor that scales ``photo`` to the brightness of ``base``: the median ratio of their pixels in the mask.

    The median does not change with a stain or a missing component. Every fourth row and column is enough.
    """
    base, photo, inside = (plane[::4, ::4] for plane in (base, photo, inside))
    valid = (inside > 0) & (photo > 0)
    if not valid.any():
        return 1.0
    return float(np.median(base[valid] / photo[valid].astype(np.float32))) or 1.0


def _colour_difference(base: Image, photo: Image, inside: Image) -> Image:
    """A grey image (h, w) with less contrast, tinted where ``photo`` differs and dimmed outside the mask; (h, w, 3)."""
    brighter, darker = (
        cv2.bitwise_and(cv2.convertScaleAbs(cv2.subtract(*pair), alpha=255 / FULL_COLOUR), inside)
        for pair in ((photo, base), (base, photo))
    )
    grey = cv2.convertScaleAbs(base, alpha=0.55, beta=30)
    grey = cv2.copyTo(grey, inside, cv2.convertScaleAbs(grey, alpha=BACKGROUND_BRIGHTNESS))
    rest = cv2.multiply(grey, cv2.bitwise_not(cv2.max(brighter, darker)), scale=1 / 255)
    planes = [
        cv2.add(rest, cv2.addWeighted(brighter, up / 255, darker, down / 255, 0))
        for up, down in zip(BRIGHTER, DARKER, strict=True)
    ]
    return np.asarray(cv2.merge(planes), dtype=np.uint8)


def _shrink_mask(mask: Mask, scale: float) -> Image:
    """A mask (H, W) at ``scale``, 0 or 255."""
    small = shrink(np.asarray(mask, dtype=np.uint8) * np.uint8(255), scale)
    return np.asarray(cv2.threshold(small, 127, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _draw_outline(canvas: Image, mask: Image, colour: Colour) -> None:
    """Draw the outline of a mask (h, w) in place."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, colour, 1)
