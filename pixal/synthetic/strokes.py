"""Shapes of defects, and the fraction of each pixel that they cover."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.synthetic.canvas import Image

Float = NDArray[np.float32]
SUPERSAMPLING = 4


def arc(rng: np.random.Generator, length: float, bend: float) -> NDArray[np.float64]:
    """Return a slightly bent line around the origin in a random direction, (24, 2) points (x, y)."""
    angle, sag = rng.uniform(0, np.pi), rng.uniform(-bend, bend)
    t = np.linspace(-0.5, 0.5, 24)
    line = np.stack([length * t, length * sag * (4 * t * t - 1)], -1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(line @ turn)


def blob(rng: np.random.Generator, radius_x: float, radius_y: float, *, roughness: float) -> NDArray[np.float64]:
    """Return an uneven ellipse around the origin, (32, 2) points (x, y).

    Three waves of random phase are added to its radius.
    """
    a = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    wave = sum(np.sin(k * a + rng.uniform(0, 2 * np.pi)) / k for k in (2, 3, 5))
    radius = 1 + roughness * np.asarray(wave)
    return np.stack([radius_x * radius * np.cos(a), radius_y * radius * np.sin(a)], -1)


def stroke(shape: tuple[int, ...], track: NDArray[np.float64], width: float) -> Float:
    """Return the coverage (H, W) of a line.

    Args:
        shape: (H, W).
        track: (N, 2) points (x, y) in pixels.
        width: Width in pixels.
    """
    return _draw(
        shape,
        track,
        width,
        lambda image, points: cv2.polylines(image, [points], False, (255,), max(1, round(width * SUPERSAMPLING))),
    )


def filled(shape: tuple[int, ...], corners: NDArray[np.float64]) -> Float:
    """Return the coverage (H, W) of a filled polygon with corners (N, 2), (x, y) in pixels."""
    return _draw(shape, corners, 0.0, lambda image, points: cv2.fillPoly(image, [points], (255,)))


def _draw(
    shape: tuple[int, ...],
    points: NDArray[np.float64],
    width: float,
    draw: Callable[[Image, NDArray[np.int32]], object],
) -> Float:
    """Draw on a supersampled image around the points, shrink it, and copy it into the frame."""
    pad = int(np.ceil(width / 2)) + 2
    low = np.floor(points.min(axis=0)).astype(int) - pad
    cols, rows = np.ceil(points.max(axis=0)).astype(int) + pad - low
    enlarged: Image = np.zeros((rows * SUPERSAMPLING, cols * SUPERSAMPLING), np.uint8)
    draw(enlarged, np.rint((points - low) * SUPERSAMPLING).astype(np.int32))
    small = cv2.resize(enlarged, (int(cols), int(rows)), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    coverage = np.zeros(shape[:2], np.float32)
    x0, y0 = max(0, int(low[0])), max(0, int(low[1]))
    x1, y1 = min(shape[1], int(low[0] + cols)), min(shape[0], int(low[1] + rows))
    if x1 > x0 and y1 > y0:
        coverage[y0:y1, x0:x1] = small[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]
    return coverage
