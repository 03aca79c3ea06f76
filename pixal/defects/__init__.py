"""Plant defects of known kind, size, contrast and place on photographs of good parts.

A kind is one function that says which pixels it covers and what they look like at full strength (``kind.py``).
``plant`` puts it on a photograph, with exactly the contrast that was asked for. ``sample_defects`` spreads defects over
a part.
"""

from __future__ import annotations

from pixal.defects.kind import DefectKind, Layer, Place, defect_kind, load_kind
from pixal.defects.planting import PlantedDefect, PlantedPhotograph, plant
from pixal.defects.sampling import sample_defects
from pixal.defects.site import Site

__all__ = [
    "DefectKind",
    "Layer",
    "Place",
    "PlantedDefect",
    "PlantedPhotograph",
    "Site",
    "defect_kind",
    "load_kind",
    "plant",
    "sample_defects",
]
