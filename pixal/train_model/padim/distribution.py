"""The normal distribution of features in each cell of the grid, and distances from it (Defard et al. 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.train_model.patch_features.extractor import Features
from pixal.train_model.patch_features.levels import Arrays, Distances


def distribution(features: Features, added: NDArray[np.float32]) -> Arrays:
    """Compute the mean and factors of the inverse covariance of the features in each cell.

    The covariance is S = X^T X / (n - 1) + e I, with the n deviations X from the mean and the ``added`` value e
    (Defard et al. 2020, equation 1). If there are at least as many images as features, ``factor`` is L^-1, with
    L L^T = S. With fewer images, ``factor`` is F = M^-1 X, with M M^T = X X^T + (n - 1) e I, and ``remainder`` is M^-T
    times sqrt((n - 1) e). Then S^-1 = (I - F^T F) / e by Woodbury's identity, which needs less memory and is as exact.

    Args:
        features: Features of n images in p cells, (n, p, D).
        added: The value e that is added to each variance of a cell, (p,).

    Returns:
        float32 arrays: ``added``; ``mean``, (p, D); ``factor``, (p, D, D), or (p, n, D) if n < D; ``remainder``,
        (p, n, n), only if n < D.
    """
    mean, deviations = _deviations(features)
    count, depth = deviations.shape[1:]
    freedom = max(1, count - 1)
    ridge = freedom * added.astype(np.float64)
    arrays: Arrays = {"added": added, "mean": mean.astype(np.float32)}
    if count < depth:
        inverse = _inverse_cholesky(deviations @ deviations.swapaxes(1, 2), ridge)
        arrays["factor"] = np.asarray(inverse @ deviations, np.float32)
        arrays["remainder"] = np.asarray(inverse.swapaxes(1, 2) * np.sqrt(ridge)[:, None, None], np.float32)
    else:
        covariance = deviations.swapaxes(1, 2) @ deviations / freedom
        arrays["factor"] = _inverse_cholesky(covariance, ridge / freedom).astype(np.float32)
    return arrays


def mahalanobis(features: Features, learned: Arrays) -> Distances:
    """Compute Mahalanobis distances of features from a ``distribution``.

    The distance is sqrt(x^T S^-1 x) for a deviation x from the mean (Defard et al. 2020, equation 2).

    Args:
        features: (n, p, D).
        learned: The result of ``distribution``.

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
        squares /= learned["added"][:, None]
    else:
        squares = np.square(projected).sum(2)
    return np.asarray(np.sqrt(squares).T, np.float32)


def left_out_distances(features: Features, added: NDArray[np.float32]) -> Distances:
    """Compute the Mahalanobis distance of each image from the ``distribution`` of the other images.

    Without image i, whose deviation from the mean is d, the scatter matrix X^T X loses f d d^T, and the deviation of
    the image is f d, with f = n / (n - 1). With B = X^T X + (n - 2) e I and h = d^T B^-1 d, the formula of Sherman and
    Morrison (1950) gives the squared distance (n - 2) f² h / (1 - f h).

    Args:
        features: Features of at least 2 images in p cells, (n, p, D).
        added: The value that ``distribution`` adds to each variance of a cell, (p,).

    Returns:
        (n, p).
    """
    deviations = _deviations(features)[1]
    count, depth = deviations.shape[1:]
    freedom, factor = max(1, count - 2), count / (count - 1)
    ridge = freedom * added.astype(np.float64)
    if count < depth:
        # With K = X X^T + (n - 2) e I: h is the diagonal of I - (n - 2) e K^-1.
        inverse = _inverse_cholesky(deviations @ deviations.swapaxes(1, 2), ridge)
        remainder = np.square(inverse).sum(1) * ridge[:, None]
        shares = 1 - remainder
        # 1 - f h without the difference of nearly equal numbers: f (remainder - 1 / n)
        rest = factor * (remainder - 1 / count)
    else:
        inverse = _inverse_cholesky(deviations.swapaxes(1, 2) @ deviations, ridge)
        shares = np.square(deviations @ inverse.swapaxes(1, 2)).sum(2)
        rest = 1 - factor * shares
    squares = freedom * factor**2 * np.maximum(shares, 0) / np.maximum(rest, 1e-12)
    return np.asarray(np.sqrt(squares).T, np.float32)


def _deviations(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean of features (n, p, D) over images, (p, D), and the deviations from it, (p, n, D)."""
    deviations = np.ascontiguousarray(features.transpose(1, 0, 2), np.float64)
    mean = deviations.mean(1)
    deviations -= mean[:, None]
    return mean, deviations


def _inverse_cholesky(matrices: NDArray[np.float64], added: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return L^-1 for symmetric matrices (p, k, k), with L L^T = matrix + ``added`` I, (p,). Changes ``matrices``."""
    diagonal = np.arange(matrices.shape[1])
    matrices[:, diagonal, diagonal] += added[:, None]
    return np.asarray(np.linalg.inv(np.linalg.cholesky(matrices)), np.float64)
