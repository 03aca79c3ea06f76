"""The normal distribution of features at each place of the grid, and distances from it (Defard et al. 2020)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.train_model.patch_features.features import Features
from pixal.train_model.patch_features.patch_model import Arrays


def distribution(features: Features, regularisation: float) -> Arrays:
    """The ``mean`` (p, D) and factors of the inverse covariance of features (n, p, D) at each of p places.

    The covariance is S = X^T X / (n - 1) + e I, X being the n deviations from the mean, e the ``regularisation``
    (Defard et al. 2020, equation 1). With no fewer images than features, ``factor`` (p, D, D) is L^-1, L L^T = S. With
    fewer, ``factor`` (p, n, D) is F = M^-1 X, M M^T = X X^T + (n - 1) e I, and ``remainder`` (p, n, n) is M^-T times
    sqrt((n - 1) e): S^-1 = (I - F^T F) / e by Woodbury's identity, in less memory and no less exact.
    """
    count, _, depth = features.shape
    deviations = np.ascontiguousarray(features.transpose(1, 0, 2), np.float64)
    mean = deviations.mean(1)
    deviations -= mean[:, None]
    freedom = max(1, count - 1)
    found: Arrays = {"mean": mean.astype(np.float32)}
    if count < depth:
        inverse = _inverse_factor(deviations @ deviations.swapaxes(1, 2), freedom * regularisation)
        found["factor"] = np.asarray(inverse @ deviations, np.float32)
        found["remainder"] = np.asarray(inverse.swapaxes(1, 2) * np.sqrt(freedom * regularisation), np.float32)
    else:
        covariance = deviations.swapaxes(1, 2) @ deviations / freedom
        found["factor"] = _inverse_factor(covariance, regularisation).astype(np.float32)
    return found


def mahalanobis(features: Features, found: Arrays, regularisation: float) -> NDArray[np.float32]:
    """Mahalanobis distances (n, p) of features (n, p, D) from the ``distribution``.

    sqrt(x^T S^-1 x) for a deviation x from the mean (Defard et al. 2020, equation 2).
    """
    deviations = np.ascontiguousarray((features - found["mean"]).transpose(1, 0, 2))
    projected = deviations @ found["factor"].swapaxes(1, 2)
    if "remainder" in found:
        # e x^T S^-1 x = |y|² + |M^-T F x|² (n - 1) e with y = x - F^T F x: a sum, whereas in x^T x - |F x|² all digits
        # may cancel.
        beyond = deviations - projected @ found["factor"]
        squares = np.square(beyond).sum(2) + np.square(projected @ found["remainder"].swapaxes(1, 2)).sum(2)
        squares /= np.float32(regularisation)
    else:
        squares = np.square(projected).sum(2)
    return np.asarray(np.sqrt(squares).T, np.float32)


def _inverse_factor(products: NDArray[np.float64], added: float) -> NDArray[np.float64]:
    """L^-1 of symmetric matrices (p, k, k), L L^T being what they are with ``added`` on the diagonal."""
    diagonal = np.arange(products.shape[1])
    products[:, diagonal, diagonal] += added
    return np.asarray(np.linalg.inv(np.linalg.cholesky(products)), np.float64)
