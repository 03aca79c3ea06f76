"""A supersampled drawing board in design units, and the stamps of printed text."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLING = 3


class Canvas:
    """A supersampled RGB image that is drawn on in design units, with the side's colours."""

    def __init__(self, size: tuple[int, int], unit: float, colours: dict[str, Colour]) -> None:
        self.scale = unit * SUPERSAMPLING
        self.colours = colours
        self.image: Image = np.zeros((size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING, 3), np.uint8)

    def at(self, point: Point) -> tuple[int, int]:
        """The board's pixel (x, y) of a point in design units, whose origin is the middle."""
        h, w = self.image.shape[:2]
        return round(w / 2 + point[0] * self.scale), round(h / 2 + point[1] * self.scale)

    def length(self, units: float) -> int:
        """A design length in the board's pixels, at least 1."""
        return max(1, round(units * self.scale))

    def line(self, points: list[Point], colour: str, width: float) -> None:
        """A line through the points."""
        track = np.array([self.at(p) for p in points], np.int32)
        cv2.polylines(self.image, [track], False, self.colours[colour], self.length(width), cv2.LINE_AA)

    def trace(self, points: list[Point], width: float = 8.0) -> None:
        """A copper line with the dark flank that oblique light gives it."""
        self.line(points, "shade", width + 4)
        self.line(points, "copper", width)

    def box(self, centre: Point, size: Point, colour: str) -> None:
        """A filled box of (width, height)."""
        (x, y), (w, h) = centre, size
        cv2.rectangle(
            self.image,
            self.at((x - w / 2, y - h / 2)),
            self.at((x + w / 2, y + h / 2)),
            self.colours[colour],
            -1,
        )

    def disc(self, centre: Point, radius: float, colour: str, width: float = 0.0) -> None:
        """A filled disc, or with a `width` a ring."""
        thickness = self.length(width) if width else -1
        cv2.circle(self.image, self.at(centre), self.length(radius), self.colours[colour], thickness, cv2.LINE_AA)

    def via(self, centre: Point, radius: float = 8.0) -> None:
        """A plated hole."""
        self.disc(centre, radius + 3, "shade")
        self.disc(centre, radius, "pad")
        self.disc(centre, radius * 0.45, "hole")

    def fiducial(self, centre: Point) -> None:
        """A mark for alignment: a bright disc in a cleared ring."""
        self.disc(centre, 22, "bare")
        self.disc(centre, 22, "copper", 3)
        self.disc(centre, 10, "pad")

    def hatch(self, centre: Point, size: Point, pitch: float, width: float) -> None:
        """Crossed copper lines at 45 degrees on bare substrate, clipped to the box."""
        self.box(centre, size, "bare")
        (x, y), (w, h) = centre, size
        (x0, y0), (x1, y1) = self.at((x - w / 2, y - h / 2)), self.at((x + w / 2, y + h / 2))
        window, step = self.image[y0:y1, x0:x1], pitch * self.scale
        rows, cols = window.shape[:2]
        for k in range(-int(rows / step) - 1, int(cols / step) + 2):
            start = round(k * step)
            for ends in (((start, 0), (start + rows, rows)), ((start + rows, 0), (start, rows))):
                cv2.line(window, ends[0], ends[1], self.colours["copper"], self.length(width), cv2.LINE_AA)

    def text(self, centre: Point, words: str, height: float, quarter_turns: int = 0) -> None:
        """Printed words about a point, `height` high, turned anticlockwise."""
        stamp = text_stamp(words, self.length(height))
        stamp = np.rot90(stamp, quarter_turns)
        x, y = self.at(centre)
        y0, x0 = y - stamp.shape[0] // 2, x - stamp.shape[1] // 2
        blend(self.image[y0 : y0 + stamp.shape[0], x0 : x0 + stamp.shape[1]], stamp, self.colours["print"])


def text_stamp(words: str, height: int) -> NDArray[np.float32]:
    """Coverage (rows, columns) in [0, 1] of `words` in capitals `height` pixels high, cut to the letters."""
    # The stroke font is drawn large and shrunk: below some 20 pixels it is unreadable by itself.
    tall = max(40, height)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, tall // 7)
    font_scale = tall / 22.0
    (w, h), below = cv2.getTextSize(words, font, font_scale, thickness)
    board: Image = np.zeros((2 * h + below + 4 * thickness, w + 8 * thickness), np.uint8)
    cv2.putText(board, words, (4 * thickness, int(1.5 * h)), font, font_scale, (255,), thickness, cv2.LINE_AA)
    x, y, w, h = cv2.boundingRect(board)
    shrink = height / tall
    cut = cv2.resize(
        board[y : y + h, x : x + w],
        (max(1, round(w * shrink)), max(1, round(h * shrink))),
        interpolation=cv2.INTER_AREA,
    )
    return np.asarray(cut / 255, np.float32)


def blend(window: Image, coverage: NDArray[np.float32], colour: Colour | NDArray[np.float32]) -> None:
    """Lay `colour` (RGB) over `window` (H, W, 3) in place, by `coverage` (H, W) in [0, 1]."""
    weight = coverage[..., None]
    window[:] = np.rint(window * (1 - weight) + np.asarray(colour, np.float32) * weight).astype(np.uint8)
