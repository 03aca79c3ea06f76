"""A canvas to draw the component on, and printed text."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLING = 3


class Canvas:
    """A supersampled RGB image. Points and lengths are in design units; their origin is the middle of the image.

    Attributes:
        scale: Pixels of the image per design unit.
        colours: RGB by name.
        image: (H, W, 3) uint8 RGB, ``SUPERSAMPLING`` times as large as the frame.
    """

    def __init__(self, size: tuple[int, int], unit: float, colours: dict[str, Colour]) -> None:
        self.scale = unit * SUPERSAMPLING
        self.colours = colours
        self.image: Image = np.zeros((size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING, 3), np.uint8)

    def at(self, point: Point) -> tuple[int, int]:
        """Return the pixel (x, y) of a point."""
        h, w = self.image.shape[:2]
        return round(w / 2 + point[0] * self.scale), round(h / 2 + point[1] * self.scale)

    def length(self, units: float) -> int:
        """Return a length in pixels, at least 1."""
        return max(1, round(units * self.scale))

    def line(self, points: list[Point], colour: str, width: float) -> None:
        """Draw a line through points."""
        track = np.array([self.at(p) for p in points], np.int32)
        cv2.polylines(self.image, [track], False, self.colours[colour], self.length(width), cv2.LINE_AA)

    def trace(self, points: list[Point], width: float = 8.0) -> None:
        """Draw a copper line with dark edges, as oblique light shows it."""
        self.line(points, "shade", width + 4)
        self.line(points, "copper", width)

    def box(self, centre: Point, size: Point, colour: str) -> None:
        """Draw a filled box with a size (width, height)."""
        (x, y), (w, h) = centre, size
        cv2.rectangle(
            self.image,
            self.at((x - w / 2, y - h / 2)),
            self.at((x + w / 2, y + h / 2)),
            self.colours[colour],
            -1,
        )

    def disc(self, centre: Point, radius: float, colour: str, width: float = 0.0) -> None:
        """Draw a filled disc, or with a ``width`` a ring."""
        thickness = self.length(width) if width else -1
        cv2.circle(self.image, self.at(centre), self.length(radius), self.colours[colour], thickness, cv2.LINE_AA)

    def via(self, centre: Point, radius: float = 8.0) -> None:
        """Draw a plated hole."""
        self.disc(centre, radius + 3, "shade")
        self.disc(centre, radius, "pad")
        self.disc(centre, radius * 0.45, "hole")

    def fiducial(self, centre: Point) -> None:
        """Draw an alignment mark: a bright disc in a bare ring."""
        self.disc(centre, 22, "bare")
        self.disc(centre, 22, "copper", 3)
        self.disc(centre, 10, "pad")

    def hatch(self, centre: Point, size: Point, pitch: float, width: float) -> None:
        """Draw crossed copper lines at 45 degrees on bare substrate, inside a box."""
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
        """Print words around a point, ``height`` high, turned anticlockwise."""
        stamp = text_stamp(words, self.length(height))
        stamp = np.rot90(stamp, quarter_turns)
        x, y = self.at(centre)
        y0, x0 = y - stamp.shape[0] // 2, x - stamp.shape[1] // 2
        blend(self.image[y0 : y0 + stamp.shape[0], x0 : x0 + stamp.shape[1]], stamp, self.colours["print"])


def text_stamp(words: str, height: int) -> NDArray[np.float32]:
    """Render words, cropped to the letters.

    Args:
        words: The text.
        height: Height of a capital letter in pixels.

    Returns:
        (H, W) float32 coverage in [0, 1].
    """
    # The font is drawn large and then shrunk, because below about 20 pixels it is not readable.
    drawn_height = max(40, height)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, drawn_height // 7)
    font_scale = drawn_height / 22.0
    (w, h), below = cv2.getTextSize(words, font, font_scale, thickness)
    enlarged: Image = np.zeros((2 * h + below + 4 * thickness, w + 8 * thickness), np.uint8)
    cv2.putText(enlarged, words, (4 * thickness, int(1.5 * h)), font, font_scale, (255,), thickness, cv2.LINE_AA)
    x, y, w, h = cv2.boundingRect(enlarged)
    shrink = height / drawn_height
    cropped = cv2.resize(
        enlarged[y : y + h, x : x + w],
        (max(1, round(w * shrink)), max(1, round(h * shrink))),
        interpolation=cv2.INTER_AREA,
    )
    return np.asarray(cropped / 255, np.float32)


def blend(window: Image, coverage: NDArray[np.float32], colour: Colour | NDArray[np.float32]) -> None:
    """Paint a colour on an image in place.

    Args:
        window: (H, W, 3) uint8 RGB.
        coverage: (H, W) opacity in [0, 1].
        colour: RGB.
    """
    weight = coverage[..., None]
    window[:] = np.rint(window * (1 - weight) + np.asarray(colour, np.float32) * weight).astype(np.uint8)
