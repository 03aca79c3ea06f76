"""Estimate the colour of the plate under a part at every pixel, from its visible pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.tasks.photographs.foreground.lit_disc import LitDisc, find_lit_disc

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_FLAT = 5.0  # CIELAB units across three pixels; the shading of a plate is flatter, an edge is steeper
_BLURS = (0.7, 2.0, 4.0)  # pixels; a plate with a texture is flat only after a blur
_MIN_FLAT = 0.3  # fraction of the region's edge
_MIN_SURFACE = 0.005  # fraction of the frame
_USUAL = 25.0  # CIELAB units from the median colour of the region's edge; used if nothing is flat
_SAME_SURFACE = 10.0  # CIELAB units between zones
_MIN_CONNECTIVITY = 2.5  # of a surface, except the one with most of the edge; a part has less
_LARGE_FRACTION = 1 / 3  # of the edge: a zone along this much of it is plate
_SIMILAR = 7.0  # CIELAB units from the expected colour of the plate
_NEAR = 1.5  # standard deviation, in pixels of the image at a quarter of its size
_RIDGE = 1e-2
_DARK = 15.0  # largest CIELAB lightness of the surround with scattered light
_NO_COLOUR = np.float32(1e4)
_RIM = 5.0  # pixels on either side of a disc's rim, between which the light falls off
_RIM_STEPS = 41


@dataclass(frozen=True)
class Plate:
    """The appearance of the plate on a photograph of (h, w) pixels.

    Attributes:
        region: (h, w) where parts are searched.
        colours: CIELAB (h, w, 3), one array for each surface of the plate.
        grain: Median distance of visible plate pixels from these colours, in CIELAB units.
        disc: The lit disc, or None.
        rim_colours: CIELAB (steps, 3) across the rim of the disc, where the light falls off, from ``_RIM`` pixels
            inside to ``_RIM`` pixels outside; None without a disc.
    """

    region: Bools
    colours: tuple[Floats, ...]
    grain: float
    disc: LitDisc | None = None
    rim_colours: Floats | None = None

    def nearest_pixels(self, x: Floats, y: Floats) -> NDArray[np.intp]:
        """Return the flat indices of the pixels nearest to points."""
        height, width = self.region.shape
        rows, columns = np.clip(np.rint(y), 0, height - 1), np.clip(np.rint(x), 0, width - 1)
        return np.asarray(rows * width + columns, np.intp)

    def distance(self, lab: Floats, points: tuple[Floats, Floats] | None = None) -> Floats:
        """Return how far colours are from the colours of the plate, in CIELAB units.

        Args:
            lab: (..., 3) CIELAB colours.
            points: x and y (...) of the colours; None: ``lab`` (h, w, 3) has the colour of every pixel.
        """
        if points is None:
            x, y = _pixel_grid(self.region.shape)
            colours = self.colours
        else:
            x, y = points
            colours = tuple(colour.reshape(-1, 3)[self.nearest_pixels(x, y)] for colour in self.colours)
        distance = np.asarray(np.minimum.reduce([_norm(lab - colour) for colour in colours]), np.float32)
        if self.disc is not None and self.rim_colours is not None:
            outside = self.disc.distance_outside(x, y)
            rim = np.abs(outside) < _RIM
            position = (outside[rim] / _RIM + 1) * (len(self.rim_colours) - 1) / 2
            lower = np.minimum(position.astype(np.intp), len(self.rim_colours) - 2)
            weight = (position - lower)[:, None]
            expected = self.rim_colours[lower] * (1 - weight) + self.rim_colours[lower + 1] * weight
            distance[rim] = np.minimum(distance[rim], _norm(lab[rim] - expected))
        return distance


def propose_plates(lab: Floats, fine: NDArray[np.uint8]) -> Iterator[Plate]:
    """Yield the possible plates of a photograph, the most likely first.

    Args:
        lab: (h, w, 3) CIELAB image.
        fine: (H, W, 3) RGB image of the same photograph with more pixels.
    """
    frame = np.ones(lab.shape[:2], bool)
    disc = find_lit_disc(lab[..., 0])
    if disc is not None:
        outside = disc.distance_outside(*_pixel_grid(frame.shape))
        lit = outside < -_RIM / 2
        colours, grain = _plate_colours(lab, lit)
        dark = (outside > _RIM / 2) & (lab[..., 0] < _DARK)
        surround = _surface_colour(lab, dark)
        # A dark part in the light is not the surround. Only a hole is as black, if the disc is really a ring.
        surround[lit & (not disc.is_whole or _norm(lab - surround) > _SIMILAR)] = _NO_COLOUR
        yield Plate(lit, (*colours, surround), grain, disc, _rim_colours(fine, disc, lab.shape[1]))
    if disc is None or disc.is_whole:  # a round part on a black plate looks like a lit disc
        yield Plate(frame, *_plate_colours(lab, frame))


def round_element(side: int) -> NDArray[np.uint8]:
    """Return a disc of pixels, for OpenCV's morphology."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def fit_shading(sums: Floats) -> Floats:
    """Fit a quadratic in x and y to colours.

    The fit is a ridge regression, so the quadratic stays flat where few pixels are known.

    Args:
        sums: (h, w, 4) sums of colours, and the number of pixels in each sum.

    Returns:
        (h, w, 3) fitted colours.
    """
    height, width = sums.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1).reshape(-1, 6)
    weights = sums[..., 3].reshape(-1, 1)
    ridge = _RIDGE * weights.sum() * np.diag([0, 1, 1, 1, 1, 1]) + 1e-9 * np.eye(6)  # black if no pixel is known
    factors = np.linalg.solve(terms.T @ (terms * weights) + ridge, terms.T @ sums[..., :3].reshape(-1, 3))
    return np.asarray((terms @ factors).reshape(height, width, 3), np.float32)


def _plate_colours(lab: Floats, region: Bools) -> tuple[tuple[Floats, ...], float]:
    """Return the colours of the plate's surfaces in the region, (h, w, 3) each, and their grain."""
    surfaces = _find_surfaces(lab, region)
    distances = np.stack([_norm(lab - _surface_colour(lab, surface)) for surface in surfaces])
    nearest, distance = distances.argmin(0), distances.min(0)
    # Add all pixels with the expected colour of a surface: shaded ones near the edge, and islands.
    similar = region & (distance < _SIMILAR)
    colours = [_surface_colour(lab, surface | (similar & (nearest == i))) for i, surface in enumerate(surfaces)]
    return tuple(colours), float(np.median(distance[np.any(surfaces, axis=0)]))


def _find_surfaces(lab: Floats, region: Bools) -> list[Bools]:
    """Find the surfaces of the plate: flat zones along the region's edge, merged by colour.

    A part that extends beyond the edge touches it with a small fraction of its outline. The length of the contact
    relative to the size is the boundary connectivity of Zhu et al., Saliency optimization from robust background
    detection, CVPR 2014.

    Returns:
        Masks (h, w), the surface with the largest connectivity first.
    """
    inside = region & (cv2.erode(region.astype(np.uint8), _square(3), borderValue=1) > 0)
    edge = inside & (cv2.erode(inside.astype(np.uint8), _square(3), borderValue=0) == 0)
    unusual = _norm(lab - np.median(lab[edge], axis=0))
    usual = edge & (unusual <= max(_USUAL, float(np.median(unusual[edge]))))
    for blur in _BLURS:
        smooth = cv2.GaussianBlur(lab, (0, 0), blur)
        steep = _norm(np.asarray(cv2.morphologyEx(smooth, cv2.MORPH_GRADIENT, _square(3)), np.float32))
        flat = (inside & (steep < _FLAT)).astype(np.uint8)
        if flat[edge].mean() > _MIN_FLAT:
            break
        if np.median(unusual[edge]) < _FLAT:  # the part fills the frame, and little of the plate is visible
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
        alike = left & (np.linalg.norm(colours - colours[largest], axis=1) < _SAME_SURFACE)
        left &= ~alike
        if area[alike].sum() > _MIN_SURFACE * labels.size:
            touching = contact[alike].sum()
            is_plate = touching > _LARGE_FRACTION * edge.sum()
            surfaces.append((np.inf if is_plate else float(touching / np.sqrt(area[alike].sum())), alike[labels]))
    surfaces.sort(key=lambda surface: -surface[0])
    return [mask for value, mask in surfaces if value >= min(_MIN_CONNECTIVITY, surfaces[0][0])] or [usual]


def _surface_colour(lab: Floats, surface: Bools) -> Floats:
    """Estimate the colour of a surface at every pixel, (h, w, 3): its shading, and local differences from it.

    The shading is a quadratic in x and y. The differences of visible pixels are interpolated by a normalized
    convolution (Knutsson and Westin, 1993).
    """
    height, width = surface.shape
    visible = surface.astype(np.float32)[..., None]
    size = (max(2, width // 4), max(2, height // 4))
    sums = np.asarray(cv2.resize(np.dstack([lab * visible, visible]), size, interpolation=cv2.INTER_AREA), np.float32)
    shading = fit_shading(sums)
    sums[..., :3] -= shading * sums[..., 3:]
    near = cv2.GaussianBlur(sums, (0, 0), _NEAR)
    colour = shading + near[..., :3] / (near[..., 3:] + 1e-2)
    return np.asarray(cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR))


def _rim_colours(fine: NDArray[np.uint8], disc: LitDisc, width: int) -> Floats:
    """Return the CIELAB colours (steps, 3) across the rim of the disc: medians over all directions.

    Args:
        fine: (H, W, 3) RGB photograph.
        disc: The disc in an image of ``width`` pixels.
        width: Width of the image in which the disc is given.
    """
    points = (disc.points_around(np.linspace(-_RIM, _RIM, _RIM_STEPS)) + 0.5) * fine.shape[1] / width - 0.5
    x, y = points.astype(np.float32).transpose(2, 0, 1)
    in_frame = ((points >= 0) & (points < fine.shape[1::-1])).all(2)[:, _RIM_STEPS // 2]
    colours = cv2.remap(fine, x[in_frame], y[in_frame], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lab = cv2.cvtColor(np.asarray(colours, np.float32) / 255, cv2.COLOR_RGB2Lab)
    return np.asarray(np.median(lab, axis=0), np.float32)


def _pixel_grid(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    x, y = np.meshgrid(np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32))
    return x, y


def _norm(difference: Floats) -> Floats:
    return np.asarray(np.sqrt(np.einsum("...c,...c->...", difference, difference)), np.float32)


def _square(side: int) -> NDArray[np.uint8]:
    return np.ones((side, side), np.uint8)
