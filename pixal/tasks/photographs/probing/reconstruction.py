"""How well images are reconstructed: MSE, MAE and SSIM."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

MEASURES = ("mse", "mae", "ssim")
_WINDOW = 7  # pixels, of SSIM: scikit-image's own


def reconstruction_measures(
    image: NDArray[np.float32], error: NDArray[np.float32], mask: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Mean squared error, mean absolute error and structural similarity (Wang et al. 2004) of each channel, (C,).

    ``image`` (H, W, C) in [0, 1]; ``error`` (H, W, C): it minus its reconstruction; ``mask`` (H, W): the pixels that
    count. Beside them the reconstruction is taken to be right: what is there comes into no window.
    """
    error = np.where(mask[..., None], error, 0).astype(np.float64)
    inside = error[mask]
    exact = image.astype(np.float64)
    window = min(_WINDOW, *(size - 1 + size % 2 for size in mask.shape))
    _, similar = structural_similarity(
        exact, exact - error, win_size=window, data_range=1.0, channel_axis=-1, full=True
    )
    return {"mse": (inside**2).mean(0), "mae": np.abs(inside).mean(0), "ssim": similar[mask].mean(0)}
