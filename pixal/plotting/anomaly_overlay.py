"""The photograph with its anomalies marked. OpenCV draws it, because one image is written per part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
Box = tuple[int, int, int, int]

TINT: Colour = (255, 0, 0)
BOX: Colour = style.hex_to_rgb(style.BLUE)
FULL_TINT = 3.0  # times the threshold; above it the tint does not grow
MIN_TINT, MAX_TINT = 0.25, 0.70  # share of the tint at the threshold, and at ``FULL_TINT``
BAND_BRIGHTNESS = 0.35  # of the photograph under caption and colour bar


@dataclass(frozen=True)
class LabelledBox:
    """A rectangle to draw on a photograph, with its label.

    Attributes:
        x: Left edge, in pixels of the photograph.
        y: Upper edge, in pixels.
        width: In pixels.
        height: In pixels.
        label: Drawn next to the box, inside the photograph; empty for none.
    """

    x: float
    y: float
    width: float
    height: float
    label: str = ""


def anomaly_overlay(
    photo: Image,
    anomaly_map: Map,
    *,
    threshold: float,
    boxes: Sequence[LabelledBox] = (),
    caption: str = "",
    map_label: str = "anomaly",
) -> Image:
    """Draw the anomalies of a part on its photograph.

    Pixels above the threshold are tinted as in ``tint_anomalies``. All other pixels stay as they are, except under
    caption, boxes, labels and colour bar. Caption and colour bar are placed where they hide the fewest anomalies, and
    then the fewest pixels of the part.

    Args:
        photo: (H, W, 3) uint8 RGB, not changed.
        anomaly_map: (H, W) float32 in the frame of the photograph, NaN or 0 outside the part.
        threshold: In units of the map. Nothing is tinted if it is not finite.
        boxes: Regions to mark.
        caption: One line, on a dark band at the top or the bottom. Cut if it is too long.
        map_label: Title of the colour bar: name and unit of the values.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: Photograph and map differ in height or width.
    """
    canvas = tint_anomalies(photo, anomaly_map, threshold=threshold)
    size = text_height(canvas)
    rectangles = [_clip_box(box, canvas.shape, margin=max(3, size // 4)) for box in boxes]
    occupied = _is_above(anomaly_map, threshold)
    for rectangle in rectangles:
        _draw_box(canvas, rectangle, thickness=max(1, size // 10))
        _fill(occupied, rectangle)
    first_row, end_row = _draw_caption(canvas, caption, size, occupied, anomaly_map)
    if np.isfinite(threshold) and threshold > 0:
        _draw_colour_bar(canvas, threshold, map_label, size, (first_row, end_row), occupied, anomaly_map)
    for rectangle, box in zip(rectangles, boxes, strict=True):
        _draw_label(canvas, rectangle, box.label, max(11, round(0.85 * size)), occupied, first_row)
    return canvas


def tint_anomalies(photo: Image, anomaly_map: Map, *, threshold: float) -> Image:
    """Tint the pixels above the threshold red, and draw nothing else.

    The tint grows up to 3 times the threshold. The edge of each region is drawn in full red.

    Args:
        photo: (H, W, 3) uint8 RGB, not changed.
        anomaly_map: (H, W) float32 in the frame of the photograph, NaN or 0 outside the part.
        threshold: In units of the map. Nothing is tinted if it is not finite.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: Photograph and map differ in height or width.
    """
    if photo.shape != (*anomaly_map.shape, 3):
        raise InputError(
            f"anomaly overlay: the photograph has shape {photo.shape} and the map {anomaly_map.shape}; "
            "use (H, W, 3) and (H, W) of the same size"
        )
    canvas: Image = photo.copy()
    _tint(canvas, anomaly_map, _is_above(anomaly_map, threshold), threshold)
    return canvas


def place_label(box: Box, size: tuple[int, int], occupied: Image, top: int = 0) -> tuple[int, int]:
    """Find a place for the label of a box: the nearest one that hides no occupied pixel, else the one that hides least.

    Args:
        box: (x, y, width, height) in pixels.
        size: (width, height) of the label in pixels, at most the size of the image.
        occupied: (H, W) uint8, not 0 where nothing should be hidden.
        top: First row that the label may use.

    Returns:
        The upper left corner (x, y) of the label, which is inside the image.
    """
    x, y, width, height = box
    w, h = size
    last_x, last_y = occupied.shape[1] - w, occupied.shape[0] - h
    corners = [
        (max(0, min(left, last_x)), max(0, min(max(top, upper), last_y)))
        for distance in (0, h, 2 * h)
        for left, upper in (
            (x, y - h - distance),
            (x, y + height + distance),
            (x + width - w, y - h - distance),
            (x + width - w, y + height + distance),
            (x + width + distance, y),
            (x - w - distance, y),
        )
    ]
    return min(corners, key=lambda corner: _count_occupied(occupied, (*corner, w, h)))


def _is_above(anomaly_map: Map, threshold: float) -> Image:
    """255 where the map is above the threshold, else 0; NaN is never above it."""
    return np.multiply(anomaly_map > float(threshold), 255, dtype=np.uint8)


def _tint(canvas: Image, anomaly_map: Map, above: Image, threshold: float) -> None:
    """Tint the pixels above the threshold in place. Only the rectangle around them is computed."""
    x, y, width, height = cv2.boundingRect(above)
    if not width:
        return
    window = (slice(y, y + height), slice(x, x + width))
    inside = above[window]
    span = (FULL_TINT - 1.0) * threshold if threshold > 0 else 1.0
    gain = 255.0 * (MAX_TINT - MIN_TINT) / span
    # Bounded first: the conversion to uint8 would turn an infinite value into 0.
    values = np.minimum(anomaly_map[window], np.float32(threshold + span))
    tint = cv2.convertScaleAbs(values, alpha=gain, beta=255.0 * MIN_TINT - gain * threshold)
    tint = cv2.bitwise_and(np.asarray(tint), inside)
    # The edge is drawn inside the region, so that no pixel outside it changes.
    edge_size = 3 if max(canvas.shape) < 1500 else 5
    kernel = np.ones((edge_size, edge_size), np.uint8)
    core = cv2.erode(inside, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    tint[(inside > 0) & (np.asarray(core) == 0)] = 255
    rest = cv2.multiply(canvas[window], cv2.merge([cv2.bitwise_not(tint)] * 3), scale=1 / 255)
    colour = cv2.merge([cv2.convertScaleAbs(tint, alpha=level / 255) for level in TINT])
    canvas[window] = cv2.add(rest, colour)


def _draw_caption(canvas: Image, caption: str, size: int, occupied: Image, anomaly_map: Map) -> tuple[int, int]:
    """Draw the caption on a band at the top or the bottom; return the remaining rows (first, end)."""
    height, width = canvas.shape[:2]
    band = line_height(size) + size // 2
    if not caption or band > height // 3:
        return 0, height
    rectangle = _least_hiding([(0, 0, width, band), (0, height - band, width, band)], occupied, anomaly_map)
    _darken(canvas, rectangle)
    top = rectangle[1]
    text, size = fit_text(caption, size, width - size, weight=500)
    draw_text(canvas, text, size // 2, top + (band - line_height(size)) // 2, size, weight=500)
    _fill(occupied, rectangle)
    return (band, height) if top == 0 else (0, height - band)


def _draw_box(canvas: Image, box: Box, *, thickness: int) -> None:
    """Draw a rectangle with white edges on both sides, visible on any background."""
    x, y, width, height = box
    corners = (x, y), (x + width - 1, y + height - 1)
    cv2.rectangle(canvas, *corners, WHITE, 3 * thickness, cv2.LINE_8)
    cv2.rectangle(canvas, *corners, BOX, thickness, cv2.LINE_8)


def _draw_colour_bar(
    canvas: Image,
    threshold: float,
    title: str,
    size: int,
    rows: tuple[int, int],
    occupied: Image,
    anomaly_map: Map,
) -> None:
    """Draw the colour bar within ``rows`` (first, end), in the corner where it hides least: lower right if equal."""
    small = max(10, round(0.8 * size))
    steps = [1.0, (1.0 + FULL_TINT) / 2, FULL_TINT]
    texts = [(f"{step:g}×", f"{step * threshold:.3g}") for step in steps]
    texts[0], texts[-1] = ("1× threshold", texts[0][1]), (f"≥ {FULL_TINT:g}×", texts[-1][1])
    column = max(text_width(text, small) for pair in texts for text in pair) + small // 2
    column = max(column, -(-text_width(title, small) // 3) + small // 4)
    padding, bar_height = small // 2, max(4, small // 2)
    width, height = 3 * column + 2 * padding, 3 * line_height(small) + bar_height + 2 * padding
    first, end = rows
    right, bottom = canvas.shape[1] - width, end - height
    if right < 0 or bottom < first:
        return
    corners = [(right, bottom), (0, bottom), (right, first), (0, first)]
    rectangle = _least_hiding([(*corner, width, height) for corner in corners], occupied, anomaly_map)
    _fill(occupied, rectangle)
    _darken(canvas, rectangle)
    x, y = rectangle[0] + padding, rectangle[1] + padding
    draw_text(canvas, title, x, y - padding + padding // 2, small)
    y += line_height(small)
    strength = np.linspace(MIN_TINT, MAX_TINT, 3 * column - small // 2)[:, None]
    ramp = np.array([96.0, 96.0, 96.0]) * (1 - strength) + np.array(TINT) * strength
    canvas[y : y + bar_height, x : x + len(ramp)] = np.rint(ramp).astype(np.uint8)
    for i, pair in enumerate(texts):
        for line, text in enumerate(pair):
            indent = (column - small // 2 - text_width(text, small)) * i // 2  # left, centred, right
            draw_text(canvas, text, x + i * column + indent, y + bar_height + line * line_height(small), small)


def _draw_label(canvas: Image, box: Box, label: str, size: int, occupied: Image, top: int) -> None:
    """Draw a label next to its box, on a background in the colour of the box."""
    height = line_height(size)
    text, size = fit_text(label, size, canvas.shape[1] - size)
    if not text or height > canvas.shape[0]:
        return
    width = text_width(text, size) + size // 2
    x, y = place_label(box, (width, height), occupied, top)
    canvas[y : y + height, x : x + width] = BOX
    draw_text(canvas, text, x + size // 4, y + (height - line_height(size)) // 2, size)
    _fill(occupied, (x, y, width, height))


def _clip_box(box: LabelledBox, shape: Sequence[int], *, margin: int) -> Box:
    """The box in whole pixels, cut at the edges of the image. A margin keeps its line outside the region."""
    left, top = max(0, int(box.x) - margin), max(0, int(box.y) - margin)
    right = min(shape[1], int(np.ceil(box.x + box.width)) + margin)
    bottom = min(shape[0], int(np.ceil(box.y + box.height)) + margin)
    return min(left, shape[1] - 1), min(top, shape[0] - 1), max(1, right - left), max(1, bottom - top)


def _least_hiding(boxes: Sequence[Box], occupied: Image, anomaly_map: Map) -> Box:
    """The first of the boxes that hide the fewest occupied pixels, then the fewest of the part (the map above 0)."""

    def cost(box: Box) -> tuple[int, int]:
        x, y, width, height = box
        return _count_occupied(occupied, box), int(np.count_nonzero(anomaly_map[y : y + height, x : x + width] > 0))

    return min(boxes, key=cost)


def _count_occupied(occupied: Image, box: Box) -> int:
    x, y, width, height = box
    return cv2.countNonZero(occupied[y : y + height, x : x + width])


def _fill(occupied: Image, box: Box) -> None:
    x, y, width, height = box
    occupied[y : y + height, x : x + width] = 255


def _darken(canvas: Image, box: Box) -> None:
    x, y, width, height = box
    background = canvas[y : y + height, x : x + width]
    background[:] = cv2.convertScaleAbs(background, alpha=BAND_BRIGHTNESS)
