"""Rendered photographs and comparisons of masks, shared by the tests of preprocessing."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.synthetic import RenderedPhotograph, draw_component, render_photograph

cached_component = functools.cache(draw_component)
"""Image and mask of the component; tests must not change them."""


@functools.cache
def rendered_photograph(
    type_name: str,
    seed: int,
    *kinds: str,
    size: tuple[int, int] = (640, 360),
    turn: float = 0.0,
    scale: float = 1.0,
) -> RenderedPhotograph:
    """Render a photograph of ``size`` (width, height) with defects of the given kinds."""
    rng = np.random.default_rng(seed)
    return render_photograph(*cached_component(type_name, size), kinds, rng, frame_size=size, turn=turn, scale=scale)


def overlap(mask: NDArray[np.bool_], truth: NDArray[Any]) -> float:
    """Return the intersection over union of a mask and the pixels above 0 of another."""
    is_true = truth > 0
    return float((mask & is_true).sum() / (mask | is_true).sum())
