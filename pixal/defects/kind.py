"""Kinds of planted defects: their properties, and how they are found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pixal.defects.site import Site
from pixal.errors import ConfigError
from pixal.registry import DEFECTS


class Place(Enum):
    """The places on a part where defects of a kind occur."""

    INSIDE = "anywhere on the part"
    PRINT_EDGE = "at the edges of what is printed on the part"
    OUTLINE = "at the outline of the part"


@dataclass(frozen=True)
class Layer:
    """A defect at full strength.

    Attributes:
        coverage: (h, w) float32, how much of each pixel the defect covers, 0 to 1.
        pixels: (h, w, C) float32, what the defect looks like where it covers a pixel wholly. Values outside 0 to 1 are
            clipped.
    """

    coverage: NDArray[np.float32]
    pixels: NDArray[np.float32]


@dataclass(frozen=True)
class DefectKind:
    """A kind of planted defect.

    Attributes:
        draw: Returns the defect at full strength on a site.
        size: What the size of a defect is, for example "width of the line".
        reach: How far the defect and what it looks at extend from its centre, in sizes.
        place: Where on a part it occurs.
        is_signed: Whether it can be brighter (contrast above 0) or darker (below 0) than what lies beneath. The
            contrast of other kinds is at least 0.
    """

    draw: Callable[[Site], Layer]
    size: str
    reach: float
    place: Place
    is_signed: bool


def defect_kind(
    *, size: str, reach: float, place: Place = Place.INSIDE, is_signed: bool = False
) -> Callable[[Callable[[Site], Layer]], DefectKind]:
    """Make a kind of planted defect of the decorated function. The arguments are those of ``DefectKind``."""

    def decorate(draw: Callable[[Site], Layer]) -> DefectKind:
        return DefectKind(draw, size, reach, place, is_signed)

    return decorate


@cache  # finding the packages that are installed takes much longer than drawing a defect
def load_kind(name: str) -> DefectKind:
    """Return the kind of a name, of PIXAL or of an installed package.

    Raises:
        ConfigError: If the name is unknown, or what another package registered under it is not a kind of defect.
    """
    kind = DEFECTS.load(name)
    if not isinstance(kind, DefectKind):
        raise ConfigError(
            f"{DEFECTS.setting}: {name} ({DEFECTS.class_path(name)}) is no kind of defect; "
            "decorate its function with pixal.defects.defect_kind"
        )
    return kind
