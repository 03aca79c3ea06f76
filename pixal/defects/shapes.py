"""Shapes of defects as level functions, and curves. All are in the frame of the defect (see ``Site``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Level = Callable[[Floats], Floats]
"""A function of points (..., 2) to (...): below 0 inside the shape, above 0 outside (see ``Site.coverage``)."""


def disc(diameter: float) -> Level:
    """Return a round disc around the origin."""
    return lambda points: np.asarray(np.hypot(points[..., 0], points[..., 1]) - np.float32(diameter / 2))


def stroke(track: NDArray[Any], width: float) -> Level:
    """Return a line with round ends through points (N, 2)."""
    ends = track.astype(np.float32)

    def level(points: Floats) -> Floats:
        x, y = points[..., 0], points[..., 1]
        nearest = np.full(x.shape, np.inf, np.float32)
        for (x0, y0), (dx, dy) in zip(ends[:-1], np.diff(ends, axis=0), strict=True):
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
            np.minimum(nearest, (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2, out=nearest)
        return np.asarray(np.sqrt(nearest) - np.float32(width / 2))

    return level


def blob(rng: np.random.Generator, diameter: float, *, roughness: float, flatness: float = 1.0) -> Level:
    """Return an uneven ellipse around the origin.

    Three waves of random phase are added to its radius.

    Args:
        rng: Random numbers.
        diameter: That of the circle of the same area.
        roughness: Amplitude of the waves as a fraction of the radius, at most 0.3.
        flatness: Extent in y over that in x.
    """
    waves = np.array([2, 3, 5])
    phases = rng.uniform(0, 2 * np.pi, 3)
    amplitudes = roughness / waves
    # The area of r(a) = R (1 + sum of waves) is pi R^2 (1 + half the sum of the squared amplitudes).
    radius = diameter / 2 / np.sqrt(1 + (amplitudes**2).sum() / 2)
    stretch = np.array([1 / np.sqrt(flatness), np.sqrt(flatness)])

    def level(points: Floats) -> Floats:
        x, y = points[..., 0] / stretch[0], points[..., 1] / stretch[1]
        angle = np.arctan2(y, x)
        outline = 1 + sum(a * np.sin(k * angle + p) for k, a, p in zip(waves, amplitudes, phases, strict=True))
        return np.asarray((np.hypot(x, y) - radius * outline) * stretch.max(), np.float32)

    return level


def arc(length: float, sag: float) -> NDArray[np.float64]:
    """Return a slightly bent line around the origin, (9, 2) points.

    Args:
        length: Distance between its ends.
        sag: Distance of its middle from the line between its ends.
    """
    t = np.linspace(-0.5, 0.5, 9)
    return np.stack([length * t, sag * (2 / 3 - 4 * t * t)], -1)


def curl(rng: np.random.Generator, length: float) -> NDArray[np.float64]:
    """Return a curled line of a given length with its middle at the origin, (25, 2) points."""
    t = np.linspace(0, 1, 25)
    turn, wave = rng.uniform([-3, 1], [3, 2])
    heading = turn * (t - 0.5) + wave * np.sin(5 * t)
    steps = np.stack([np.cos(heading), np.sin(heading)], -1)[:-1] * length / 24
    track = np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
    return np.asarray(track - track.mean(axis=0))
