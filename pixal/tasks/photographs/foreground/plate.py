"""The plate a part lies on: its colour at every pixel, seen or covered, from what is seen of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.tasks.photographs.foreground.lit_disc import LitDisc, find_lit_disc

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_FLAT = 5.0  # CIELAB units across three pixels; a plate's shading is flatter, an edge is steeper
_BLURS = (0.7, 2.0, 4.0)  # pixels; a plate with a texture is flat only after a blur
_LEAST_FLAT = 0.3  # of the region's edge
_LEAST_SURFACE = 0.005  # of the frame
_USUAL = 25.0  # CIELAB units from the median colour of the region's edge, where nothing is flat
_SAME = 10.0  # CIELAB units between zones of one surface
_LEAST_CONNECTIVITY = 2.5  # of a surface, but for the one most along the edge; a part's is less
_LARGE_SHARE = 1 / 3  # of the edge: what lies along as much is plate
_GROWTH = 7.0  # CIELAB units from the colour expected: still plate
_NEAR = 1.5  # standard deviation, in pixels of a quarter of the size
_RIDGE = 1e-2
_DARK = 15.0  # CIELAB lightness of what no light reaches, scattered light included
_NO_COLOUR = np.float32(1e4)
_RIM = 5.0  # pixels to either side of a lit disc's circle within which the light falls off
_RIM_STEPS = 41


@dataclass(frozen=True)
class Plate:
    """What the plate looks like in a photograph of (h, w) pixels.

    region: (h, w), where parts are looked for. colours: CIELAB (h, w, 3), one for each of its surfaces. grain: the
    median distance of what is seen of them from these, in CIELAB units. disc and fall: a lit disc, and the colours
    (steps, 3) that the falling light gives its rim, from ``_RIM`` pixels inside it to as many outside.
    """

    region: Bools
    colours: tuple[Floats, ...]
    grain: float
    disc: LitDisc | None = None
    fall: Floats | None = None

    def pixels(self, x: Floats, y: Floats) -> NDArray[np.intp]:
        """The pixels nearest to points, as indices into flat arrays."""
        height, width = self.region.shape
        rows, columns = np.clip(np.rint(y), 0, height - 1), np.clip(np.rint(x), 0, width - 1)
        return np.asarray(rows * width + columns, np.intp)

    def distance(self, lab: Floats, points: tuple[Floats, Floats] | None = None) -> Floats:
        """How far colours (..., 3) are from the plate at points (x, y) (...), or at every pixel, in CIELAB units."""
        if points is None:
            x, y = _grid(self.region.shape)
            colours = self.colours
        else:
            x, y = points
            colours = tuple(colour.reshape(-1, 3)[self.pixels(x, y)] for colour in self.colours)
        distance = np.asarray(np.minimum.reduce([_norm(lab - colour) for colour in colours]), np.float32)
        if self.disc is not None and self.fall is not None:
            beyond = self.disc.beyond(x, y)
            rim = np.abs(beyond) < _RIM
            place = (beyond[rim] / _RIM + 1) * (len(self.fall) - 1) / 2
            lower = np.minimum(place.astype(np.intp), len(self.fall) - 2)
            share = (place - lower)[:, None]
            fallen = self.fall[lower] * (1 - share) + self.fall[lower + 1] * share
            distance[rim] = np.minimum(distance[rim], _norm(lab[rim] - fallen))
        return distance


def plates(lab: Floats, fine: NDArray[np.uint8]) -> Iterator[Plate]:
    """What the plate may be on a photograph, the likeliest first: in CIELAB (h, w, 3), and finer in RGB (H, W, 3)."""
    frame = np.ones(lab.shape[:2], bool)
    disc = find_lit_disc(lab[..., 0])
    if disc is not None:
        beyond = disc.beyond(*_grid(frame.shape))
        lit = beyond < -_RIM / 2
        colours, grain = _seen(lab, lit)
        dark = (beyond > _RIM / 2) & (lab[..., 0] < _DARK)
        surround = _colour(lab, dark)
        # A dark part in the light is no surround; as black is only a hole, in what is no disc but a ring, then.
        surround[lit & (not disc.whole or _norm(lab - surround) > _GROWTH)] = _NO_COLOUR
        yield Plate(lit, (*colours, surround), grain, disc, _fall_of_light(fine, disc, lab.shape[1]))
    if disc is None or disc.whole:  # a round part on a black plate looks like a lit disc
        yield Plate(frame, *_seen(lab, frame))


def _seen(lab: Floats, region: Bools) -> tuple[tuple[Floats, ...], float]:
    """The colours of the plate's surfaces in the region, and their grain."""
    surfaces = _surfaces(lab, region)
    distances = np.stack([_norm(lab - _colour(lab, surface)) for surface in surfaces])
    nearest, distance = distances.argmin(0), distances.min(0)
    # Shading to the edge, and islands: all that has the colour expected of a surface where it is.
    like = region & (distance < _GROWTH)
    colours = [_colour(lab, surface | (like & (nearest == index))) for index, surface in enumerate(surfaces)]
    return tuple(colours), float(np.median(distance[np.any(surfaces, axis=0)]))


def _surfaces(lab: Floats, region: Bools) -> list[Bools]:
    """The plate's surfaces: flat zones along the region's edge, joined by colour, the one most along it first.

    A part that runs over the edge touches it with little of its outline. What that is for its size is the boundary
    connectivity of Zhu et al., Saliency optimization from robust background detection, CVPR 2014.
    """
    inside = region & (cv2.erode(region.astype(np.uint8), _square(3), borderValue=1) > 0)
    edge = inside & (cv2.erode(inside.astype(np.uint8), _square(3), borderValue=0) == 0)
    unusual = _norm(lab - np.median(lab[edge], axis=0))
    usual = edge & (unusual <= max(_USUAL, float(np.median(unusual[edge]))))
    for blur in _BLURS:
        smooth = cv2.GaussianBlur(lab, (0, 0), blur)
        steep = _norm(np.asarray(cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, _square(3)), np.float32))
        flat = (inside & (steep < _FLAT)).astype(np.uint8)
        if flat[edge].mean() > _LEAST_FLAT:
            break
        if np.median(unusual[edge]) < _FLAT:  # too little of the plate is seen around a part that fills the frame
            return [usual]
    else:
        return [usual]
    flat = np.asarray(cv2.morphologyEx(flat, cv2.MORPH_OPEN, round_element(5)), np.uint8)  # traces on a part are thin
    count, labels, stats, _ = cv2.connectedComponentsWithStats(flat, connectivity=4)
    contact = np.bincount(labels[edge], minlength=count)
    contact[0] = 0
    area = stats[:, cv2.CC_STAT_AREA]
    sums = [np.bincount(labels.ravel(), lab[..., channel].ravel(), count) for channel in range(3)]
    colours = np.stack(sums, 1) / area[:, None].clip(1)
    left = contact > 0
    surfaces: list[tuple[float, Bools]] = []
    while left.any():
        largest = int(np.argmax(area * left))
        alike = left & (np.linalg.norm(colours - colours[largest], axis=1) < _SAME)
        left &= ~alike
        if area[alike].sum() > _LEAST_SURFACE * labels.size:
            touching = contact[alike].sum()
            along = touching > _LARGE_SHARE * edge.sum()
            surfaces.append((np.inf if along else float(touching / np.sqrt(area[alike].sum())), alike[labels]))
    surfaces.sort(key=lambda surface: -surface[0])
    return [mask for value, mask in surfaces if value >= min(_LEAST_CONNECTIVITY, surfaces[0][0])] or [usual]


def _colour(lab: Floats, surface: Bools) -> Floats:
    """The surface's colour at every pixel (h, w, 3): its shading, and what is seen near by to differ from that.

    The shading is a quadratic in x and y; the difference is a normalized convolution (Knutsson and Westin, 1993).
    """
    height, width = surface.shape
    seen = surface.astype(np.float32)[..., None]
    size = (max(2, width // 4), max(2, height // 4))
    sums = np.asarray(cv2.resize(np.dstack([lab * seen, seen]), size, interpolation=cv2.INTER_AREA), np.float32)
    shading = _shading(sums)
    sums[..., :3] -= shading * sums[..., 3:]
    near = cv2.GaussianBlur(sums, (0, 0), _NEAR)
    colour = shading + near[..., :3] / (near[..., 3:] + 1e-2)
    return np.asarray(cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR))


def _shading(sums: Floats) -> Floats:
    """The quadratic (h, w, 3) through colours that come as (h, w, 4): summed, and the number of their pixels.

    Ridge regression, so that it stays level where little is seen.
    """
    height, width = sums.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    weights = sums[..., 3].reshape(-1, 1)
    ridge = _RIDGE * weights.sum() * np.diag([0, 1, 1, 1, 1, 1]) + 1e-9 * np.eye(6)  # where nothing is seen: black
    factors = np.linalg.solve(terms.T @ (terms * weights) + ridge, terms.T @ sums[..., :3].reshape(-1, 3))
    return np.asarray((terms @ factors).reshape(height, width, 3), np.float32)


def _fall_of_light(fine: NDArray[np.uint8], disc: LitDisc, width: int) -> Floats:
    """The colours (steps, 3) across the disc's rim: at each distance the median of those around it."""
    places = (disc.around(np.linspace(-_RIM, _RIM, _RIM_STEPS)) + 0.5) * fine.shape[1] / width - 0.5
    x, y = places.astype(np.float32).transpose(2, 0, 1)
    seen = ((places >= 0) & (places < fine.shape[1::-1])).all(2)[:, _RIM_STEPS // 2]
    around = cv2.remap(fine, x[seen], y[seen], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(np.asarray(around, np.float32) / 255, cv2.COLOR_RGB2Lab)
    return np.asarray(np.median(lab, axis=0), np.float32)


def _grid(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    x, y = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    return x, y


def _norm(difference: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("...c,...c->...", difference, difference)), np.float32)


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), np.uint8)


def round_element(side: int) -> NDArray[np.uint8]:
    """A disc of pixels, for OpenCV's morphology."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)
