"""Defects that are round: spots and stains."""

from __future__ import annotations

import numpy as np

from pixal.defects.kind import Layer, defect_kind
from pixal.defects.shapes import blob, disc
from pixal.defects.site import Site
from pixal.defects.strokes import film

_BROWN = np.array([0.5, 0.25, 0.0], np.float32)  # how much of R, G, B the thickest film lets through
_THIN = 0.55  # opacity of a stain far from its rim


@defect_kind(size="diameter at half of the contrast", reach=0.7, is_signed=True)
def spot(site: Site) -> Layer:
    """A round spot with a soft edge, a quarter of its diameter wide."""
    return Layer(site.coverage(disc(site.size), site.size / 4), film(site))


@defect_kind(size="diameter of the circle of the same area", reach=0.95, is_signed=True)
def stain(site: Site) -> Layer:
    """An uneven, translucent film with a denser rim, as a dried drop: brown, or white if it is bright."""
    outline = blob(site.rng, site.size, roughness=0.22, flatness=site.rng.uniform(0.6, 1))
    rim = np.exp(np.minimum(outline(site.points), 0) / (0.1 * site.size))
    coverage = site.coverage(outline, 0.06 * site.size) * (_THIN + (1 - _THIN) * rim).astype(np.float32)
    if site.is_bright:
        return Layer(coverage, film(site))
    tint = _BROWN if site.pixels.shape[2] == 3 else np.float32(_BROWN.mean())
    return Layer(coverage, site.pixels * tint)
