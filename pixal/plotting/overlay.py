"""The anomaly map over the photograph: one picture a part, by OpenCV alone."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.plotting import style
from pixal.plotting.drawing import (
    WHITE,
    Colour,
    Image,
    draw_text,
    fit_text,
    line_height,
    text_height,
    text_width,
)

Map = NDArray[np.float32]
Rect = tuple[int, int, int, int]
Region = tuple[float, float, float, float, str]

TINT: Colour = (255, 0, 0)
BOX: Colour = style.rgb(style.BLUE)
FULL_TINT_AT = 3.0  # times the threshold: where the tint grows no more, in every picture
WEAKEST, STRONGEST = 0.25, 0.70  # share of the tint at the threshold, and at FULL_TINT_AT
VEIL = 0.35  # of the photograph's light beneath caption and colour bar


def anomaly_overlay(
    photo: Image,
    anomaly_map: Map,
    *,
    threshold: float,
    regions: Sequence[Region] = (),
    caption: str = "",
    unit: str = "anomaly",
) -> Image:
    """Return the photograph with its anomalies marked, (H, W, 3) uint8 RGB, of the photograph's size.

    Pixels whose value is above the threshold are tinted as in `tinted`; pixels that are neither those nor under
    caption, boxes, labels or colour bar are left as they are. Caption and colour bar stand where they hide least of
    the anomalies, then of the part.

    :param photo: (H, W, 3) uint8 RGB; left as it is.
    :param anomaly_map: (H, W) float32 in the photograph's frame, NaN or 0 outside the part.
    :param threshold: in units of the map; where it is not finite, nothing is tinted.
    :param regions: (x, y, width, height, label) in pixels; labels are kept inside the frame.
    :param caption: one line, drawn on a band on top, or at the bottom; cut where it is too long.
    :param unit: what the map's values are, and their unit; the title of the colour bar.
    :raises InputError: the shapes do not fit.
    """
    picture = tinted(photo, anomaly_map, threshold=threshold)
    above = _above(anomaly_map, threshold)
    size = text_height(picture)
    boxes = [_clamped(region, picture.shape, margin=max(3, size // 4)) for region in regions]
    occupied = above.copy()
    for box in boxes:
        _draw_outline(picture, box, thickness=max(1, size // 10))
        _occupy(occupied, box)
    free = _draw_caption(picture, caption, size, occupied, anomaly_map)
    if np.isfinite(threshold) and threshold > 0:
        _draw_scale(picture, threshold, unit, size, free, occupied, anomaly_map)
    for box, region in zip(boxes, regions, strict=True):
        _draw_label(picture, box, str(region[4]), max(11, round(0.85 * size)), occupied, free[0])
    return picture


def tinted(photo: Image, anomaly_map: Map, *, threshold: float) -> Image:
    """Return the photograph with its anomalies tinted, and nothing drawn over it, (H, W, 3) uint8 RGB.

    Pixels whose value is above the threshold are tinted red, more so up to 3 thresholds, and edged. The arguments
    are those of `anomaly_overlay`.
    """
    if photo.shape != (*anomaly_map.shape, 3):
        raise InputError(
            f"anomaly overlay: a photograph {photo.shape} and a map {anomaly_map.shape} do not fit; "
            "give (H, W, 3) and (H, W)"
        )
    picture: Image = photo.copy()
    _tint(picture, anomaly_map, _above(anomaly_map, threshold), threshold)
    return picture


def place_label(box: Rect, size: tuple[int, int], occupied: Image, top: int = 0) -> tuple[int, int]:
    """Return the upper left corner (x, y) of a label for a box, inside the frame and no higher than `top`.

    `box` is (x, y, width, height) and `size` (width, height), in pixels, no larger than the frame; `occupied`
    (H, W) is not 0 where nothing may be hidden. The nearest place that hides nothing; else what hides least.
    """
    x, y, width, height = box
    w, h = size
    free = occupied.shape[1] - w, occupied.shape[0] - h
    places = [
        (max(0, min(px, free[0])), max(0, min(max(top, py), free[1])))
        for away in (0, h, 2 * h)
        for px, py in (
            (x, y - h - away),
            (x, y + height + away),
            (x + width - w, y - h - away),
            (x + width - w, y + height + away),
            (x + width + away, y),
            (x - w - away, y),
        )
    ]
    return min(places, key=lambda place: _hidden(occupied, (*place, w, h)))


def _above(anomaly_map: Map, threshold: float) -> Image:
    return np.multiply(anomaly_map > float(threshold), 255, dtype=np.uint8)  # NaN is above nothing


def _tint(picture: Image, values: Map, above: Image, threshold: float) -> None:
    """Tint the pixels above the threshold in place; only the rectangle that holds them is worked on."""
    x, y, width, height = cv2.boundingRect(above)
    if not width:
        return
    part = (slice(y, y + height), slice(x, x + width))
    inside = above[part]
    span = (FULL_TINT_AT - 1.0) * threshold if threshold > 0 else 1.0
    gain = 255.0 * (STRONGEST - WEAKEST) / span
    # an infinite value would turn into 0 on its way to uint8
    bounded = np.minimum(values[part], np.float32(threshold + span))
    tint = cv2.convertScaleAbs(bounded, alpha=gain, beta=255.0 * WEAKEST - gain * threshold)
    tint = cv2.bitwise_and(np.asarray(tint), inside)
    # the inner edge of the region: nothing beyond the tinted pixels is touched
    reach = 3 if max(picture.shape) < 1500 else 5
    core = cv2.erode(inside, np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    tint[(inside > 0) & (np.asarray(core) == 0)] = 255
    keep = cv2.bitwise_not(tint)
    under = cv2.multiply(picture[part], cv2.merge([keep] * 3), scale=1 / 255)
    over = cv2.merge([cv2.convertScaleAbs(tint, alpha=part_of_colour / 255) for part_of_colour in TINT])
    picture[part] = cv2.add(under, over)


def _draw_caption(picture: Image, caption: str, size: int, occupied: Image, values: Map) -> tuple[int, int]:
    """A band with the caption across the top or the bottom; the rows (first, end) that remain."""
    height, width = picture.shape[:2]
    band = line_height(size) + size // 2
    if not caption or band > height // 3:
        return 0, height
    rect = _clearest([(0, 0, width, band), (0, height - band, width, band)], occupied, values)
    _veil(picture, rect)
    text, size = fit_text(caption, size, width - size, weight=500)
    draw_text(picture, text, size // 2, rect[1] + (band - line_height(size)) // 2, size, weight=500)
    _occupy(occupied, rect)
    return (band, height) if rect[1] == 0 else (0, height - band)


def _draw_outline(picture: Image, box: Rect, *, thickness: int) -> None:
    """A box with white edges on both sides, to stand out on any ground."""
    x, y, width, height = box
    corners = (x, y), (x + width - 1, y + height - 1)
    cv2.rectangle(picture, *corners, WHITE, 3 * thickness, cv2.LINE_8)
    cv2.rectangle(picture, *corners, BOX, thickness, cv2.LINE_8)


def _draw_scale(
    picture: Image, threshold: float, unit: str, size: int, free: tuple[int, int], occupied: Image, values: Map
) -> None:
    """The colour bar, in the corner of the free rows in which it hides least; of equal ones, the lower right."""
    width = picture.shape[1]
    top, end = free
    small = max(10, round(0.8 * size))
    steps = [1.0, (1.0 + FULL_TINT_AT) / 2, FULL_TINT_AT]
    texts = [(f"{step:g}×", f"{step * threshold:.3g}") for step in steps]
    texts[0], texts[-1] = ("1× threshold", texts[0][1]), (f"≥ {FULL_TINT_AT:g}×", texts[-1][1])
    column = max(text_width(t, small) for t in (*texts[0], *texts[1], *texts[2])) + small // 2
    column = max(column, -(-text_width(unit, small) // 3) + small // 4)
    pad, bar = small // 2, max(4, small // 2)
    w, h = 3 * column + 2 * pad, 3 * line_height(small) + bar + 2 * pad
    if w > width or h > end - top:
        return
    corners = [(width - w, end - h), (0, end - h), (width - w, top), (0, top)]
    x, y, _, _ = rect = _clearest([(*corner, w, h) for corner in corners], occupied, values)
    _occupy(occupied, rect)
    _veil(picture, rect)
    draw_text(picture, unit, x + pad, y + pad // 2, small)
    y += line_height(small)
    strength = np.linspace(WEAKEST, STRONGEST, 3 * column - small // 2)[:, None]
    ramp = np.array([96.0, 96.0, 96.0]) * (1 - strength) + np.array(TINT) * strength
    picture[y + pad : y + pad + bar, x + pad : x + pad + len(ramp)] = np.rint(ramp).astype(np.uint8)
    for i, pair in enumerate(texts):
        for row, text in enumerate(pair):
            indent = (column - small // 2 - text_width(text, small)) * i // 2  # left, centred, right
            corner = x + pad + i * column + indent, y + pad + bar + row * line_height(small)
            draw_text(picture, text, *corner, small)


def _draw_label(picture: Image, box: Rect, label: str, size: int, occupied: Image, top: int) -> None:
    height = line_height(size)
    text, size = fit_text(label, size, picture.shape[1] - size)
    if not text or height > picture.shape[0]:
        return
    width = text_width(text, size) + size // 2
    x, y = place_label(box, (width, height), occupied, top)
    picture[y : y + height, x : x + width] = BOX
    draw_text(picture, text, x + size // 4, y + (height - line_height(size)) // 2, size)
    _occupy(occupied, (x, y, width, height))


def _clamped(region: Region, shape: Sequence[int], *, margin: int) -> Rect:
    """The region's box with a margin, so that the line covers nothing of it, cut at the frame."""
    x, y, width, height = region[:4]
    left, top = max(0, int(x) - margin), max(0, int(y) - margin)
    right = min(shape[1], int(np.ceil(x + width)) + margin)
    bottom = min(shape[0], int(np.ceil(y + height)) + margin)
    return min(left, shape[1] - 1), min(top, shape[0] - 1), max(1, right - left), max(1, bottom - top)


def _occupy(occupied: Image, rect: Rect) -> None:
    x, y, width, height = rect
    occupied[y : y + height, x : x + width] = 255


def _hidden(occupied: Image, rect: Rect) -> int:
    x, y, width, height = rect
    return cv2.countNonZero(occupied[y : y + height, x : x + width])


def _clearest(rects: Sequence[Rect], occupied: Image, values: Map) -> Rect:
    """The first rectangle of those that hide the least of what is taken, then of the part (the map above 0)."""

    def cost(rect: Rect) -> tuple[int, int]:
        x, y, width, height = rect
        return _hidden(occupied, rect), int(np.count_nonzero(values[y : y + height, x : x + width] > 0))

    return min(rects, key=cost)


def _veil(picture: Image, rect: Rect) -> None:
    x, y, width, height = rect
    ground = picture[y : y + height, x : x + width]
    ground[:] = cv2.convertScaleAbs(ground, alpha=VEIL)
