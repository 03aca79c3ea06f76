"""What the ways to fit a subspace have in common: its form, and the steps of a principal component analysis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

Single = NDArray[np.float32]
Double = NDArray[np.float64]

_BLOCK_BYTES = 1 << 27  # of the inputs in memory at a time, or less:
_BLOCK_SHARE = 16  # ... this part of what is allowed
_HELD = 1e-7  # a component of less than this part of the first one's variance is rounding


@dataclass(frozen=True)
class Subspace:
    """Means and principal components of good images.

    mean: (T, D) float32, a mean image a type (T = 1 without labels). basis: (k, D) float32, orthonormal rows.
    scale: the root mean square of the coefficients on the first component; coefficients are divided by it.
    """

    mean: Single
    basis: Single
    scale: float

    def coefficients(self, data: Single, labels: Single) -> Single:
        """Coefficients (n, k) of ``data`` (n, D) with one-hot ``labels`` (n, T)."""
        return np.asarray(((data - labels @ self.mean) @ self.basis.T) / self.scale, np.float32)


@dataclass(frozen=True)
class Fit:
    """A subspace, and where all images lie in it, those it was fitted to and the others.

    coefficients: (N, k) float32. outside: (N,) float32, the squared norm of what the subspace does not reach, in the
    units of the coefficients.
    """

    subspace: Subspace
    coefficients: Single
    outside: Single


def blocks(total: int, size: int, memory: float) -> Iterator[slice]:
    """Slices that cover ``total`` things of ``size`` bytes, as many at a time as ``memory`` bytes allow with copies."""
    step = max(1, int(min(_BLOCK_BYTES, memory / _BLOCK_SHARE) / max(size, 1)))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def averages(labels: Double) -> Double:
    """What each of n rows with one-hot ``labels`` (n, T) counts in its type's mean, (n, T)."""
    return np.asarray(labels / np.maximum(labels.sum(0), 1))


def centre(block: Single, mean: Single, labels: Double) -> None:
    """Subtract from each row of ``block`` (n, d), in place, its type's ``mean`` (T, d)."""
    block -= mean if len(mean) == 1 else labels.astype(np.float32) @ mean


def leading(products: Double, rank: int) -> tuple[Double, Double]:
    """The ``rank`` largest eigenvalues of a symmetric matrix (n, n), descending, and their vectors (n, rank).

    Where the matrix has fewer, or only rounding, both are 0.
    """
    count = len(products)
    spread, vectors = np.zeros(rank), np.zeros((count, rank))
    values, columns = eigh(products, subset_by_index=(max(0, count - rank), count - 1))
    held = values[::-1] > _HELD * max(values[-1], 1e-12)
    spread[: held.sum()], vectors[:, : held.sum()] = values[::-1][held], columns[:, ::-1][:, held]
    return spread, vectors


def signs(coefficients: Double) -> Double:
    """The sign of each column's largest value: a component's sign is arbitrary, and so every machine agrees."""
    largest = coefficients[np.abs(coefficients).argmax(0), np.arange(coefficients.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)


def scale_of(spread: Double, images: int) -> float:
    """The scale of a subspace whose first component has the squared norm ``spread[0]`` over so many images."""
    return float(max(np.sqrt(spread[0] / images), 1e-6))


def squared_outside(norms: Double, coefficients: Double) -> Single:
    """What is left of squared ``norms`` (N,) outside the subspace, where ``coefficients`` (N, k) are inside."""
    return np.asarray(np.maximum(norms - np.einsum("nk,nk->n", coefficients, coefficients), 0), np.float32)
