"""Principal components of many images, in passes over the rows of the input.

For many images, the matrix of their inner products would need too much memory and time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np

from pixal.inputs import InputSet
from pixal.train_model.autoencoder.subspace import (
    Float32Array,
    Float64Array,
    Subspace,
    SubspaceFit,
    coefficient_scale,
    iterate_slices,
    largest_eigenpairs,
    largest_value_signs,
    mean_weights,
    squared_residuals,
    subtract_means,
)
from pixal.train_model.family import Rows

_PRODUCT_COLUMNS = 1 << 16  # columns of a wide product at a time; with fewer, threads wait for each other


class SubspacePasses:
    """Fits subspaces to one or several sets of rows; all fits together read the inputs twice.

    Subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4), started with images instead of random vectors.
    One multiplication by the covariance of the rows that all sets share gives a basis. Then the principal components of
    each set are computed within this basis. So a fit never uses rows outside its set. For 3000 images the residual was
    0.06 % larger than with exact components.

    Attributes:
        rank: The number of components.
    """

    def __init__(
        self, inputs: InputSet, labels: Float64Array, row_sets: Sequence[Rows], rank: int, memory: float
    ) -> None:
        """Read the inputs.

        Args:
            inputs: All good parts.
            labels: One-hot labels of all rows, (N, T).
            row_sets: The rows of each fit.
            rank: The number of components.
            memory: The memory limit, bytes.
        """
        self.rank = rank
        self._labels, self._row_sets = labels, row_sets
        values, types = inputs.data.shape[1], labels.shape[1]
        common = reduce(np.intersect1d, row_sets)
        # Two float32 bases fit in half of the memory, minus the memory of the means.
        most_vectors = int(memory / (16 * values)) - (len(row_sets) + 1) * types
        start_count = max(rank, min(2 * rank + 10, most_vectors))
        start = common[np.linspace(0, len(common) - 1, start_count).astype(np.intp)]
        means, self._basis = _means_and_basis(inputs, labels, [common, *row_sets], start, memory)
        # Offsets (S*T, D): the means of each set minus those of the common rows.
        self._mean, self._offsets = means[:types], means[types:]
        self._offsets.reshape(-1, *self._mean.shape)[:] -= self._mean

        # For each image minus the mean of the common rows: its products with basis and offsets, and its squared norm.
        self._basis_products = np.empty((len(inputs), len(self._basis)))
        self._offset_products = np.empty((len(inputs), len(self._offsets)))
        self._squared_norms = np.empty(len(inputs))
        for chunk in iterate_slices(len(inputs), 4 * values, memory):
            images = inputs.rows(chunk)
            subtract_means(images, self._mean, labels[chunk])
            self._basis_products[chunk] = images @ self._basis.T
            self._offset_products[chunk] = images @ self._offsets.T
            self._squared_norms[chunk] = np.einsum("nd,nd->n", images, images)

    def fit(self, index: int) -> SubspaceFit:
        """Fit the rows ``row_sets[index]``. Components beyond the rank of the images are 0."""
        labels, rows = self._labels, self._row_sets[index]
        set_offsets = slice(index * labels.shape[1], (index + 1) * labels.shape[1])
        offset = self._offsets[set_offsets]
        # The products and norms of the images minus the means of this set.
        products = self._basis_products - labels @ (offset @ self._basis.T)
        shifted = self._squared_norms - 2 * (labels * self._offset_products[:, set_offsets]).sum(1)
        squared_norms = shifted + labels @ np.einsum("td,td->t", offset, offset)

        eigenvalues, vectors = largest_eigenpairs(products[rows].T @ products[rows], self.rank)
        vectors *= largest_value_signs(products[rows] @ vectors)
        scale = coefficient_scale(eigenvalues, len(rows))
        coefficients = products @ vectors / scale
        components = np.zeros((self.rank, self._basis.shape[1]), np.float32)
        _add_product(components, vectors.T.astype(np.float32), self._basis)
        residuals = squared_residuals(squared_norms / scale**2, coefficients)
        subspace = Subspace(self._mean + offset, components, scale)
        return SubspaceFit(subspace, coefficients.astype(np.float32), residuals)


def _means_and_basis(
    inputs: InputSet, labels: Float64Array, row_sets: Sequence[Rows], start: Rows, memory: float
) -> tuple[Float32Array, Float32Array]:
    """Compute the means of each set, and multiply images by the covariance of the first set.

    Args:
        inputs: All good parts.
        labels: One-hot labels of all rows, (N, T).
        row_sets: S sets of rows.
        start: The rows of the images that are multiplied.
        memory: The memory limit, bytes.

    Returns:
        The means of all sets, (S*T, D), and an orthonormal basis of the multiplied images.
    """
    images = inputs.rows(start)
    provisional = mean_weights(labels[start]).T.astype(np.float32) @ images
    subtract_means(images, provisional, labels[start])
    basis = _orthonormalise(images)
    types = labels.shape[1]
    weights = np.zeros((len(inputs), len(row_sets) * types), np.float32)
    for index, rows in enumerate(row_sets):
        weights[rows, index * types : (index + 1) * types] = mean_weights(labels[rows])
    needed, in_first_set = reduce(np.union1d, row_sets), np.isin(np.arange(len(inputs)), row_sets[0])
    multiplied, shifts = np.zeros_like(basis), np.zeros((weights.shape[1], basis.shape[1]), np.float32)
    for chunk in iterate_slices(len(needed), 4 * inputs.data.shape[1], memory):
        rows = needed[chunk]
        images = inputs.rows(rows)
        subtract_means(images, provisional, labels[rows])
        _add_product(shifts, weights[rows].T, images)
        _add_product(multiplied, basis @ images.T * in_first_set[rows], images)
    # Change from the covariance around the provisional means to that around the means.
    counts, shift = labels[row_sets[0]].sum(0).astype(np.float32), shifts[:types]
    _add_product(multiplied, -(basis @ shift.T) * counts, shift)
    shifts.reshape(-1, *provisional.shape)[:] += provisional
    return shifts, _orthonormalise(multiplied)


def _orthonormalise(vectors: Float32Array) -> Float32Array:
    """Make the rows of ``vectors`` (l, d) orthonormal, in place. Rows that depend on the others become 0.

    The eigenvectors of the inner products are used, so that no wide matrix is factorised or copied.
    """
    for _ in range(2):  # the second pass corrects the rounding of the first
        eigenvalues, eigenvectors = np.linalg.eigh((vectors @ vectors.T).astype(np.float64))
        kept = eigenvalues > 1e-9 * max(eigenvalues[-1], 1e-30)
        factors = (eigenvectors * kept / np.sqrt(np.where(kept, eigenvalues, 1))).T.astype(np.float32)
        for columns in _column_slices(vectors):
            vectors[:, columns] = factors @ vectors[:, columns]
    return vectors


def _add_product(total: Float32Array, left: Float32Array, right: Float32Array) -> None:
    """Compute ``total += left @ right`` (m, d) without a second array of that size."""
    for columns in _column_slices(total):
        total[:, columns] += left @ right[:, columns]


def _column_slices(array: Float32Array) -> Iterator[slice]:
    for start in range(0, array.shape[1], _PRODUCT_COLUMNS):
        yield slice(start, start + _PRODUCT_COLUMNS)
