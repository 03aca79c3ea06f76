"""The normal distribution of features in each cell of the grid, and distances from it (Defard et al. 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.train_model.patch_features.features import Features
from pixal.train_model.patch_features.patch_model import Arrays


def distribution(features: Features, regularisation: float) -> Arrays:
    """Compute the mean and factors of the inverse covariance of the features in each cell.

    The covariance is S = X^T X / (n - 1) + e I, with the n deviations X from the mean and the ``regularisation`` e
    (Defard et al. 2020, equation 1). If there are at least as many images as features, ``factor`` is L^-1, with
    L L^T = S. With fewer images, ``factor`` is F = M^-1 X, with M M^T = X X^T + (n - 1) e I, and ``remainder`` is M^-T
    times sqrt((n - 1) e). Then S^-1 = (I - F^T F) / e by Woodbury's identity, which needs less memory and is as exact.

    Args:
        features: Features of n images in p cells, (n, p, D).
        regularisation: The value e that is added to each variance.

    Returns:
        float32 arrays: ``mean``, (p, D); ``factor``, (p, D, D), or (p, n, D) if n < D; ``remainder``, (p, n, n), only
        if n < D.
    """
    count, _, depth = features.shape
    deviations = np.ascontiguousarray(features.transpose(1, 0, 2), np.float64)
    mean = deviations.mean(1)
    deviations -= mean[:, None]
    freedom = max(1, count - 1)
    arrays: Arrays = {"mean": mean.astype(np.float32)}
    if count < depth:
        inverse = _inverse_cholesky(deviations @ deviations.swapaxes(1, 2), freedom * regularisation)
        arrays["factor"] = np.asarray(inverse @ deviations, np.float32)
        arrays["remainder"] = np.asarray(inverse.swapaxes(1, 2) * np.sqrt(freedom * regularisation), np.float32)
    else:
        covariance = deviations.swapaxes(1, 2) @ deviations / freedom
        arrays["factor"] = _inverse_cholesky(covariance, regularisation).astype(np.float32)
    return arrays


def mahalanobis(features: Features, learned: Arrays, regularisation: float) -> NDArray[np.float32]:
    """Compute Mahalanobis distances of features from a ``distribution``.

    The distance is sqrt(x^T S^-1 x) for a deviation x from the mean (Defard et al. 2020, equation 2).

    Args:
        features: (n, p, D).
        learned: The result of ``distribution``.
        regularisation: The value with which ``distribution`` was called.

    Returns:
        (n, p).
    """
    deviations = np.ascontiguousarray((features - learned["mean"]).transpose(1, 0, 2))
    projected = deviations @ learned["factor"].swapaxes(1, 2)
    if "remainder" in learned:
        # e x^T S^-1 x = |y|² + |M^-T F x|² (n - 1) e with y = x - F^T F x. This is a sum; in the difference
        # x^T x - |F x|² all digits may cancel.
        outside = deviations - projected @ learned["factor"]
        squares = np.square(outside).sum(2) + np.square(projected @ learned["remainder"].swapaxes(1, 2)).sum(2)
        squares /= np.float32(regularisation)
    else:
        squares = np.square(projected).sum(2)
    return np.asarray(np.sqrt(squares).T, np.float32)


def _inverse_cholesky(matrices: NDArray[np.float64], added: float) -> NDArray[np.float64]:
    """Return L^-1 for symmetric matrices (p, k, k), with L L^T = matrix + ``added`` I. Changes ``matrices``."""
    diagonal = np.arange(matrices.shape[1])
    matrices[:, diagonal, diagonal] += added
    return np.asarray(np.linalg.inv(np.linalg.cholesky(matrices)), np.float64)
