"""Choose the reference of a type: a good, typical photograph, chosen before any photograph is aligned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.images import as_uint8

Floats = NDArray[np.float64]

_SIDE = 32  # of the thumbnail of the part
_OVERSAMPLING = 4  # of the thumbnail when it is warped: a warp does not average the pixels that it skips
_WORK_PX = 320  # longer side of the part when the thumbnail is made
_MAX_COMPARED = 500  # descriptors; of more photographs, this many evenly spaced ones are compared
# The entries of a descriptor after the thumbnail, and the smallest difference in each that matters: CIELAB units, the
# logarithm of the sharpness, degrees, the logarithm of the size, and fractions of the part's size.
_ENTRIES = {"light": 3, "sharpness": 1, "angle": 1, "size": 1, "position": 2}
_MIN_GAP = {"thumbnail": 1.0, "light": 1.0, "sharpness": 0.05, "angle": 1.0, "size": 0.01, "position": 0.02}
_TYPICAL = 0.3  # fraction of the photographs, the most typical ones, among which the one without defects is chosen
_MIN_SPREAD = 0.5  # CIELAB units; differences between good parts at a pixel of the thumbnail
_SPOT_PX = 3  # pixels of the thumbnail in which a defect is visible


def describe_appearance(image: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Compute the appearance descriptor of a part: numbers that describe how it looks and lies.

    The descriptor holds a thumbnail of the part in CIELAB minus its median colour, turned upright by the smallest
    rectangle around the part and rounded to integers; then light, sharpness, angle in degrees, size and position.

    Args:
        image: (H, W, 3) RGB photograph, 8- or 16-bit.
        mask: (H, W) foreground mask.

    Returns:
        (K,) descriptor; K is the same for all photographs.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    part, inside = as_uint8(np.ascontiguousarray(image[window][..., :3])), mask[window].view(np.uint8)
    step = max(1.0, max(width, height) / _WORK_PX)
    size = (max(1, round(width / step)), max(1, round(height / step)))
    coverage = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    is_part = coverage >= coverage.max() / 2
    light = np.median(lab[is_part], axis=0)
    outlines, _ = cv2.findContours(np.uint8(is_part), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    centre, sides, angle = cv2.minAreaRect(np.concatenate(outlines))
    thumbnail = _upright_thumbnail((lab - light) * coverage[..., None], centre, sides, angle)
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    contrast, detail = (
        cv2.meanStdDev(plane, mask=inside)[1].item() for plane in (grey, cv2.Laplacian(grey, cv2.CV_16S))
    )
    extent = np.sqrt(np.count_nonzero(mask))
    position = (np.array([x, y]) + np.array(centre) * step) / extent
    entries = [*light, np.log((1 + detail) / (1 + contrast)), angle, np.log(extent), *position]
    return np.concatenate([np.rint(thumbnail).ravel(), entries]).astype(np.float32)


def most_typical(descriptors: NDArray[np.float32]) -> int:
    """Choose a good and typical photograph.

    Among the photographs whose median difference from the others is small in every respect, choose the one whose
    thumbnail shows the least that the others do not show. Medians hold while fewer than half of the photographs are
    bad.

    Args:
        descriptors: (N, K) appearance descriptors, N > 0.

    Returns:
        Row index of the photograph; the first one of equals.
    """
    compared = np.linspace(0, len(descriptors) - 1, min(len(descriptors), _MAX_COMPARED)).round().astype(np.intp)
    chosen = descriptors[compared].astype(np.float64)
    thumbnails, entries = np.split(chosen, [-sum(_ENTRIES.values())], axis=1)
    named = dict(zip(_ENTRIES, np.split(entries, np.cumsum([*_ENTRIES.values()])[:-1], axis=1), strict=True))
    gaps = {name: np.linalg.norm(values[:, None] - values, axis=-1) for name, values in named.items()}
    gaps["thumbnail"], quarter_turns = _thumbnail_gaps(thumbnails)
    gaps["angle"] = np.abs((named["angle"] - named["angle"].T - 90 * quarter_turns + 180) % 360 - 180)
    strangeness = np.zeros(len(chosen))
    for name, gap in gaps.items():
        median_gap = np.median(gap, axis=1)
        strangeness += median_gap / max(_MIN_GAP[name], float(np.median(median_gap)))
    typical = strangeness <= np.quantile(strangeness, _TYPICAL)
    deviations = _spot_deviations(thumbnails, quarter_turns[np.argmin(strangeness)])
    return int(compared[np.argmin(np.where(typical, deviations, np.inf))])


def _upright_thumbnail(
    values: NDArray[np.float32], centre: Sequence[float], sides: Sequence[float], angle: float
) -> Floats:
    """Warp the inside of a turned rectangle of (h, w, 3) values to a square (_SIDE, _SIDE, 3)."""
    side = _SIDE * _OVERSAMPLING
    turn = np.deg2rad(angle)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * np.array(sides) / side
    square_to_image = np.column_stack([axes, np.array(centre) - axes.sum(1) * (side - 1) / 2])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    square = cv2.warpAffine(values, square_to_image, (side, side), flags=flags)
    return np.asarray(cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float64)


def _thumbnail_gaps(thumbnails: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Compare all pairs of thumbnails (N, P).

    A rectangle does not show which of its sides is the top, so the second thumbnail is also turned by quarter turns.

    Returns:
        The smallest root mean square difference (N, N), and the quarter turns (N, N) that give it.
    """
    square = thumbnails.reshape(len(thumbnails), _SIDE, _SIDE, 3)
    power = (thumbnails**2).sum(1)
    turned = [np.rot90(square, quarters, (1, 2)).reshape(thumbnails.shape) for quarters in range(4)]
    # Integers: sums of their products are exact, so they do not depend on the order of summation.
    gaps = np.array([power[:, None] + power - 2 * thumbnails @ other.T for other in turned])
    return np.sqrt(gaps.min(0) / thumbnails.shape[1]), gaps.argmin(0)


def _spot_deviations(thumbnails: Floats, quarter_turns: NDArray[np.intp]) -> Floats:
    """Measure how far the strangest pixels of each thumbnail (N, P) are from the median thumbnail, (N,).

    The unit is the median distance at that pixel, because a serial number differs on every good part.
    """
    square = thumbnails.reshape(len(thumbnails), _SIDE, _SIDE, 3)
    turned = np.array([np.rot90(image, quarters) for image, quarters in zip(square, quarter_turns, strict=True)])
    distance = np.abs(turned - np.median(turned, axis=0))
    relative = distance / np.maximum(np.median(distance, axis=0), _MIN_SPREAD)
    by_pixel = relative.max(-1).reshape(len(thumbnails), -1)
    return np.asarray(np.sort(by_pixel, axis=1)[:, -_SPOT_PX:].mean(1))
