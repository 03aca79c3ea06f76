"""Spread planted defects over a part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.defects.kind import Place, load_kind
from pixal.defects.planting import PlantedDefect
from pixal.errors import InputError


def sample_defects(
    part: NDArray[np.bool_],
    kinds: Sequence[str],
    sizes: Sequence[float],
    contrasts: Sequence[float],
    *,
    places: int,
    seed: int,
    image: NDArray[Any] | None = None,
) -> list[PlantedDefect]:
    """Return planted defects of each kind, size and contrast, spread evenly over a part.

    Args:
        part: (H, W), the pixels of the reference frame that show the part, for example the consensus mask.
        kinds: Names of kinds of defects.
        sizes: Sizes in reference pixels.
        contrasts: Contrasts. A kind that cannot be darker than what lies beneath uses their absolute values.
        places: Number of defects per kind, size and contrast. They lie in areas of the same size, one in each.
        seed: Seed of the places, orientations and shapes.
        image: (H, W) or (H, W, 3), a good part in the reference frame; for kinds at the edges of the print.

    Returns:
        The defects, in the order of kinds, sizes, contrasts and places. The centre of each is at least half its size
        inside the part, or on the outline for kinds that occur there.

    Raises:
        ConfigError: If a kind is unknown.
        InputError: If a kind has no place on the part, or needs the ``image``.
    """
    rng = np.random.default_rng(seed)
    depth = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    edges = None
    defects = []
    for name, size in product(kinds, sizes):
        kind = load_kind(name)
        allowed = depth > size / 2
        if kind.place is Place.OUTLINE:
            allowed = _outline(part)
        elif kind.place is Place.PRINT_EDGE:
            edges = _print_edges(part, image, name) if edges is None else edges
            allowed &= edges
        if not allowed.any():
            raise InputError(
                f"{name} of {size:g} pixels has no place on the part ({kind.place.value}); "
                "use smaller sizes or leave it out"
            )
        own = contrasts if kind.is_signed else list(dict.fromkeys(abs(c) for c in contrasts))
        points = _spread(allowed, len(own) * places, rng)
        # Of each run of neighbouring places, every contrast gets one, in random order.
        cells = rng.permuted(np.tile(np.arange(len(own)), (places, 1)), axis=1)
        for i, contrast in enumerate(own):
            defects += [
                PlantedDefect(
                    kind=name,
                    size=float(size),
                    contrast=float(contrast),
                    place=(float(x), float(y)),
                    orientation=float(rng.uniform(0, 360)),
                    seed=int(rng.integers(2**32)),
                )
                for x, y in points[cells.ravel() == i]
            ]
    return defects


def _spread(allowed: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return points (count, 2), one in each of ``count`` equal parts of the allowed pixels, in their order.

    The parts are compact, because they are cut from the allowed pixels in the order of a Hilbert curve.
    """
    y, x = np.nonzero(allowed)
    order = np.argsort(_hilbert_index(x, y), kind="stable")
    drawn = order[((np.arange(count) + rng.random(count)) * len(order) / count).astype(np.int64)]
    return np.stack([x[drawn], y[drawn]], -1) + rng.uniform(-0.5, 0.5, (count, 2))


def _hilbert_index(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of pixels (N,) along a Hilbert curve (Hilbert 1891): neighbours on it are neighbours."""
    x, y = x.copy(), y.copy()
    index = np.zeros_like(x)
    side = 1 << int(max(x.max(), y.max(), 1)).bit_length()
    while side := side // 2:
        right, low = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * right) ^ low)
        # In a left quadrant and above, the curve is turned; in a right one also mirrored.
        mirrored = ~low & right
        x[mirrored], y[mirrored] = side - 1 - (x[mirrored] & (side - 1)), side - 1 - (y[mirrored] & (side - 1))
        turned = ~low
        x[turned], y[turned] = y[turned].copy(), x[turned].copy()
    return index


def _outline(part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the outermost pixels of the part (H, W). The frame cuts a part, so its border is no outline."""
    inner = cv2.erode(part.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=(1,)) > 0
    return np.asarray(part & ~inner)


def _print_edges(part: NDArray[np.bool_], image: NDArray[Any] | None, name: str) -> NDArray[np.bool_]:
    """Return the pixels (H, W) of the part whose gradient is above Otsu's threshold."""
    if image is None:
        raise InputError(f"{name} occurs at edges of the print: give the image of a good part in the reference frame")
    grey = (image.mean(-1) if image.ndim == 3 else image).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 1)
    gradient = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    inside = cv2.erode(part.astype(np.uint8), np.ones((7, 7), np.uint8), borderValue=(1,)) > 0
    if not inside.any():
        return inside
    levels = np.clip(gradient * (255 / max(float(gradient[inside].max()), 1e-9)), 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels[inside], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(inside & (levels > threshold))
