"""Mean and covariance of the channels at each pixel, and the matrix that removes the correlation of the channels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.spread import error_variance
from pixal.inputs import InputSet
from pixal.train_model.family import Rows

Planes = NDArray[np.float32]
"""One image plane per channel, or per pair of channels: (planes, H, W)."""

_NEIGHBOURHOOD_SIGMA = 4.0  # of the Gaussian neighbourhood over which correlations are averaged, input pixels
_STRIP_LINES = 32  # image lines whose matrices are in memory at a time
# A channel with a smaller variance is treated as constant. The colour channels of a grey photograph vary by up to 2e-5
# because of rounding, a hundredth of an 8-bit level, and correlations of rounding errors may not form a valid
# correlation matrix.
_CONSTANT_VARIANCE = 1e-9


def moments(inputs: InputSet, rows: Rows) -> tuple[Planes, Planes]:
    """Compute the mean and the covariance of the channels at each pixel of ``inputs[rows]``.

    One pass, with one image in memory at a time (Welford 1962).

    Returns:
        The mean, (C, H, W), and the covariance, (C (C + 1) / 2, H, W), with the pairs of channels in the order of
        ``numpy.triu_indices``. The covariance of a single image is 0.
    """
    height, width, channels = inputs.shape
    first, second = np.triu_indices(channels)
    mean = np.zeros((channels, height, width), np.float32)
    products = np.zeros((len(first), height, width), np.float32)
    for count, row in enumerate(rows):  # count: the images before this one
        deviation = np.ascontiguousarray(inputs.images(np.array([row]))[0].transpose(2, 0, 1)) - mean
        mean += deviation * np.float32(1 / (count + 1))
        scaled = deviation * np.float32(count / (count + 1))
        for pair in range(len(first)):
            products[pair] += scaled[first[pair]] * deviation[second[pair]]
    return mean, products / np.float32(max(1, len(rows) - 1))


def whitening(covariance: Planes, mask: NDArray[np.bool_], count: int) -> NDArray[np.float32]:
    """Compute the matrix that removes from a deviation what the channels have in common.

    The matrix is S^(1/2) R^(-1/2) S^(-1/2), with the correlation R of the channels and their variances S. This is
    ZCA-cor whitening (Kessy, Lewin and Strimmer 2018), scaled back to the units of the channels. Of all whitening
    transformations it keeps each value closest to its own channel. After division by the calibrated spread of the
    channels, the sum of squares is the squared Mahalanobis distance. S is the largest variance near the pixel, as in
    the calibration.

    Args:
        covariance: The covariance of the channels, as ``moments`` returns it.
        mask: The pixels of the part, (H, W).
        count: The number of images of the covariance.

    Returns:
        (H, W, C, C); 0 outside the part.
    """
    near = np.stack([_neighbourhood_mean(plane, mask) for plane in covariance])
    packed = shrunk_correlation(_correlation(covariance), _correlation(near), mask, count)
    first, second = _channel_pairs(covariance)
    spread = np.sqrt(error_variance(np.moveaxis(covariance[first == second], 0, -1), mask))
    channels = spread.shape[-1]
    matrices = np.zeros((*mask.shape, channels, channels), np.float32)
    for start in range(0, len(mask), _STRIP_LINES):
        lines = np.s_[start : start + _STRIP_LINES]
        correlation = np.empty((*mask[lines].shape, channels, channels), np.float32)
        correlation[..., first, second] = correlation[..., second, first] = np.moveaxis(packed[:, lines], 0, -1)
        values, vectors = np.linalg.eigh(correlation)
        # After shrunk_correlation, eigenvalues are at least 1 / count; smaller ones are due to rounding.
        values = np.maximum(values, 0.5 / count)
        root = np.matmul(vectors * values[..., None, :] ** -0.5, np.swapaxes(vectors, -1, -2))
        in_units = root * spread[lines, :, :, None] / spread[lines, :, None, :]
        matrices[lines] = in_units * mask[lines][..., None, None]
    return matrices


def shrunk_correlation(own: Planes, near: Planes, mask: NDArray[np.bool_], count: int) -> Planes:
    """Shrink the correlations at each pixel towards those of its neighbourhood, and then slightly towards 0.

    The shrinkage intensity is the optimal one of Ledoit and Wolf (2003): the expected scatter of the pixel's sample
    correlations divided by their observed distance from the neighbourhood. The scatter of a sample correlation r is
    (1 - r²)² / (count - 1). Both sums are taken over the neighbourhood. The second shrinkage, by 1 / ``count``, gives
    correlation 0 for a single image, which contains no information about it.

    Args:
        own: Correlations at each pixel, (C (C + 1) / 2, H, W).
        near: Correlations in the neighbourhood of each pixel, same shape.
        mask: The pixels of the part, (H, W).
        count: The number of images.
    """
    first, second = _channel_pairs(own)
    off_diagonal = first != second
    scatter = np.sum((1 - near[off_diagonal] ** 2) ** 2, axis=0) / max(1, count - 1)
    distance = np.sum((own[off_diagonal] - near[off_diagonal]) ** 2, axis=0)
    intensity = _neighbourhood_mean(scatter, mask) / np.maximum(_neighbourhood_mean(distance, mask), 1e-12)
    intensity = np.clip(intensity, 0, 1)
    shrunk = (own + intensity * (near - own)) * np.float32(1 - 1 / count)
    shrunk[~off_diagonal] = 1
    return np.asarray(shrunk, np.float32)


def _channel_pairs(planes: Planes) -> tuple[Rows, Rows]:
    """The two channels of each plane of a packed matrix."""
    return np.triu_indices(int((np.sqrt(8 * len(planes) + 1) - 1) / 2))


def _correlation(covariance: Planes) -> Planes:
    """Convert covariances to correlations; 0 where one of the channels is constant."""
    first, second = _channel_pairs(covariance)
    variance = covariance[first == second]
    spread = np.sqrt(variance)
    varies = variance > _CONSTANT_VARIANCE
    product = spread[first] * spread[second]
    correlation = np.divide(covariance, product, out=np.zeros_like(covariance), where=varies[first] & varies[second])
    return np.asarray(np.clip(correlation, -1, 1), np.float32)


def _neighbourhood_mean(plane: Planes, mask: NDArray[np.bool_]) -> Planes:
    """The mean over a Gaussian neighbourhood of each pixel, (H, W); only pixels of the part count."""
    foreground = mask.astype(np.float32)
    return np.asarray(_blur(plane * foreground) / np.maximum(_blur(foreground), 1e-6), np.float32)


def _blur(plane: Planes) -> Planes:
    sigma = _NEIGHBOURHOOD_SIGMA
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.float32)
