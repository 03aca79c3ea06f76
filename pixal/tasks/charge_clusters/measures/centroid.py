"""The charge-weighted centroid of a cluster, with and without an eta correction: what a network is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError

PITCH = 50.0, 12.5
"""Size of a pixel along x and y in µm."""

NARROW, WIDE = 0, 1  # clusters of two pixels along an axis, and of more
_QUANTILES = 101
_SMALLEST_CLASS = 100  # events; the distribution of eta of fewer would be noise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CentroidFit:
    """What the training events tell: an offset, and the distribution of eta.

    Attributes:
        pitch: Size of a pixel along x and y in µm.
        offset: The mean of truth - centroid along x and y in µm (2,); the Lorentz angle makes it differ from 0.
        eta: For x and y, and for narrow and wide clusters, rising values of eta, (2, 2, Q); None: no eta correction.
        places: The corrected place between two pixel centres for each of them, (2, 2, Q), from 0 to 1.
    """

    pitch: tuple[float, float]
    offset: NDArray[np.float64]
    eta: NDArray[np.float64] | None = None
    places: NDArray[np.float64] | None = None


def centroid(charge: NDArray[Any], fit: CentroidFit | None = None, *, pitch: tuple[float, float] = PITCH) -> Array:
    """Estimate x and y of clusters from the charge of their last slice.

    Args:
        charge: In electrons, (n, rows, columns, slices). Pixels below 0 are noise and count as 0.
        fit: An offset and an eta correction; None: the plain centroid.
        pitch: Size of a pixel along x and y in µm, without ``fit``.

    Returns:
        x and y in µm from the centre of the sensor, (n, 2). An event without charge is at the centre.
    """
    positions, widths = _plain(charge)
    if fit is None:
        return np.asarray(positions * np.asarray(pitch))
    positions = _corrected(positions, widths, charge.shape[2:0:-1], fit)
    return np.asarray(positions * np.asarray(fit.pitch) + fit.offset)


def fit_centroid(
    charge: NDArray[Any], truth: NDArray[Any], *, eta: bool, pitch: tuple[float, float] = PITCH
) -> CentroidFit:
    """Fit the offset and, with ``eta``, the eta correction on training events.

    The eta of a cluster is the place of its centroid between two pixel centres, from 0 to 1. Tracks hit a pixel
    uniformly, but eta is not uniform, because charge is shared over a few µm only. The place is therefore replaced by
    the value of the distribution function of eta (Belau et al., Nucl. Instrum. Meth. 214 (1983) 253). Clusters of one
    pixel keep their centre, and count half at an eta of 0 and half at 1. Clusters of more than two pixels have a
    distribution of their own.

    Args:
        charge: As of ``centroid``.
        truth: True x and y in µm, (n, 2) or more columns.
        eta: Whether to fit the eta correction.
        pitch: Size of a pixel along x and y in µm.

    Raises:
        InputError: There is no event.
    """
    if not len(charge):
        raise InputError("there are no events to fit the centroid on")
    positions, widths = _plain(charge)
    sides = charge.shape[2:0:-1]
    fit = CentroidFit(pitch, np.zeros(2))
    if eta:
        distributions = [_eta_distributions(positions[:, axis], widths[:, axis], sides[axis]) for axis in range(2)]
        etas, places = (np.stack([pair[part] for pair in distributions]) for part in range(2))
        fit = replace(fit, eta=etas, places=places)
    residuals = np.asarray(truth, np.float64)[:, :2] - _corrected(positions, widths, sides, fit) * np.asarray(pitch)
    return replace(fit, offset=residuals.mean(axis=0))


def _eta_distributions(positions: Array, widths: NDArray[np.int_], side: int) -> tuple[Array, Array]:
    """Values of eta (2, Q) along one axis, of narrow and wide clusters, and their distribution functions (2, Q)."""
    fractions, steps = _place(positions, side)[1], np.linspace(0, 1, _QUANTILES)
    eta, places = np.stack([steps, steps]), np.stack([steps, steps])
    is_narrow = widths == 2
    for kind, chosen in ((NARROW, fractions[is_narrow]), (WIDE, fractions[widths > 2])):
        if len(chosen) >= _SMALLEST_CLASS:
            eta[kind] = np.quantile(chosen, steps)
    if is_narrow.sum() >= _SMALLEST_CLASS:
        single = np.mean(widths[widths <= 2] == 1)
        places[NARROW] = single / 2 + (1 - single) * steps
    return eta, places


def _plain(charge: NDArray[Any]) -> tuple[Array, NDArray[np.int_]]:
    """Centroids (n, 2) along x and y in pixels from the centre of the sensor, and their widths in pixels."""
    last = np.maximum(charge[..., -1], 0)
    positions, widths = [], []
    for axis in (1, 2):  # summed over rows: along x; over columns: along y
        profile = last.sum(axis=axis, dtype=np.float64)
        places = np.arange(profile.shape[1]) - (profile.shape[1] - 1) / 2
        total = profile.sum(axis=1)
        positions.append(profile @ places / np.where(total > 0, total, 1))
        widths.append(np.count_nonzero(profile, axis=1))
    return np.stack(positions, axis=1), np.stack(widths, axis=1)


def _place(positions: Array, side: int) -> tuple[Array, Array]:
    """The pixel centre below each position, and the place above it, from 0 to 1."""
    shifted = positions + (side - 1) / 2
    below = np.floor(shifted)
    return np.asarray(below - (side - 1) / 2), np.asarray(shifted - below)


def _corrected(positions: Array, widths: NDArray[np.int_], sides: tuple[int, ...], fit: CentroidFit) -> Array:
    """Positions (n, 2) with the eta correction, if ``fit`` has one; those of clusters of one pixel are kept."""
    if fit.eta is None or fit.places is None:
        return positions
    result: Array = positions.copy()
    for axis in range(2):
        below, fractions = _place(positions[:, axis], sides[axis])
        for kind, chosen in ((NARROW, widths[:, axis] == 2), (WIDE, widths[:, axis] > 2)):
            places = np.interp(fractions[chosen], fit.eta[axis, kind], fit.places[axis, kind])
            result[chosen, axis] = below[chosen] + places
    return result
