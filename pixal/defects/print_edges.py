"""Defects at the edges of what is printed on a part: material is missing, or there is too much."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.defects.kind import Layer, Place, defect_kind
from pixal.defects.shapes import blob
from pixal.defects.site import Site

Floats = NDArray[np.float32]

_PURE = 0.2  # a pixel whose colour is this close to one of the two materials (0 to 1 between them) is wholly of it
_GRAIN = 4.0  # largest deviation of a pixel from its material, in median deviations; more is a third material


@defect_kind(size="diameter of the piece", reach=1.5, place=Place.PRINT_EDGE)
def missing_print(site: Site) -> Layer:
    """A piece of the brighter of two materials is missing: the darker one is seen."""
    materials = _find_materials(site)
    return Layer(_piece(site) * materials.share, materials.dark + materials.grain)


@defect_kind(size="diameter of the piece", reach=1.5, place=Place.PRINT_EDGE)
def extra_print(site: Site) -> Layer:
    """A piece of the brighter of two materials covers the darker one."""
    materials = _find_materials(site)
    return Layer(_piece(site) * (1 - materials.share), materials.bright + materials.grain)


@dataclass(frozen=True)
class _Materials:
    """The two materials around a defect.

    Attributes:
        bright: Colour of the brighter one, (C,).
        dark: Colour of the darker one, (C,).
        share: How much of each pixel is of the brighter one, (h, w).
        grain: How the pixels deviate from the colour of their material, (h, w, C). The pixels of a new piece keep it.
    """

    bright: Floats
    dark: Floats
    share: Floats
    grain: Floats


def _piece(site: Site) -> Floats:
    return site.coverage(blob(site.rng, site.size, roughness=0.15, flatness=site.rng.uniform(0.6, 1)))


def _find_materials(site: Site) -> _Materials:
    """Split the pixels around the defect by Otsu's threshold on their brightness."""
    near = (np.hypot(*np.moveaxis(site.points, -1, 0)) < 1.5 * site.size + 2 * site.pixel_size) & (site.depth > 1)
    colours = site.pixels[near] if near.any() else site.pixels.reshape(-1, site.pixels.shape[2])
    levels = np.rint(255 * colours.mean(1)).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    is_bright = levels > threshold
    bright, dark = (_median(colours[chosen] if chosen.any() else colours) for chosen in (is_bright, ~is_bright))
    difference = bright - dark
    share = (site.pixels - dark) @ difference / np.float32(max(float(difference @ difference), 1e-9))
    share = np.clip((share - _PURE) / (1 - 2 * _PURE), 0, 1)
    deviation = site.pixels - (dark + share[..., None] * difference)
    limit = _GRAIN * np.median(np.abs(deviation), axis=(0, 1))
    return _Materials(bright, dark, share, np.clip(deviation, -limit, limit))


def _median(colours: Floats) -> Floats:
    return np.asarray(np.median(colours, axis=0), np.float32)
