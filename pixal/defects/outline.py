"""Defects at the outline of a part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.defects.kind import Layer, Place, defect_kind
from pixal.defects.shapes import blob
from pixal.defects.site import Site
from pixal.errors import InputError

_CLEAR = 3.0  # reference pixels from the outline; closer pixels can be a mixture of part and plate


@defect_kind(size="diameter of the bite; half of it is on the part", reach=0.8, place=Place.OUTLINE)
def bite(site: Site) -> Layer:
    """A piece of the part is missing at its outline: the plate is seen.

    The plate is copied from outside the outline. Where another edge of the part or of the photograph is in the way, it
    has the median colour of the rest.
    """
    shift = _outwards(site) * (site.size * 0.65 + _CLEAR)
    plate = site.shifted((float(shift[0]), float(shift[1])))
    coverage = site.coverage(blob(site.rng, site.size, roughness=0.2))
    # Beyond the part, so that no line of mixed pixels stays where its outline was.
    coverage *= np.clip(site.depth + _CLEAR / 2, 0, 1)
    is_plate = ~site.is_on_part(site.points + shift) & ~np.isnan(plate[..., 0])
    visible = is_plate & (coverage > 0)
    if not visible.any():
        raise InputError("bite: no plate is visible beside the part at this place; choose another place")
    return Layer(coverage, np.where(is_plate[..., None], plate, np.median(plate[visible], axis=0)))


def _outwards(site: Site) -> NDArray[np.float32]:
    """Return the unit vector (x, y) from the part outwards, by least squares on the depths near the defect."""
    near = np.hypot(*np.moveaxis(site.points, -1, 0)) < max(site.size / 2, 3)
    if site.part is None or not near.any() or site.depth[near].min() > 0 or site.depth[near].max() < 0:
        raise InputError("bite: the outline of the part is not at this place; choose a place on the outline")
    columns = np.column_stack([site.points[near], np.ones(int(near.sum()))])
    slope = np.linalg.lstsq(columns, site.depth[near].astype(np.float64), rcond=None)[0][:2]
    return np.asarray(-slope / max(float(np.hypot(*slope)), 1e-9), np.float32)
