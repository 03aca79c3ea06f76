"""Pictures of one photograph's alignment, made for each photograph: drawn by OpenCV alone, for speed."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.drawing import WHITE, Colour, as_grey, as_rgb, draw_text, shrunk, text_height, with_header

Image = NDArray[np.uint8]
Points = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Window = tuple[slice, slice]

PICTURE_SIZE = (1920, 1080)  # width and height that a picture below its header does not exceed
SMALLEST = (640, 360)  # a small part is shown with more of what surrounds it
MARGIN = 0.06  # of the part's longer side, shown around it
INLIERS_DRAWN, OUTLIERS_DRAWN = 60, 30
GAP = 12  # pixels between the two photographs of a match picture
FULL_COLOUR = 64  # grey levels of difference from which on the overlay's colour grows no more
DIMMED = 0.45  # of the light, outside the part
INLIER, OUTLIER = style.rgb(style.SKY), style.rgb(style.ORANGE)
BRIGHTER, DARKER, PHOTO_OUTLINE = style.rgb(style.ORANGE), style.rgb(style.SKY), style.rgb(style.YELLOW)
NEUTRAL: Colour = (170, 170, 170)


def match_picture(
    photo: Image,
    reference: Image,
    photo_points: Points,
    reference_points: Points,
    inliers: Mask,
    *,
    title: str,
    photo_part: Mask | None = None,
    reference_part: Mask | None = None,
    warning: str = "",
) -> Image:
    """Return the parts on photograph and reference, in grey, with lines between matched points, (h, w, 3) uint8 RGB.

    The photograph is above the reference, or left of it where that shows the parts larger. Inliers are circles and
    solid lines, outliers crosses and dashed ones; at most 60 and 30, spread over the part, are drawn.

    :param photo: (H, W, 3) RGB or (H, W) grey, uint8; `reference` the same, of any size.
    :param photo_points: (N, 2) (x, y) in pixels of the photograph; `reference_points` (N, 2) of the reference.
    :param inliers: (N,), True where a match agrees with the pose.
    :param photo_part: (H, W), True on the photograph's part, which with the points decides what is shown;
        `reference_part` the same for the reference. Without them, all of the image is shown.
    :param warning: why the photograph is not aligned, shown below the title; all of the photograph is then shown, with
        the outline of `photo_part`, which may be at fault.
    """
    starts, ends = (np.asarray(points, np.float64).reshape(-1, 2) for points in (photo_points, reference_points))
    views = [
        _view(None if warning else photo_part, photo.shape, starts),
        _view(reference_part, reference.shape, ends),
    ]
    shapes = [(view[0].stop - view[0].start, view[1].stop - view[1].start) for view in views]
    stacked, scale = _arrangement(*shapes)
    upper, lower = (shrunk(as_grey(image[view]), scale) for image, view in zip((photo, reference), views, strict=True))
    shift = np.array([0.0, upper.shape[0] + GAP] if stacked else [upper.shape[1] + GAP, 0.0])
    canvas = _on_one_canvas(upper, lower, shift)
    starts, ends = _moved(starts, views[0], scale), _moved(ends, views[1], scale) + shift
    kept = np.asarray(inliers, dtype=bool)
    good, bad = _spread(np.flatnonzero(kept), ends, INLIERS_DRAWN), _spread(np.flatnonzero(~kept), ends, OUTLIERS_DRAWN)
    if warning and photo_part is not None:
        _draw_outline(canvas, _shrunk_mask(photo_part[views[0]], scale), PHOTO_OUTLINE)
    size = text_height(canvas)
    radius = max(4, size // 4)
    _draw_segments(canvas, np.stack([starts[good], ends[good]], axis=1), INLIER)
    _draw_segments(canvas, _dashes(starts[bad], ends[bad]), OUTLIER)
    _draw_segments(canvas, _crosses(np.concatenate([starts[bad], ends[bad]]), radius), OUTLIER)
    for x, y in _fixed_point(np.concatenate([starts[good], ends[good]])).tolist():
        cv2.circle(canvas, (x, y), radius << 4, INLIER, 1, cv2.LINE_AA, 4)
    for name, (x, y) in (("photograph", (0, 0)), ("reference", shift.astype(int).tolist())):
        _draw_name(canvas, name, x + size // 2, y + size // 2, size)
    entries = [
        (_counted("o", "inlier", int(kept.sum()), len(good)), INLIER),
        (_counted("x", "outlier", int((~kept).sum()), len(bad)), OUTLIER),
    ]
    if warning and photo_part is not None:
        entries.append(("photograph's outline", PHOTO_OUTLINE))
    return with_header(canvas, title, entries, warning=warning)


def alignment_overlay(
    reference: Image,
    aligned: Image,
    *,
    mask: Mask | None = None,
    title: str,
    photo_part: Mask | None = None,
    warning: str = "",
) -> Image:
    """Return where an aligned photograph differs from the reference, in colour over its grey, (h, w, 3) uint8 RGB.

    Orange: the photograph is brighter; blue: it is darker; full colour at 64 of 255 grey levels. The photograph is
    brought to the reference's light before, by one factor.

    :param reference: (H, W, 3) RGB or (H, W) grey, uint8; `aligned` the same, of the same size.
    :param mask: (H, W), True on the reference's part: it and its surroundings are shown, the latter dimmed.
    :param photo_part: (H, W), True on the aligned photograph's part; both outlines are drawn.
    :param warning: why the photograph is not aligned, shown below the title.
    """
    parts = [part for part in (mask, photo_part) if part is not None]
    looked_at = np.logical_or.reduce(parts) if parts else np.ones(reference.shape[:2], bool)
    view = _view(looked_at, reference.shape, np.zeros((0, 2)))
    height, width = view[0].stop - view[0].start, view[1].stop - view[1].start
    scale = min(1.0, PICTURE_SIZE[0] / width, PICTURE_SIZE[1] / height)
    base, moved = shrunk(as_grey(reference[view]), scale), shrunk(as_grey(aligned[view]), scale)
    inside = _shrunk_mask(looked_at[view], scale)
    gain = _gain(base, moved, inside)
    picture = _coloured_difference(base, np.asarray(cv2.convertScaleAbs(moved, alpha=gain), np.uint8), inside)
    entries = [("photograph brighter", BRIGHTER), ("darker", DARKER), (f"light ×{gain:.2f}", NEUTRAL)]
    for part, name, colour in (
        (photo_part, "photograph's outline", PHOTO_OUTLINE),
        (mask, "reference's outline", WHITE),
    ):
        if part is not None:
            _draw_outline(picture, _shrunk_mask(part[view], scale), colour)
            entries.append((name, colour))
    return with_header(picture, title, entries, warning=warning)


def _view(part: Mask | None, shape: tuple[int, ...], points: Points) -> Window:
    """The rows and columns of an image that show its part and all points, with a margin; without a part, all of them.

    A view smaller than `SMALLEST` grows to that, as far as the image goes.
    """
    height, width = shape[:2]
    if part is None:
        return slice(0, height), slice(0, width)
    x, y, w, h = cv2.boundingRect(np.asarray(part, dtype=np.uint8))
    corners = np.concatenate([[[x, y], [x + w, y + h]], points])
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    margin = MARGIN * max(right - left, bottom - top)
    rows = _grown(top - margin, bottom + margin, SMALLEST[1], height)
    return rows, _grown(left - margin, right + margin, SMALLEST[0], width)


def _grown(start: float, stop: float, least: int, limit: int) -> slice:
    """A range, cut to 0 to `limit`, and where that leaves room grown to both sides until it is `least` long."""
    first, last = max(0, int(start)), min(limit, int(np.ceil(stop)))
    if last - first < least:
        first = max(0, min((first + last - least) // 2, limit - least))
        last = min(limit, first + least)
    return slice(first, last)


def _arrangement(one: tuple[int, int], other: tuple[int, int]) -> tuple[bool, float]:
    """Whether two views (h, w) are larger one above the other than side by side, and the scale that then fits."""
    beside = min(1.0, (PICTURE_SIZE[0] - GAP) / (one[1] + other[1]), PICTURE_SIZE[1] / max(one[0], other[0]))
    above = min(1.0, PICTURE_SIZE[0] / max(one[1], other[1]), (PICTURE_SIZE[1] - GAP) / (one[0] + other[0]))
    return above > beside, max(above, beside)


def _on_one_canvas(first: Image, second: Image, shift: Points) -> Image:
    """Two grey images on a dark ground, (h, w, 3): the second one moved by `shift` (x, y)."""
    x, y = int(shift[0]), int(shift[1])
    height, width = max(first.shape[0], y + second.shape[0]), max(first.shape[1], x + second.shape[1])
    canvas = np.full((height, width), 24, np.uint8)
    canvas[: first.shape[0], : first.shape[1]] = first
    canvas[y : y + second.shape[0], x : x + second.shape[1]] = second
    return as_rgb(canvas)


def _moved(points: Points, view: Window, scale: float) -> NDArray[np.float64]:
    """Points (N, 2) of an image as pixels of its view at `scale`; a pixel's centre stays one."""
    return np.asarray((points - (view[1].start, view[0].start) + 0.5) * scale - 0.5)


def _spread(chosen: NDArray[np.intp], points: Points, limit: int) -> NDArray[np.intp]:
    """At most `limit` of the chosen indices: each the one whose point is farthest from those before it."""
    if len(chosen) <= limit:
        return chosen
    places = points[chosen] @ (1, 1j)
    kept, away = [0], np.abs(places - places[0])
    while len(kept) < limit:
        kept.append(int(away.argmax()))
        away = np.minimum(away, np.abs(places - places[kept[-1]]))
    return chosen[kept]


def _draw_name(canvas: Image, name: str, x: int, y: int, size: int) -> None:
    """Draw a name in white with a dark edge, which stands out on any ground."""
    for right, down in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        draw_text(canvas, name, x + right, y + down, size, colour=(0, 0, 0), weight=600)
    draw_text(canvas, name, x, y, size, weight=600)


def _draw_segments(canvas: Image, segments: Points, colour: Colour) -> None:
    """Draw thin lines (N, 2 ends, 2) in place."""
    cv2.polylines(canvas, list(_fixed_point(segments)), False, colour, 1, cv2.LINE_AA, 4)


def _dashes(starts: Points, ends: Points) -> NDArray[np.float64]:
    """Lines from `starts` (N, 2) to `ends` as dashes, (M, 2 ends, 2), of 8 pixels with as much between them."""
    pieces = []
    for start, end in zip(starts, ends, strict=True):
        count = max(1, int(np.hypot(*(end - start)) / 16))
        at = (np.arange(2 * count).reshape(count, 2) / (2 * count - 1))[..., None]
        pieces.append(start + at * (end - start))
    return np.concatenate(pieces) if pieces else np.zeros((0, 2, 2))


def _crosses(points: Points, radius: int) -> NDArray[np.float64]:
    """The two strokes of a cross on each point (N, 2), as lines (2 N, 2 ends, 2)."""
    strokes = radius * np.array([[[-1.0, -1.0], [1.0, 1.0]], [[-1.0, 1.0], [1.0, -1.0]]])
    return np.asarray((points[:, None, None] + strokes).reshape(-1, 2, 2))


def _fixed_point(points: Points) -> NDArray[np.int32]:
    """Sixteenths of a pixel, as OpenCV draws with `shift=4`."""
    return np.rint(points * 16).astype(np.int32)


def _counted(marker: str, what: str, count: int, drawn: int) -> str:
    return f"{marker} {count} {what}{'' if count == 1 else 's'}{f', {drawn} drawn' if drawn < count else ''}"


def _gain(base: Image, moved: Image, inside: Image) -> float:
    """The factor that brings one grey image to the light of another: the median over a mask of their ratios.

    A piece that is missing, or a stain, does not shift it. Every fourth pixel of every fourth row is enough.
    """
    theirs, ours, part = (plane[::4, ::4] for plane in (base, moved, inside))
    chosen = (part > 0) & (ours > 0)
    if not chosen.any():
        return 1.0
    return float(np.median(theirs[chosen] / ours[chosen].astype(np.float32))) or 1.0


def _coloured_difference(base: Image, moved: Image, inside: Image) -> Image:
    """A grey image (h, w), flattened, tinted where another one is brighter or darker; dimmed outside; (h, w, 3)."""
    tints = [
        cv2.bitwise_and(cv2.convertScaleAbs(cv2.subtract(*pair), alpha=255 / FULL_COLOUR), inside)
        for pair in ((moved, base), (base, moved))
    ]
    ground = cv2.convertScaleAbs(base, alpha=0.55, beta=30)
    ground = cv2.copyTo(ground, inside, cv2.convertScaleAbs(ground, alpha=DIMMED))
    left = cv2.multiply(ground, cv2.bitwise_not(cv2.max(*tints)), scale=1 / 255)
    planes = [
        cv2.add(left, cv2.addWeighted(tints[0], up / 255, tints[1], down / 255, 0))
        for up, down in zip(BRIGHTER, DARKER, strict=True)
    ]
    return np.asarray(cv2.merge(planes), dtype=np.uint8)


def _shrunk_mask(part: Mask, scale: float) -> Image:
    """A mask (H, W) at `scale`, 0 or 255."""
    small = shrunk(np.asarray(part, dtype=np.uint8) * np.uint8(255), scale)
    return np.asarray(cv2.threshold(small, 127, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _draw_outline(picture: Image, part: Image, colour: Colour) -> None:
    """Draw the outline of a mask (h, w) in place."""
    outlines, _ = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, 1)
