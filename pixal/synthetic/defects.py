"""Draw defects with known pixels on the demo component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.synthetic.canvas import Colour, Image, blend
from pixal.synthetic.component import design_unit, finger_boxes
from pixal.synthetic.strokes import Float, arc, blob, filled, stroke

VISIBLE_CHANGE = 6  # levels of 255; a pixel that changes less in every channel is not counted as defect
ENOUGH_VISIBLE = 0.5  # fraction of the covered pixels that must change visibly
TRIES = 25


def add_defect(image: Image, mask: Image, kind: str, rng: np.random.Generator, severity: float = 1.0) -> Image:
    """Draw one defect at a random position of the component where it is visible.

    Args:
        image: (H, W, 3) uint8 RGB from ``draw_component``; changed in place.
        mask: (H, W) uint8, 0 or 255; a torn edge removes pixels in place.
        kind: One of ``KINDS``.
        rng: Random numbers.
        severity: Scales the size and, below 1, the contrast: 1 is easy to see, 0.4 is small and faint.

    Returns:
        The changed pixels, (H, W) uint8, 0 or 255; never empty.

    Raises:
        InputError: If the kind is unknown, the severity is not above 0, or the mask is empty.
    """
    if kind not in KINDS:
        raise InputError(f"unknown defect kind {kind!r}: choose from {', '.join(KINDS)}")
    if not severity > 0:
        raise InputError(f"the severity of a defect must be above 0, not {severity}")
    if not mask.any():
        raise InputError("the mask is empty: there is no component to draw a defect on")
    if kind == "torn_edge":
        return _tear_edge(image, mask, rng, severity)
    return _paint_defect(image, mask, kind, rng, severity)


@dataclass(frozen=True)
class _Paint:
    """A layer of a defect.

    Attributes:
        coverage: (H, W) in [0, 1].
        colour: RGB.
        opacity: In [0, 1].
    """

    coverage: Float
    colour: Colour | Float
    opacity: float


@dataclass(frozen=True)
class _Site:
    """The component on which a defect is drawn, with random sizes, positions and colours.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8, 0 or 255.
        unit: Pixels per design unit.
        rng: Random numbers.
        severity: Severity of the defect.
    """

    image: Image
    mask: Image
    unit: float
    rng: np.random.Generator
    severity: float

    def size(self, low: float, high: float, *, at_least: float) -> float:
        """Return a random length in pixels between two lengths in design units, times the severity."""
        return max(at_least, float(self.rng.uniform(low, high)) * self.unit * self.severity)

    def centre(self, *, copper: bool | None = None) -> tuple[float, float]:
        """Return a random point inside the component: on bright pixels (copper), on dark pixels, or (None) anywhere."""
        margin = max(2, round(14 * self.unit))
        allowed = cv2.erode(self.mask, _square(2 * margin + 1), borderValue=(0,)) > 0
        if not allowed.any():
            allowed = self.mask > 0
        if copper is not None:
            light = np.maximum.reduce(cv2.split(self.image))
            middle = np.median(light[allowed])
            chosen = allowed & ((light > middle) if copper else (light <= middle))
            allowed = chosen if chosen.any() else allowed
        ys, xs = np.nonzero(allowed)
        i = int(self.rng.integers(len(xs)))
        return float(xs[i]) + 0.5, float(ys[i]) + 0.5

    def local_colour(self, point: tuple[float, float], quantile: float) -> Float:
        """Return the colour at a quantile of the brightness (0 darkest, 1 brightest) of the pixels around a point."""
        reach = max(3, round(26 * self.unit))
        x, y = int(point[0]), int(point[1])
        window = np.s_[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        pixels = self.image[window][self.mask[window] > 0]
        if not len(pixels):  # an earlier defect removed all pixels
            pixels = self.image[self.mask > 0]
        order = np.argsort(pixels.max(axis=1), kind="stable")
        middle = int(quantile * (len(order) - 1))
        near = order[max(0, middle - 4) : middle + 5]
        return np.asarray(np.median(pixels[near], axis=0), np.float32)


def _paint_defect(image: Image, mask: Image, kind: str, rng: np.random.Generator, severity: float) -> Image:
    """Try positions until the defect is visible on most of its pixels, and use the best one."""
    site = _Site(image, mask, design_unit((image.shape[1], image.shape[0])), rng, severity)
    fade = min(1.0, 0.35 + 0.65 * severity)
    best: _Trial | None = None
    for _ in range(TRIES):
        trial = _try_paints(image, mask, _DRAWERS[kind](site), fade)
        if trial is not None and (best is None or trial.visible > best.visible):
            best = trial
        if best is not None and best.visible >= ENOUGH_VISIBLE:
            break
    if best is None:
        raise InputError(f"a defect of kind {kind!r} is not visible anywhere on this component")
    image[best.window] = best.pixels
    defect = np.zeros_like(mask)
    defect[best.window] = best.changed
    return defect


@dataclass(frozen=True)
class _Trial:
    """A defect drawn on a copy of the component.

    Attributes:
        window: Rows and columns of the defect.
        pixels: (h, w, 3) uint8 RGB inside the window.
        changed: (h, w) uint8, 255 where a pixel changed visibly.
        visible: Fraction of the covered pixels that changed visibly.
    """

    window: tuple[slice, slice]
    pixels: Image
    changed: Image
    visible: float


def _try_paints(image: Image, mask: Image, paints: list[_Paint], fade: float) -> _Trial | None:
    """Draw the layers on a copy of the component; return None if nothing changes visibly."""
    covered = np.maximum.reduce([paint.coverage for paint in paints])
    x, y, w, h = cv2.boundingRect(np.where((covered > 0) & (mask > 0), 255, 0).astype(np.uint8))
    window = np.s_[y : y + h, x : x + w]
    part = mask[window] > 0
    pixels = image[window].copy()
    for paint in paints:
        on_part = np.where(part, paint.coverage[window], 0).astype(np.float32)
        blend(pixels, on_part * np.float32(paint.opacity * fade), paint.colour)
    difference = np.abs(pixels.astype(np.int16) - image[window]).max(axis=2)
    changed = np.where((difference >= VISIBLE_CHANGE) & part, 255, 0).astype(np.uint8)
    if not changed.any():
        return None
    visible = float((changed > 0).sum()) / max(1, int(((covered[window] > 0.3) & part).sum()))
    return _Trial(window, pixels, changed, visible)


def _scratch(site: _Site) -> list[_Paint]:
    """A bright or dark line."""
    centre = site.centre()
    length, width = site.size(70, 190, at_least=6), site.size(3, 7, at_least=0.9)
    track = arc(site.rng, length, bend=0.15) + np.array(centre)
    colour = (226, 234, 214) if site.rng.random() < 0.6 else (26, 20, 12)
    return [_Paint(stroke(site.mask.shape, track, width), colour, float(site.rng.uniform(0.65, 0.95)))]


def _fibre(site: _Site) -> list[_Paint]:
    """A curled hair on the part."""
    centre = site.centre()
    length, width = site.size(90, 200, at_least=8), site.size(3, 5, at_least=0.9)
    t = np.linspace(0, 1, 40)
    start, turn, curl = site.rng.uniform([0, -3, 1], [2 * np.pi, 3, 2])
    heading = start + turn * t + curl * np.sin(5 * t)
    track = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1), axis=0) * length / len(t)
    track += np.array(centre) - track.mean(axis=0)
    colour = (44, 42, 60) if site.rng.random() < 0.5 else (222, 216, 226)
    return [_Paint(stroke(site.mask.shape, track, width), colour, 0.8)]


def _open(site: _Site) -> list[_Paint]:
    """Missing copper: the substrate is visible."""
    x, y = site.centre(copper=True)
    corners = blob(site.rng, site.size(11, 19, at_least=1.6), site.size(8, 13, at_least=1.4), roughness=0.15)
    return [_Paint(filled(site.mask.shape, corners + np.array([x, y])), site.local_colour((x, y), 0.05), 0.95)]


def _short(site: _Site) -> list[_Paint]:
    """Copper that connects neighbouring traces."""
    x, y = site.centre(copper=False)
    track = np.array([[0.0, -0.5], [0.0, 0.5]]) * site.size(20, 38, at_least=3)
    track[:, 0] += site.rng.uniform(-0.2, 0.2, 2) * abs(track[0, 1])
    bar = stroke(site.mask.shape, track + np.array([x, y]), site.size(9, 15, at_least=1.4))
    return [_Paint(bar, site.local_colour((x, y), 0.8), 0.95)]


def _stain(site: _Site) -> list[_Paint]:
    """A translucent film with an uneven, denser rim, like that of a dried drop."""
    x, y = site.centre()
    radius = site.size(24, 54, at_least=2.5)
    flat = float(site.rng.uniform(0.6, 1.0))
    corners = blob(site.rng, radius, radius * flat, roughness=0.22) + np.array([x, y])
    colour, opacity = (92, 66, 30), float(site.rng.uniform(0.35, 0.6))
    film = cv2.GaussianBlur(filled(site.mask.shape, corners), (0, 0), max(0.4, 1.5 * site.unit))
    rim = stroke(site.mask.shape, np.vstack([corners, corners[:1]]), max(0.8, 3 * site.unit * site.severity))
    return [_Paint(film.astype(np.float32), colour, opacity), _Paint(rim, colour, 0.5 * opacity)]


def _splash(site: _Site) -> list[_Paint]:
    """A solder splash: a bright drop with a dark rim and a highlight, and a small drop next to it."""
    centre, radius = np.array(site.centre()), site.size(9, 22, at_least=1.5)
    shape = site.mask.shape
    direction = float(site.rng.uniform(0, 2 * np.pi))
    droplet = centre + radius * 1.7 * np.array([np.cos(direction), np.sin(direction)])
    small = max(0.8, radius * 0.35)

    def drop(point: NDArray[np.float64], size: float, colour: Colour) -> _Paint:
        return _Paint(filled(shape, blob(site.rng, size, size, roughness=0.05) + point), colour, 0.95)

    rim, metal, shine = (66, 68, 70), (196, 200, 204), (252, 252, 252)
    return [
        drop(centre, radius, rim),
        drop(droplet, small, rim),
        drop(centre, radius * 0.8, metal),
        drop(droplet, small * 0.8, metal),
        drop(centre - radius * 0.25, radius * 0.3, shine),
    ]


def _missing_pad(site: _Site) -> list[_Paint]:
    """A missing connector finger, or a part of it at one end."""
    h, w = site.mask.shape
    boxes = finger_boxes((w, h))
    x0, y0, x1, y1 = boxes[int(site.rng.integers(len(boxes)))]
    kept = round((x1 - x0) * (1 - min(1.0, site.severity * float(site.rng.uniform(0.7, 1.0)))))
    kept = min(kept, max(0, x1 - x0 - 2))
    start, stop = (x0 + kept, x1) if site.rng.random() < 0.5 else (x0, x1 - kept)
    coverage = np.zeros((h, w), np.float32)
    coverage[y0:y1, start:stop] = 1
    return [_Paint(coverage, site.local_colour(((x0 + x1) / 2, (y0 + y1) / 2), 0.08), 0.95)]


def _tear_edge(image: Image, mask: Image, rng: np.random.Generator, severity: float) -> Image:
    """Remove a ragged piece at the outline of the component."""
    site = _Site(image, mask, design_unit((image.shape[1], image.shape[0])), rng, severity)
    rim = (mask > 0) & (cv2.erode(mask, _square(3), borderValue=(0,)) == 0)
    ys, xs = np.nonzero(rim)
    i = int(rng.integers(len(xs)))
    corners = blob(rng, site.size(14, 32, at_least=1.6), site.size(12, 26, at_least=1.6), roughness=0.3)
    torn = (filled(mask.shape, corners + np.array([xs[i] + 0.5, ys[i] + 0.5])) > 0.5) & (mask > 0)
    torn[ys[i], xs[i]] = True
    mask[torn] = 0
    image[torn] = 0
    return np.where(torn, 255, 0).astype(np.uint8)


def _square(side: int) -> Image:
    return np.ones((side, side), np.uint8)


_DRAWERS: dict[str, Callable[[_Site], list[_Paint]]] = {
    "scratch": _scratch,
    "open": _open,
    "short": _short,
    "stain": _stain,
    "splash": _splash,
    "missing_pad": _missing_pad,
    "fibre": _fibre,
}
KINDS = (*_DRAWERS, "torn_edge")
