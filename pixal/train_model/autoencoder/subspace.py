"""The subspace of good images, and the steps of a principal component analysis that all fits share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]

_CHUNK_BYTES = 1 << 27  # of the inputs in memory at a time
_CHUNK_SHARE = 16  # a chunk takes at most the memory limit divided by this
_MIN_VARIANCE_RATIO = 1e-7  # a component with less variance relative to the first component is rounding


@dataclass(frozen=True)
class Subspace:
    """Means and principal components of good images.

    Attributes:
        mean: One mean image per type, (T, D) float32; T = 1 without labels.
        basis: The principal components, (k, D) float32; orthonormal rows, or rows of 0 beyond the rank of the images.
        scale: The root mean square of the coefficients of the first component. All coefficients are divided by it.
    """

    mean: Float32Array
    basis: Float32Array
    scale: float

    def coefficients(self, images: Float32Array, labels: Float32Array) -> Float32Array:
        """Compute the coefficients (n, k) of images (n, D) with one-hot labels (n, T)."""
        return np.asarray(((images - labels @ self.mean) @ self.basis.T) / self.scale, np.float32)


@dataclass(frozen=True)
class SubspaceFit:
    """A subspace, and the coefficients of all images in it, including those that were held out.

    Attributes:
        subspace: The subspace.
        coefficients: (N, k) float32.
        squared_residuals: The squared distance of each image from the subspace, in the units of the coefficients, (N,)
            float32.
    """

    subspace: Subspace
    coefficients: Float32Array
    squared_residuals: Float32Array


def iterate_slices(total: int, size: int, memory: float) -> Iterator[slice]:
    """Split an axis into slices that fit into memory, together with copies of them.

    Args:
        total: The length of the axis.
        size: The memory of one element along the axis, bytes.
        memory: The memory limit, bytes.
    """
    step = max(1, int(min(_CHUNK_BYTES, memory / _CHUNK_SHARE) / max(size, 1)))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def mean_weights(labels: Float64Array) -> Float64Array:
    """The weight of each of n rows with one-hot ``labels`` (n, T) in the mean of each type, (n, T)."""
    return np.asarray(labels / np.maximum(labels.sum(0), 1))


def subtract_means(images: Float32Array, mean: Float32Array, labels: Float64Array) -> None:
    """Subtract from each row of ``images`` (n, d), in place, the ``mean`` (T, d) of its type."""
    images -= mean if len(mean) == 1 else labels.astype(np.float32) @ mean


def largest_eigenpairs(matrix: Float64Array, rank: int) -> tuple[Float64Array, Float64Array]:
    """Compute the ``rank`` largest eigenvalues of a symmetric matrix (n, n), in descending order, and eigenvectors.

    Returns:
        Eigenvalues (rank,) and eigenvectors (n, rank). Both are 0 where the matrix has fewer eigenvalues, or where they
        are due to rounding.
    """
    from scipy.linalg import eigh  # training only

    count = len(matrix)
    eigenvalues, eigenvectors = np.zeros(rank), np.zeros((count, rank))
    values, vectors = eigh(matrix, subset_by_index=(max(0, count - rank), count - 1))
    kept = values[::-1] > _MIN_VARIANCE_RATIO * max(values[-1], 1e-12)
    eigenvalues[: kept.sum()], eigenvectors[:, : kept.sum()] = values[::-1][kept], vectors[:, ::-1][:, kept]
    return eigenvalues, eigenvectors


def largest_value_signs(coefficients: Float64Array) -> Float64Array:
    """The sign of the value with the largest magnitude in each column.

    The sign of an eigenvector is arbitrary. Multiplication by this sign gives the same result on every machine.
    """
    largest = coefficients[np.abs(coefficients).argmax(0), np.arange(coefficients.shape[1])]
    return np.where(largest < 0, -1.0, 1.0)


def coefficient_scale(eigenvalues: Float64Array, count: int) -> float:
    """The ``scale`` of a subspace. ``eigenvalues[0]`` is the sum of squares of the first component over the images."""
    return float(max(np.sqrt(eigenvalues[0] / count), 1e-6))


def squared_residuals(squared_norms: Float64Array, coefficients: Float64Array) -> Float32Array:
    """Squared distances (N,) from the subspace, from squared norms (N,) and ``coefficients`` (N, k)."""
    return np.asarray(np.maximum(squared_norms - np.einsum("nk,nk->n", coefficients, coefficients), 0), np.float32)
