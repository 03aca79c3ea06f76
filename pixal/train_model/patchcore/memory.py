"""The memory of good patches: which patches it keeps, and distances from it (Roth et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.train_model.family import Rows

PROJECTED_DIMENSIONS = 128  # dimensions in which the coreset is chosen

_BLOCK = (256, 2048)  # patches and stored patches whose distances are computed together: 4 MB


def nearest_distances(patches: NDArray[np.float32], memory: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distance of each of the patches (n, D) from its nearest neighbour in the memory (m, D): (n,).

    The sums are in double precision, because they are differences of large numbers. scikit-learn gives the same
    distances to the last bit of float32, but would be needed where a model is only applied.
    """
    squares = np.full(len(patches), np.inf)
    for first in range(0, len(memory), _BLOCK[1]):
        stored = memory[first : first + _BLOCK[1]].astype(np.float64)
        stored_norms = np.einsum("md,md->m", stored, stored)
        for start in range(0, len(patches), _BLOCK[0]):
            rows = slice(start, start + _BLOCK[0])
            block = patches[rows].astype(np.float64)
            products = block @ stored.T
            products *= -2
            products += stored_norms
            nearest = products.min(1) + np.einsum("nd,nd->n", block, block)
            np.minimum(squares[rows], nearest, out=squares[rows])
    return np.asarray(np.sqrt(np.maximum(squares, 0)), np.float32)


def coreset(patches: NDArray[np.float32], count: int, seed: int) -> Rows:
    """Choose ``count`` patches so that every patch is close to a chosen one.

    Greedy k-centre (Sener and Savarese 2018): see ``farthest_first``. Distances are measured after a sparse random
    projection (Li, Hastie and Church 2006).

    Args:
        patches: (N, D).
        count: The number of patches to choose; all if there are fewer.
        seed: Seed of the random projection.

    Returns:
        The indices of the chosen patches, in the order of choice.
    """
    if count >= len(patches):
        return np.arange(len(patches))
    if patches.shape[1] > PROJECTED_DIMENSIONS:
        from sklearn.random_projection import SparseRandomProjection  # training only

        projection = SparseRandomProjection(PROJECTED_DIMENSIONS, random_state=seed)
        patches = np.asarray(projection.fit_transform(patches), np.float32)
    return farthest_first(patches, count)


def farthest_first(points: NDArray[np.float32], count: int) -> Rows:
    """Choose points that are far from each other.

    The first is the point farthest from the mean. Each next one is the point whose nearest chosen point is farthest.

    Args:
        points: (N, d).
        count: The number of points to choose, at most N.

    Returns:
        The indices of the chosen points, (count,), in the order of choice.
    """
    points = points - points.mean(0)
    squared_norms = np.einsum("nd,nd->n", points, points)
    chosen = np.empty(count, np.intp)
    nearest = squared_norms  # squared distance of each point from the nearest chosen one, or first from the mean
    for step in range(count):
        latest = chosen[step] = int(nearest.argmax())
        distances = points @ (-2 * points[latest])
        distances += squared_norms
        distances += squared_norms[latest]
        nearest = np.minimum(nearest, distances) if step else distances
        nearest[latest] = -1  # never choose a point twice, even if all points are equal
    return chosen
