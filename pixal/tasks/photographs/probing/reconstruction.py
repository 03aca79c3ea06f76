"""Measures of how well images are reconstructed (MSE, MAE and SSIM), and their statistics over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

MEASURES = ("mse", "mae", "ssim")
_WINDOW = 7  # pixels, the default SSIM window of scikit-image


@dataclass(frozen=True)
class Statistics:
    """Mean and spread of a measure over images.

    Attributes:
        mean: The mean.
        std: The standard deviation.
    """

    mean: float
    std: float


@dataclass(frozen=True)
class MeasureStatistics:
    """Statistics of a measure over images.

    Attributes:
        mean: The mean of the measure, averaged over the channels.
        std: The standard deviation of the measure, averaged over the channels.
        channels: The statistics of each channel, by name.
    """

    mean: float
    std: float
    channels: dict[str, Statistics]


def reconstruction_measures(
    image: NDArray[np.float32], error: NDArray[np.float32], mask: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Return mean squared error, mean absolute error and structural similarity (Wang et al. 2004) of each channel.

    Args:
        image: (H, W, C), in [0, 1].
        error: (H, W, C), the image minus its reconstruction.
        mask: (H, W), the pixels that count. The error is taken as 0 elsewhere, also in the windows of the structural
            similarity.

    Returns:
        The C values of each measure, by its name in ``MEASURES``.
    """
    error = np.where(mask[..., None], error, 0).astype(np.float64)
    masked_error = error[mask]
    original = image.astype(np.float64)
    window = min(_WINDOW, *(size - 1 + size % 2 for size in mask.shape))
    _, similarity = structural_similarity(
        original, original - error, win_size=window, data_range=1.0, channel_axis=-1, full=True
    )
    return {
        "mse": (masked_error**2).mean(0),
        "mae": np.abs(masked_error).mean(0),
        "ssim": similarity[mask].mean(0),
    }


def measure_statistics(values: NDArray[np.float64], channels: Sequence[str]) -> dict[str, MeasureStatistics]:
    """Return the statistics of each measure.

    Args:
        values: (N, M, C), the M measures of N images in the order of ``MEASURES``.
        channels: The names of the C channels.
    """
    statistics = {}
    for index, measure in enumerate(MEASURES):
        by_channel = values[:, index]
        average = by_channel.mean(1)
        statistics[measure] = MeasureStatistics(
            float(average.mean()),
            float(average.std()),
            {
                channel: Statistics(float(column.mean()), float(column.std()))
                for channel, column in zip(channels, by_channel.T, strict=True)
            },
        )
    return statistics
