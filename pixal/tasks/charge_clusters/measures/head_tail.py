"""The position of a cluster from the charge of its first and last pixels: what wide clusters tell best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.tasks.charge_clusters.measures.centroid import CentroidFit, centroid, fit_centroid

NARROW, WIDEST = 2, 7
"""Clusters of at most ``NARROW`` pixels along an axis have nothing between their ends; those of at least ``WIDEST``
share a fit."""

_SMALLEST_CLASS = 100  # events; the fit to fewer would be noise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadTailFit:
    """What the training events tell.

    Attributes:
        centroid: The centroid with eta correction.
        weight: The weight of the ends, for x and y and for clusters of 3, 4, ..., ``WIDEST`` pixels, (2, 5); the
            centroid has the rest.
        offset: What is added for these clusters, in µm, (2, 5).
    """

    centroid: CentroidFit
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]


def head_tail(charge: NDArray[Any], fit: HeadTailFit) -> Array:
    """Estimate x and y of clusters from the charge of their last slice.

    An inclined track leaves about the same charge in each pixel that it crosses, but fluctuations of that charge move
    the centroid. They do not move the ends of the track: the place where it enters a pixel at an end follows from the
    charge there, divided by the mean charge of the pixels between (R. Turchetta, Nucl. Instrum. Meth. A 335 (1993) 44).
    Wide clusters get a weighted mean of this position and the centroid, narrow ones the centroid.

    Args:
        charge: In electrons, (n, rows, columns, slices). Pixels below 0 count as 0.
        fit: What ``fit_head_tail`` returned.

    Returns:
        x and y in µm from the centre of the sensor, (n, 2).
    """
    positions, widths = _ends(charge)
    result = centroid(charge, fit.centroid)
    distances = positions * np.asarray(fit.centroid.pitch) - result
    classes = np.clip(widths - NARROW - 1, 0, WIDEST - NARROW - 1)
    axes = np.arange(2)
    moved = result + fit.weight[axes, classes] * distances + fit.offset[axes, classes]
    return np.where(widths > NARROW, moved, result)


def fit_head_tail(charge: NDArray[Any], truth: NDArray[Any], *, pitch: tuple[float, float]) -> HeadTailFit:
    """Fit the centroid, and the weights and offsets by least squares; both are 0 where there are few events.

    Args:
        charge: As of ``head_tail``.
        truth: True x and y in µm, (n, 2) or more columns.
        pitch: Size of a pixel along x and y in µm.

    Raises:
        InputError: There is no event.
    """
    fit = fit_centroid(charge, truth, eta=True, pitch=pitch)
    positions, widths = _ends(charge)
    centroids = centroid(charge, fit)
    distances, residuals = positions * np.asarray(pitch) - centroids, np.asarray(truth)[:, :2] - centroids
    weight, offset = np.zeros((2, 2, WIDEST - NARROW))
    for axis in range(2):
        for width in range(NARROW + 1, WIDEST + 1):
            chosen = np.minimum(widths[:, axis], WIDEST) == width
            if chosen.sum() >= _SMALLEST_CLASS:
                slope, place = np.polyfit(distances[chosen, axis], residuals[chosen, axis], 1)
                weight[axis, width - NARROW - 1], offset[axis, width - NARROW - 1] = slope, place
    return HeadTailFit(fit, weight, offset)


def _ends(charge: NDArray[Any]) -> tuple[Array, NDArray[np.intp]]:
    """Positions (n, 2) along x and y in pixels from the centre, and the widths of the clusters in pixels, (n, 2)."""
    last = np.maximum(charge[..., -1], 0)
    along = [_ends_of_profile(last.sum(axis=axis, dtype=np.float64)) for axis in (1, 2)]  # over rows: along x
    positions, widths = (np.stack(parts, axis=1) for parts in zip(*along, strict=True))
    return positions, widths


def _ends_of_profile(profile: Array) -> tuple[Array, NDArray[np.intp]]:
    """The same along one axis, of charges (n, side): of the pixels with charge around the one with the most charge.

    Pixels further away are noise.
    """
    count, side = profile.shape
    places, rows = np.arange(side), np.arange(count)
    peak, is_empty = profile.argmax(axis=1)[:, None], profile <= 0
    first = np.where(is_empty & (places < peak), places, -1).max(axis=1) + 1
    last = np.where(is_empty & (places > peak), places, side).min(axis=1) - 1
    widths = last - first + 1
    inside = np.where((places > first[:, None]) & (places < last[:, None]), profile, 0).sum(axis=1)
    between = np.where(widths > NARROW, inside / np.maximum(widths - 2, 1), 1)
    head, tail = (np.minimum(profile[rows, end] / between, 1) for end in (first, last))
    return (first + last + tail - head - (side - 1)) / 2, widths
