"""Mean and covariance of the channels at each pixel, and the matrix that removes what the channels have in common."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.spread import error_variance
from pixal.inputs import InputSet
from pixal.train_model.family import Rows

Planes = NDArray[np.float32]

_NEIGHBOURS = 4.0  # sigma, input pixels, of the neighbourhood whose covariance stands in for a pixel's
_STRIP = 32  # lines of pixels whose matrices are worked on at a time
# A channel that varies less does not vary: the colour channels of a grey photograph scatter by up to 2e-5 because of
# rounding, a hundredth of an 8-bit level. Correlations of rounding errors need not form a correlation matrix.
_CONSTANT = 1e-9  # variance


def moments(inputs: InputSet, rows: Rows) -> tuple[Planes, Planes]:
    """Mean (C, H, W), and covariance (C (C + 1) / 2, H, W) of the channels, at each pixel of ``inputs[rows]``.

    The pairs of channels are in the order of ``numpy.triu_indices``. One pass, an image in memory at a time (Welford
    1962). Of a single image the covariance is 0.
    """
    height, width, channels = inputs.shape
    first, second = np.triu_indices(channels)
    mean = np.zeros((channels, height, width), np.float32)
    products = np.zeros((len(first), height, width), np.float32)
    for seen, row in enumerate(rows):
        deviation = np.ascontiguousarray(inputs.images(np.array([row]))[0].transpose(2, 0, 1)) - mean
        mean += deviation * np.float32(1 / (seen + 1))
        scaled = deviation * np.float32(seen / (seen + 1))
        for pair in range(len(first)):
            products[pair] += scaled[first[pair]] * deviation[second[pair]]
    return mean, products / np.float32(max(1, len(rows) - 1))


def whitening(covariance: Planes, mask: NDArray[np.bool_], count: int) -> NDArray[np.float32]:
    """The matrix (H, W, C, C) that takes from a deviation what the channels have in common; 0 beside the part.

    S^(1/2) R^(-1/2) S^(-1/2), R being the channels' correlation and S their variances: ZCA-cor whitening (Kessy, Lewin
    and Strimmer 2018), of all the one whose values stay nearest to their channels, brought back to the channels' units.
    Over the calibrated spread of its channels the sum of squares is the squared Mahalanobis distance.

    ``covariance``: of ``count`` images, as from ``moments``. S is the largest near the pixel, as in the calibration.
    """
    near = np.stack([_neighbours(plane, mask) for plane in covariance])
    packed = shrunk_correlation(_correlation(covariance), _correlation(near), mask, count)
    first, second = _pairs(covariance)
    spread = np.sqrt(error_variance(np.moveaxis(covariance[first == second], 0, -1), mask))
    channels = spread.shape[-1]
    found = np.zeros((*mask.shape, channels, channels), np.float32)
    for start in range(0, len(mask), _STRIP):
        lines = np.s_[start : start + _STRIP]
        full = np.empty((*mask[lines].shape, channels, channels), np.float32)
        full[..., first, second] = full[..., second, first] = np.moveaxis(packed[:, lines], 0, -1)
        values, vectors = np.linalg.eigh(full)
        values = np.maximum(values, 0.5 / count)  # at least 1 / count, see shrunk_correlation; less is rounding
        root = np.matmul(vectors * values[..., None, :] ** -0.5, np.swapaxes(vectors, -1, -2))
        in_units = root * spread[lines, :, :, None] / spread[lines, :, None, :]
        found[lines] = in_units * mask[lines][..., None, None]
    return found


def shrunk_correlation(own: Planes, near: Planes, mask: NDArray[np.bool_], count: int) -> Planes:
    """A pixel's correlations between its ``own`` of ``count`` images and those ``near`` it, (C (C + 1) / 2, H, W).

    As near to the latter as chance alone would scatter the former around them: the optimal intensity of Ledoit and
    Wolf (2003), with (1 - r²)² / (count - 1), the variance of a sample correlation, for the chance, and both of its
    sums taken over the neighbourhood. Then by 1 / ``count`` towards none: of one image there is none to be known.
    """
    first, second = _pairs(own)
    off = first != second
    chance = np.sum((1 - near[off] ** 2) ** 2, axis=0) / max(1, count - 1)
    apart = np.sum((own[off] - near[off]) ** 2, axis=0)
    share = np.clip(_neighbours(chance, mask) / np.maximum(_neighbours(apart, mask), 1e-12), 0, 1)
    found = (own + share * (near - own)) * np.float32(1 - 1 / count)
    found[~off] = 1
    return np.asarray(found, np.float32)


def _pairs(planes: Planes) -> tuple[Rows, Rows]:
    """The channels of each plane of a packed matrix."""
    return np.triu_indices(int((np.sqrt(8 * len(planes) + 1) - 1) / 2))


def _correlation(covariance: Planes) -> Planes:
    """Correlations of the channels in the place of their covariances; 0 with a channel that does not vary."""
    first, second = _pairs(covariance)
    variance = covariance[first == second]
    spread = np.sqrt(variance)
    varies = variance > _CONSTANT
    product = spread[first] * spread[second]
    found = np.divide(covariance, product, out=np.zeros_like(covariance), where=varies[first] & varies[second])
    return np.asarray(np.clip(found, -1, 1), np.float32)


def _neighbours(plane: Planes, mask: NDArray[np.bool_]) -> Planes:
    """The mean of (H, W) over a Gaussian neighbourhood, of the part's pixels alone."""
    inside = mask.astype(np.float32)
    return np.asarray(_blur(plane * inside) / np.maximum(_blur(inside), 1e-6), np.float32)


def _blur(plane: Planes) -> Planes:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT), np.float32)
