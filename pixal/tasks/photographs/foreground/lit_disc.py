"""Find the field of view of a microscope: a lit disc in a black surround."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_BLACK = 8.0  # largest CIELAB lightness of a dark surround
_LIT = 15.0  # CIELAB lightness above the surround
_MIN_RADIUS = 0.35  # of the photograph's shorter side; anything smaller is a part
_MIN_ASPECT = 0.5  # a photograph may have been stretched
_MIN_VISIBLE = 0.6  # of the rim inside the frame
_NEAR = 1.0  # largest distance of a point of the rim from the ellipse, in pixels
_MIN_POINTS = 20
_TRIALS = 200  # of five points; if 60 % of all points are on the rim, all trials fail once in ten million
TURNS = 90
"""Number of directions in which points around a disc are computed."""


@dataclass(frozen=True)
class LitDisc:
    """An ellipse in pixel coordinates.

    Attributes:
        centre: (x, y).
        radii: Half axes in pixels.
        turn: Angle of the first axis in radians.
        is_whole: Whether the whole ellipse is inside the frame.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    turn: float
    is_whole: bool

    @property
    def radius(self) -> float:
        """Mean radius in pixels."""
        return (self.radii[0] + self.radii[1]) / 2

    def distance_outside(self, x: Floats, y: Floats) -> Floats:
        """Return how far points are outside the ellipse, in pixels along the mean radius; negative inside."""
        cosine, sine = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        x, y = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        along, across = (cosine * x + sine * y) / self.radii[0], (cosine * y - sine * x) / self.radii[1]
        return np.asarray((np.hypot(along, across) - 1) * self.radius, np.float32)

    def points_around(self, distance: Doubles) -> Doubles:
        """Return points in all directions at distances (N,) outside the ellipse, (``TURNS``, N, 2)."""
        angles = np.arange(TURNS)[:, None] * 2 * np.pi / TURNS
        factor = 1 + distance / self.radius
        along, across = self.radii[0] * factor * np.cos(angles), self.radii[1] * factor * np.sin(angles)
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return np.stack([cosine * along - sine * across, sine * along + cosine * across], -1) + self.centre


def find_lit_disc(lightness: Floats) -> LitDisc | None:
    """Find the lit disc on a photograph.

    The disc may extend beyond the frame, and parts may hide some of its rim; the ellipse is fitted to the visible rim.

    Args:
        lightness: (H, W) CIELAB lightness.

    Returns:
        The disc, or None if there is none.
    """
    edge = np.concatenate([lightness[0], lightness[-1], lightness[:, 0], lightness[:, -1]])
    black = float(np.quantile(edge, 0.25))
    if black > _BLACK:
        return None
    lit = (lightness > black + _LIT).astype(np.uint8)
    outlines, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    outline = max(outlines, key=cv2.contourArea)[:, 0].astype(np.float64)
    outline = outline[_inside(outline, lightness.shape)]
    ellipse = _fit_ellipse(outline) if len(outline) >= _MIN_POINTS else None
    if ellipse is None or min(ellipse.radii) < _MIN_RADIUS * min(lightness.shape):
        return None
    rim = ellipse.points_around(np.zeros(1))[:, 0]
    rim = rim[_inside(rim, lightness.shape)]
    gaps = np.hypot(*(rim[:, None] - outline).transpose(2, 0, 1)).min(1)
    if (gaps < 2 * _NEAR).sum() < _MIN_VISIBLE * max(len(rim), 1):
        return None
    return LitDisc(ellipse.centre, ellipse.radii, ellipse.turn, is_whole=len(rim) == TURNS)


def _inside(points: Doubles, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which points (N, 2) are inside a frame (H, W) and not on its edge."""
    return np.asarray(((points > 1) & (points < (shape[1] - 2, shape[0] - 2))).all(1))


def _fit_ellipse(points: Doubles) -> LitDisc | None:
    """Fit an ellipse to most of the points (N, 2).

    RANSAC (Fischler and Bolles, 1981) with conics through five points, drawn with a fixed seed; then direct least
    squares (Fitzgibbon et al., 1999) on the points near the best conic.
    """
    middle, size = points.mean(0), points.std()
    x, y = ((points - middle) / size).T
    terms = np.stack([x * x, x * y, y * y, x, y], 1)
    five = terms[np.random.default_rng(0).integers(0, len(points), (_TRIALS, 5))]
    normal = five.transpose(0, 2, 1) @ five + 1e-9 * np.eye(5)  # singular if a point is drawn twice
    conics = np.linalg.solve(normal, five.sum(1)[..., None])[..., 0]
    closed = conics[:, 1] ** 2 < 4 * conics[:, 0] * conics[:, 2]
    sample = slice(None, None, max(1, len(points) // 100))
    near = _distance_from_conics(conics, x[sample], y[sample]) * size < _NEAR
    best = conics[np.argmax(near.sum(1) * closed)]
    inliers = points[_distance_from_conics(best[None], x, y)[0] * size < _NEAR]
    if len(inliers) < _MIN_POINTS:
        return None
    centre, axes, degrees = cv2.fitEllipseDirect(inliers.astype(np.float32))
    if not min(axes) > _MIN_ASPECT * max(axes):
        return None
    return LitDisc((centre[0], centre[1]), (axes[0] / 2, axes[1] / 2), float(np.deg2rad(degrees)), is_whole=False)


def _distance_from_conics(conics: Doubles, x: Doubles, y: Doubles) -> Doubles:
    """Return Sampson's approximation (K, N) of the distance of points from conics.

    Args:
        conics: (K, 5) coefficients of axx + bxy + cyy + dx + ey = 1.
        x: (N,) coordinates.
        y: (N,) coordinates.
    """
    a, b, c, d, e = conics.T[..., None]
    value = a * x * x + b * x * y + c * y * y + d * x + e * y - 1
    slope = np.hypot(2 * a * x + b * y + d, b * x + 2 * c * y + e)
    return np.asarray(np.abs(value) / np.maximum(slope, 1e-12))
