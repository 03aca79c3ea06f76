"""A microscope's field of view: a lit disc in a black surround."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Points = NDArray[np.float64]

_BLACK = 8.0  # CIELAB lightness of a surround that no light reaches
_LIT = 15.0  # above it: lit
_LEAST_RADIUS = 0.35  # of the frame's shorter side; what is smaller is a part
_LEAST_ASPECT = 0.5  # a photograph may have been stretched
_LEAST_SEEN = 0.6  # of the rim that is inside the frame
_NEAR = 1.0  # pixels from the ellipse that the rim's own points lie
_LEAST_POINTS = 20
_TRIALS = 200  # of five points; where 60 % of all lie on the rim, none is good once in ten million
TURNS = 90  # directions in which the rim is looked for


@dataclass(frozen=True)
class LitDisc:
    """An ellipse in pixel coordinates (x, y): its centre, half axes and turn; and whether all of it is in the frame."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    turn: float
    whole: bool

    @property
    def radius(self) -> float:
        """The mean radius in pixels."""
        return (self.radii[0] + self.radii[1]) / 2

    def beyond(self, x: Floats, y: Floats) -> Floats:
        """How far points lie outside the ellipse, in pixels of its mean radius; negative inside."""
        cosine, sine = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        x, y = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        along, across = (cosine * x + sine * y) / self.radii[0], (cosine * y - sine * x) / self.radii[1]
        return np.asarray((np.hypot(along, across) - 1) * self.radius, np.float32)

    def around(self, beyond: Points) -> Points:
        """Points (``TURNS``, n, 2) in all directions, ``beyond`` (n) pixels of the mean radius outside the ellipse."""
        angles = np.arange(TURNS)[:, None] * 2 * np.pi / TURNS
        share = 1 + beyond / self.radius
        along, across = self.radii[0] * share * np.cos(angles), self.radii[1] * share * np.sin(angles)
        cosine, sine = np.cos(self.turn), np.sin(self.turn)
        return np.stack([cosine * along - sine * across, sine * along + cosine * across], -1) + self.centre


def find_lit_disc(lightness: Floats) -> LitDisc | None:
    """The lit disc on a photograph's CIELAB lightness (H, W), None where there is none.

    What is lit may be cut by the frame, and parts may hide some of its rim: the ellipse is fitted to the rest.
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
    ellipse = _fit_ellipse(outline) if len(outline) >= _LEAST_POINTS else None
    if ellipse is None or min(ellipse.radii) < _LEAST_RADIUS * min(lightness.shape):
        return None
    rim = ellipse.around(np.zeros(1))[:, 0]
    rim = rim[_inside(rim, lightness.shape)]
    gaps = np.hypot(*(rim[:, None] - outline).transpose(2, 0, 1)).min(1)
    if (gaps < 2 * _NEAR).sum() < _LEAST_SEEN * max(len(rim), 1):
        return None
    return LitDisc(ellipse.centre, ellipse.radii, ellipse.turn, whole=len(rim) == TURNS)


def _inside(points: Points, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which points (N, 2) lie inside a frame (H, W), off its edge."""
    return np.asarray(((points > 1) & (points < (shape[1] - 2, shape[0] - 2))).all(1))


def _fit_ellipse(points: Points) -> LitDisc | None:
    """The ellipse that most points (N, 2) lie on.

    RANSAC (Fischler and Bolles, 1981) on conics through five points each, of a fixed draw; then the direct least
    squares of Fitzgibbon et al. (1999) on the points near the best.
    """
    middle, size = points.mean(0), points.std()
    x, y = ((points - middle) / size).T
    terms = np.stack([x * x, x * y, y * y, x, y], 1)
    five = terms[np.random.default_rng(0).integers(0, len(points), (_TRIALS, 5))]
    normal = five.transpose(0, 2, 1) @ five + 1e-9 * np.eye(5)  # a point drawn twice leaves it singular
    conics = np.linalg.solve(normal, five.sum(1)[..., None])[..., 0]
    closed = conics[:, 1] ** 2 < 4 * conics[:, 0] * conics[:, 2]
    some = slice(None, None, max(1, len(points) // 100))
    near = _from_conics(conics, x[some], y[some]) * size < _NEAR
    best = conics[np.argmax(near.sum(1) * closed)]
    on = points[_from_conics(best[None], x, y)[0] * size < _NEAR]
    if len(on) < _LEAST_POINTS:
        return None
    centre, axes, degrees = cv2.fitEllipseDirect(on.astype(np.float32))
    if not min(axes) > _LEAST_ASPECT * max(axes):
        return None
    return LitDisc((centre[0], centre[1]), (axes[0] / 2, axes[1] / 2), float(np.deg2rad(degrees)), whole=False)


def _from_conics(conics: Points, x: Points, y: Points) -> Points:
    """How far points (N) are from the conics (K, 5) axx + bxy + cyy + dx + ey = 1: Sampson's approximation (K, N)."""
    a, b, c, d, e = conics.T[..., None]
    value = a * x * x + b * x * y + c * y * y + d * x + e * y - 1
    slope = np.hypot(2 * a * x + b * y + d, b * x + 2 * c * y + e)
    return np.asarray(np.abs(value) / np.maximum(slope, 1e-12))
