"""Defects that are lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.defects.kind import Layer, defect_kind
from pixal.defects.shapes import arc, curl, stroke
from pixal.defects.site import Site

SCRATCH_LENGTH, FIBRE_LENGTH = 20.0, 30.0
"""Lengths in widths, with the round ends."""
_SAG = 0.06  # largest sag of a scratch over its length


@defect_kind(size="width; 20 widths long", reach=10.5, is_signed=True)
def scratch(site: Site) -> Layer:
    """A slightly bent line."""
    length = (SCRATCH_LENGTH - 1) * site.size
    track = arc(length, site.rng.uniform(-_SAG, _SAG) * length)
    return Layer(site.coverage(stroke(track, site.size)), film(site))


@defect_kind(size="width; 30 widths long", reach=16.0, is_signed=True)
def fibre(site: Site) -> Layer:
    """A curled line, as a hair or a crack."""
    track = curl(site.rng, (FIBRE_LENGTH - 1) * site.size)
    return Layer(site.coverage(stroke(track, site.size)), film(site))


def film(site: Site) -> NDArray[np.float32]:
    """Return a black film over the site, or a white one if the defect is bright."""
    return np.full(site.pixels.shape, float(site.is_bright), np.float32)
