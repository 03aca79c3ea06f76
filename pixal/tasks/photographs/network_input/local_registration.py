"""Register a photograph locally: undo the smooth deformation that is left when the pose is right.

Flexible parts are bent a little differently each time. A pose moves them as rigid planes, so their print stays off by a
pixel or two, and its edges differ from those of the reference as much as a defect does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.tasks.photographs.network_input.pooling import average_pool
from pixal.tasks.photographs.network_input.robust import biweight, robust_scale

_PIXELS = 500_000  # the finest level has at most about this many, to limit the cost; at half the size print is aliased
_STEPS = (1, 2, 2)  # per level, each level with half the side of the next
_WINDOW = 0.05  # standard deviation of the finest level's window, in units of the square root of the area
_SMALLEST_WINDOW = 16.0  # pixels: larger than a defect on a small part
_LARGEST = 0.01  # largest displacement, in units of the square root of the area
_PRIOR = 0.07  # weight of the prior at the finest level; see ``_refine``
_MIN_SCALE = 1e-3  # of the residual: rounding to 8 bits
_GRID = 4  # the sums in windows are computed at every fourth pixel of a level
_SAMPLE_STEP = 2  # the median of the residual is that of every second row and column
_TINY = 1e-4  # keeps quotients finite where no pixel is used


@dataclass(frozen=True)
class RegistrationLevel:
    """The reference at one resolution.

    Attributes:
        cell: Side in pixels of the reference of a pixel of this level.
        reference: (h, w) grey levels.
        inside: (h, w) 1 where pixels are used, else 0.
        used: (h, w) grey levels where pixels are used, else 0.
        squares: Mean square of ``used`` in windows, as ``_smooth`` returns it.
        sigma: Standard deviation of the window, in pixels of this level.
        steps: Number of steps.
        prior: Weight of the prior; see ``_refine``.
    """

    cell: int
    reference: NDArray[np.float32]
    inside: NDArray[np.float32]
    used: NDArray[np.float32]
    squares: NDArray[np.float32]
    sigma: float
    steps: int
    prior: float


def registration_levels(reference: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[RegistrationLevel]:
    """Prepare a reference for ``find_displacement``: its levels, from coarse to fine.

    Args:
        reference: (H, W, 3) in [0, 1].
        mask: (H, W) pixels of the part; only these are used. A level at which none is left is omitted.
    """
    finest = max(1, round(float(np.sqrt(mask.size / _PIXELS))))
    sigma = max(_WINDOW * float(np.sqrt(mask.size)), _SMALLEST_WINDOW) / finest
    grey, levels = _grey(reference), []
    for level, steps in reversed(list(enumerate(reversed(_STEPS)))):
        cell = finest << level
        target, part = average_pool(grey, cell), average_pool(mask.astype(np.float32), cell)
        is_part = (part > 1 - 1e-6).astype(np.float32)
        inside = np.asarray(cv2.erode(is_part, np.ones((3, 3), np.uint8), borderValue=0), np.float32)
        if inside.any():
            # A pixel of this level is 2**level pixels of the finest one, so such a step is as much less likely.
            used = inside * target
            squares = _smooth(used * target, sigma)
            levels.append(RegistrationLevel(cell, target, inside, used, squares, sigma, steps, _PRIOR * 4**level))
    return levels


def find_displacement(image: NDArray[np.float32], levels: list[RegistrationLevel]) -> NDArray[np.float32]:
    """Find where each pixel of the reference is in an image that shows the same part, bent smoothly.

    The field minimises the squared difference of the grey levels in a Gaussian window around each pixel (Lucas and
    Kanade, 1981), from coarse to fine, with windows that become smaller. Wide windows tell print that repeats from its
    neighbour, and even the smallest (1/20 of the part's side) is much wider than a defect. Pixels that differ for
    another reason than their place, such as defects and serial numbers, have little weight (Tukey's biweight), and a
    slow change of brightness is allowed for.

    Args:
        image: (H, W, 3) in [0, 1], in the reference frame.
        levels: The reference, prepared by ``registration_levels``.

    Returns:
        (H, W, 2): the displacement (x, y) in pixels. It is at most 1/100 of the square root of the area.
    """
    field, grey = np.zeros((1, 1, 2), np.float32), _grey(image)
    for level in levels:
        start = _enlarge(field, level.inside) / level.cell
        field = level.cell * _refine(start, average_pool(grey, level.cell), level)
    largest = _LARGEST * float(np.sqrt(grey.size))
    return _enlarge(np.clip(field, -largest, largest), grey)


def undo_displacement(image: NDArray[np.float32], field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move the pixels of an image (H, W, 3) in [0, 1] to their places in the reference."""
    moved = _sample(image, field, cv2.INTER_CUBIC)
    return np.asarray(np.clip(moved, 0, 1, out=moved), np.float32)


def is_from(mask: NDArray[np.bool_], field: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether ``undo_displacement`` takes a pixel from inside a mask (H, W): (H, W)."""
    return np.asarray(_sample(mask.view(np.uint8), field, cv2.INTER_NEAREST) > 0)


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)


def _refine(field: NDArray[Any], image: NDArray[Any], level: RegistrationLevel) -> NDArray[Any]:
    """Take Gauss-Newton steps at one level.

    The prior is that steps are small. Its weight is the mean square of the gradients that counts as much, in units of
    the residual's variance.

    Args:
        field: (h, w, 2) displacement, in pixels of this level.
        image: (h, w) grey levels.
        level: The reference.

    Returns:
        The new field, (h, w, 2).
    """
    reference, inside, sigma = level.reference, level.inside, level.sigma
    step = _SAMPLE_STEP if inside[::_SAMPLE_STEP, ::_SAMPLE_STEP].any() else 1
    is_sampled = inside[::step, ::step] > 0
    for _ in range(level.steps):
        moved = _sample(image, field, cv2.INTER_LINEAR)
        gain = (_smooth(moved * level.used, sigma) + _TINY) / (level.squares + _TINY)
        residual = moved - _enlarge(gain, inside) * reference
        scale = float(robust_scale(np.median(np.abs(residual[::step, ::step][is_sampled])), _MIN_SCALE))
        weight = inside * biweight((residual / scale) ** 2)
        mean = (moved + reference) / 2
        dx, dy = (cv2.Sobel(mean, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
        wx, wy, total = weight * dx, weight * dy, _smooth(weight, sigma) + _TINY
        terms = (wx * dx, wx * dy, wy * dy, wx * residual, wy * residual)
        xx, xy, yy, xr, yr = (_smooth(term, sigma) / total for term in terms)
        xx, yy = xx + level.prior * scale**2, yy + level.prior * scale**2
        change = np.stack([yy * xr - xy * yr, xx * yr - xy * xr], axis=-1) / (xx * yy - xy**2)[..., None]
        field = field - _enlarge(cv2.GaussianBlur(change, (0, 0), sigma / _GRID / 2), inside)
    return field


def _smooth(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """The mean in a Gaussian window, on a grid that is ``_GRID`` times as coarse."""
    pooled = average_pool(np.asarray(values, np.float32), _GRID)
    return np.asarray(cv2.GaussianBlur(pooled, (0, 0), sigma / _GRID), np.float32)


def _enlarge(values: NDArray[np.float32], like: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(values, like.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _sample(image: NDArray[Any], field: NDArray[Any], interpolation: int) -> NDArray[np.float32]:
    """The image at each pixel plus its displacement."""
    height, width = image.shape[:2]
    x = np.arange(width, dtype=np.float32) + field[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field[..., 1]
    return np.asarray(cv2.remap(image, x, y, interpolation, borderMode=cv2.BORDER_REPLICATE), np.float32)
