"""Draw defects with known pixels on the demo component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.defects import PlantedDefect, plant
from pixal.defects.shapes import blob, disc
from pixal.errors import InputError
from pixal.synthetic.canvas import Colour, Image, blend
from pixal.synthetic.component import design_unit, finger_boxes

Float = NDArray[np.float32]

VISIBLE_CHANGE = 6  # levels of 255; a pixel that changes less in every channel is not counted as defect
ENOUGH_VISIBLE = 0.5  # fraction of the changed pixels that must change visibly
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
    return _draw_visibly(image, mask, kind, rng, severity)


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

    @property
    def fade(self) -> float:
        """How much the severity weakens a defect: 1 for a severity of 1 or more."""
        return min(1.0, 0.35 + 0.65 * self.severity)

    def sign(self, bright: float) -> float:
        """Return 1 with the probability ``bright``, else -1."""
        return 1.0 if self.rng.random() < bright else -1.0

    def planted(self, kind: str, centre: tuple[float, float], size: float, contrast: float) -> PlantedDefect:
        """Return a planted defect with a random direction, its contrast weakened by the severity."""
        turn, seed = float(self.rng.uniform(0, 360)), int(self.rng.integers(2**32))
        return PlantedDefect(kind, size, contrast * self.fade, centre, turn, seed)

    def points_around(self, point: NDArray[np.float64]) -> Float:
        """Return the pixels of the image as points (H, W, 2) (x, y), relative to a point."""
        rows, columns = self.mask.shape
        return np.stack(np.meshgrid(np.arange(columns) - point[0], np.arange(rows) - point[1]), -1).astype(np.float32)

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
        return float(xs[i]), float(ys[i])

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


def _draw_visibly(image: Image, mask: Image, kind: str, rng: np.random.Generator, severity: float) -> Image:
    """Try positions until the defect is visible on most of the pixels that it changes, and use the best one."""
    site = _Site(image, mask, design_unit((image.shape[1], image.shape[0])), rng, severity)
    best: Image = image
    best_share = 0.0
    for _ in range(TRIES):
        if kind in _PLANTED:
            trial = plant(image, _PLANTED[kind](site), np.eye(3), mask > 0).image
        else:
            trial = _paint(site, _PAINTED[kind](site))
        changed = np.abs(trial.astype(np.int16) - image).max(axis=2)
        share = float((changed >= VISIBLE_CHANGE).sum() / max(1, np.count_nonzero(changed)))
        if share > best_share:
            best, best_share = trial, share
        if best_share >= ENOUGH_VISIBLE:
            break
    if not best_share:
        raise InputError(f"a defect of kind {kind!r} is not visible anywhere on this component")
    defect = np.where(np.abs(best.astype(np.int16) - image).max(axis=2) >= VISIBLE_CHANGE, 255, 0).astype(np.uint8)
    image[:] = best
    return defect


def _paint(site: _Site, paints: list[_Paint]) -> Image:
    """Return a copy of the component with layers on it."""
    image: Image = site.image.copy()
    for paint in paints:
        on_part = np.where(site.mask > 0, paint.coverage, 0).astype(np.float32)
        blend(image, on_part * np.float32(paint.opacity * site.fade), paint.colour)
    return image


def _scratch(site: _Site) -> PlantedDefect:
    contrast = site.sign(bright=0.6) * float(site.rng.uniform(0.55, 0.85))
    return site.planted("scratch", site.centre(), site.size(3, 7, at_least=0.5), contrast)


def _fibre(site: _Site) -> PlantedDefect:
    contrast = site.sign(bright=0.5) * 0.7
    return site.planted("fibre", site.centre(), site.size(3, 5, at_least=0.5), contrast)


def _open(site: _Site) -> PlantedDefect:
    """Missing copper: the substrate is visible."""
    return site.planted("missing_print", site.centre(copper=True), site.size(19, 31, at_least=3), 0.6)


def _short(site: _Site) -> PlantedDefect:
    """Copper that connects neighbouring traces."""
    return site.planted("extra_print", site.centre(copper=False), site.size(17, 29, at_least=3), 1.2)


def _stain(site: _Site) -> PlantedDefect:
    contrast = -float(site.rng.uniform(0.3, 0.5))
    return site.planted("stain", site.centre(), site.size(42, 95, at_least=5), contrast)


def _splash(site: _Site) -> list[_Paint]:
    """A solder splash: a bright drop with a dark rim and a highlight, and a small drop next to it."""
    centre, radius = np.array(site.centre()), site.size(9, 22, at_least=1.5)
    direction = float(site.rng.uniform(0, 2 * np.pi))
    droplet = centre + radius * 1.7 * np.array([np.cos(direction), np.sin(direction)])
    small = max(0.8, radius * 0.35)

    def drop(point: NDArray[np.float64], radius: float, colour: Colour) -> _Paint:
        level = disc(2 * radius)(site.points_around(point))
        return _Paint(np.clip(0.5 - level, 0, 1).astype(np.float32), colour, 0.95)

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
    piece = blob(rng, site.size(26, 58, at_least=3.2), roughness=0.3, flatness=float(rng.uniform(0.6, 1)))
    torn = (piece(site.points_around(np.array([xs[i], ys[i]]))) < 0) & (mask > 0)
    torn[ys[i], xs[i]] = True
    mask[torn] = 0
    image[torn] = 0
    return np.where(torn, 255, 0).astype(np.uint8)


def _square(side: int) -> Image:
    return np.ones((side, side), np.uint8)


_PLANTED: dict[str, Callable[[_Site], PlantedDefect]] = {
    "scratch": _scratch,
    "open": _open,
    "short": _short,
    "stain": _stain,
    "fibre": _fibre,
}
_PAINTED: dict[str, Callable[[_Site], list[_Paint]]] = {
    "splash": _splash,
    "missing_pad": _missing_pad,
}
KINDS = (*_PLANTED, *_PAINTED, "torn_edge")
