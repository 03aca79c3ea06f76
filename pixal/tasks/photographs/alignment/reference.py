"""Choose a type's reference: the photograph most like the others, before any of them is aligned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.images import as_uint8

Matrix = NDArray[np.float64]

_SIDE = 32  # of the upright picture of the part
_FINER = 4  # times, at first: a warp does not average over the pixels it skips
_WORK_PX = 320  # the part's longer side while the picture is made
_MOST = 500  # portraits that are compared, each with each; of more, these many evenly spaced ones
# What follows the picture in a descriptor (how many numbers), and the least difference in it that counts: CIELAB units,
# the logarithm of the sharpness, degrees, the logarithm of the size, and shares of the part's size.
_FIGURES = {"light": 3, "sharpness": 1, "angle": 1, "size": 1, "place": 2}
_LEAST = {"picture": 1.0, "light": 1.0, "sharpness": 0.05, "angle": 1.0, "size": 0.01, "place": 0.02}
_TYPICAL = 0.3  # the share of the photographs, the more typical ones, of which the cleanest is chosen
_LEAST_SPREAD = 0.5  # CIELAB units; what good parts differ by at a place of the picture
_SPOTS = 3  # places of the picture that a defect shows at


def describe_appearance(image: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What a part looks like and how it lies, (k,), on a photograph (H, W, 3), 8- or 16-bit RGB, by its mask (H, W).

    First its picture in CIELAB less the median, turned upright by the smallest rectangle around it, in whole numbers;
    then its light, sharpness, angle in degrees, size and place.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    part, inside = as_uint8(np.ascontiguousarray(image[window][..., :3])), mask[window].view(np.uint8)
    step = max(1.0, max(width, height) / _WORK_PX)
    size = (max(1, round(width / step)), max(1, round(height / step)))
    share = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    light = np.median(lab[share >= share.max() / 2], axis=0)
    outlines, _ = cv2.findContours(np.uint8(share >= share.max() / 2), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    centre, sides, angle = cv2.minAreaRect(np.concatenate(outlines))
    picture = _upright((lab - light) * share[..., None], centre, sides, angle)
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    contrast, detail = (
        cv2.meanStdDev(plane, mask=inside)[1].item() for plane in (grey, cv2.Laplacian(grey, cv2.CV_16S))
    )
    extent = np.sqrt(np.count_nonzero(mask))
    place = (np.array([x, y]) + np.array(centre) * step) / extent
    figures = [*light, np.log((1 + detail) / (1 + contrast)), angle, np.log(extent), *place]
    return np.concatenate([np.rint(picture).ravel(), figures]).astype(np.float32)


def most_typical(portraits: NDArray[np.float32]) -> int:
    """The index of the descriptor, of (n, k), n > 0, of a good and typical photograph; the first where several tie.

    Of those whose median difference from the others is small in every respect, the one whose picture shows the least
    that the others do not. As medians, both hold while less than half of the photographs are bad.
    """
    compared = np.linspace(0, len(portraits) - 1, min(len(portraits), _MOST)).round().astype(np.intp)
    chosen = portraits[compared].astype(np.float64)
    pictures, figures = np.split(chosen, [-sum(_FIGURES.values())], axis=1)
    named = dict(zip(_FIGURES, np.split(figures, np.cumsum([*_FIGURES.values()])[:-1], axis=1), strict=True))
    gaps = {name: np.linalg.norm(values[:, None] - values, axis=-1) for name, values in named.items()}
    gaps["picture"], turns = _picture_gaps(pictures)
    gaps["angle"] = np.abs((named["angle"] - named["angle"].T - 90 * turns + 180) % 360 - 180)
    strangeness = np.zeros(len(chosen))
    for name, gap in gaps.items():
        usual = np.median(gap, axis=1)
        strangeness += usual / max(_LEAST[name], float(np.median(usual)))
    typical = strangeness <= np.quantile(strangeness, _TYPICAL)
    spots = _spots(pictures, turns[np.argmin(strangeness)])
    return int(compared[np.argmin(np.where(typical, spots, np.inf))])


def _upright(values: NDArray[np.float32], centre: Sequence[float], sides: Sequence[float], angle: float) -> Matrix:
    """What a turned rectangle of (h, w, 3) values holds as (_SIDE, _SIDE, 3): its sides become the square's."""
    fine = _SIDE * _FINER
    turn = np.deg2rad(angle)
    axes = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * np.array(sides) / fine
    back = np.column_stack([axes, np.array(centre) - axes.sum(1) * (fine - 1) / 2])
    picture = cv2.warpAffine(values, back, (fine, fine), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float64)


def _picture_gaps(pictures: Matrix) -> tuple[Matrix, NDArray[np.intp]]:
    """Root mean square differences (n, n) of pictures (n, p), and the quarter turns of the second that make it least.

    A rectangle's sides do not tell which is the top.
    """
    square = pictures.reshape(len(pictures), _SIDE, _SIDE, 3)
    power = (pictures**2).sum(1)
    turned = [np.rot90(square, quarters, (1, 2)).reshape(pictures.shape) for quarters in range(4)]
    # Whole numbers: their products add up without rounding, so that no order of summation shows.
    gaps = np.array([power[:, None] + power - 2 * pictures @ other.T for other in turned])
    return np.sqrt(gaps.min(0) / pictures.shape[1]), gaps.argmin(0)


def _spots(pictures: Matrix, turns: NDArray[np.intp]) -> NDArray[np.float64]:
    """How far the strangest places of each picture, turned by so many quarters, are from the median picture's.

    In median distances from it at that place: a serial number differs on every good part.
    """
    square = pictures.reshape(len(pictures), _SIDE, _SIDE, 3)
    turned = np.array([np.rot90(picture, quarters) for picture, quarters in zip(square, turns, strict=True)])
    away = np.abs(turned - np.median(turned, axis=0))
    places = (away / np.maximum(np.median(away, axis=0), _LEAST_SPREAD)).max(-1).reshape(len(pictures), -1)
    return np.asarray(np.sort(places, axis=1)[:, -_SPOTS:].mean(1))
