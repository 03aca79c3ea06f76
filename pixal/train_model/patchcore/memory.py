"""The memory of good patches: which patches it keeps, and distances from it (Roth et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.random_projection import SparseRandomProjection

from pixal.train_model.family import Rows

PROJECTED = 128  # dimensions in which the coreset is chosen


def nearest_distances(patches: NDArray[np.float32], memory: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distance (n,) of each of ``patches`` (n, D) from its nearest neighbour in ``memory`` (m, D)."""
    if not len(patches):
        return np.zeros(0, np.float32)
    return np.asarray(pairwise_distances_argmin_min(patches, memory)[1], np.float32)


def coreset(patches: NDArray[np.float32], count: int, seed: int) -> Rows:
    """The numbers of ``count`` patches (N, D) that leave none far from the nearest of them; in the order of choice.

    Greedy k-centre (Sener and Savarese 2018): each next one is that which is farthest from those chosen; the first is
    that which is farthest from the mean. Distances are of a sparse random projection (Li, Hastie and Church 2006).
    """
    if count >= len(patches):
        return np.arange(len(patches))
    if patches.shape[1] > PROJECTED:
        projection = SparseRandomProjection(PROJECTED, random_state=seed)
        patches = np.asarray(projection.fit_transform(patches), np.float32)
    return farthest_first(patches, count)


def farthest_first(points: NDArray[np.float32], count: int) -> Rows:
    """The numbers (count,) of ``points`` (N, d), each farthest from those before it, the first from the mean."""
    points = points - points.mean(0)
    squares = np.einsum("nd,nd->n", points, points)
    chosen = np.empty(count, np.intp)
    nearest = squares
    for number in range(count):
        latest = chosen[number] = int(nearest.argmax())
        distances = points @ (-2 * points[latest])
        distances += squares
        distances += squares[latest]
        nearest = np.minimum(nearest, distances) if number else distances
        nearest[latest] = -1  # of points that are all alike, none is taken twice
    return chosen
