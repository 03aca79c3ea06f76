"""Fits the subspace of good images, which is the fixed first and last layer of an autoencoder with projection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from pixal.inputs import InputSet
from pixal.train_model.autoencoder.projection_passes import SubspacePasses
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

EXACT_IMAGES = 1000  # most images for an exact fit; its time grows with their square, and is about a minute here
_AUTO_RANK = 3  # components per type; more find no more defects, raise more false alarms, and make a larger file


def auto_rank(images: int, types: int) -> int:
    """The rank if ``projection_rank`` is not set: at most that of the images, and a few components per type."""
    return max(1, min(images - types, _AUTO_RANK * types))


class SubspaceFitter:
    """Fits subspaces to sets of rows of one ``InputSet``, with only chunks of it in memory.

    With up to ``EXACT_IMAGES`` images, a fit is exact and uses the eigenvectors of their inner products. The inputs are
    read once for all fits, and once more in each call of ``fit``. With more images, see ``SubspacePasses``: the inputs
    are read twice for all fits that were announced with ``prepare``, if these share enough rows.

    Attributes:
        inputs: The inputs.
    """

    def __init__(self, inputs: InputSet, labels: Float32Array, memory_limit: float) -> None:
        """Nothing is read yet.

        Args:
            inputs: All good parts.
            labels: One-hot labels of all rows, (N, T).
            memory_limit: GB.
        """
        self.inputs = inputs
        self._labels = labels.astype(np.float64)
        self._memory = memory_limit * 2**30
        self._announced: Sequence[Rows] = ()
        self._passes: SubspacePasses | None = None

    def prepare(self, row_sets: Sequence[Rows]) -> None:
        """Announce fits of these sets of rows."""
        common = reduce(np.intersect1d, row_sets)
        # The basis that all fits share is computed from the common rows: at least half of the images of each type.
        enough = (self._labels[common].sum(0) >= self._labels.sum(0) / 2).all()
        self._announced, self._passes = row_sets if enough else (), None

    def fit(self, row_sets: Sequence[Rows], rank: int) -> list[SubspaceFit]:
        """Fit each set of rows: the mean of each type, and the first ``rank`` principal components around the means.

        Components beyond the rank of the images are 0.
        """
        if len(self.inputs) > EXACT_IMAGES:
            return [self._fit_in_passes(rows, rank) for rows in row_sets]
        mean, gram = self._products
        solutions = [_solve(gram, self._labels, rows, rank) for rows in row_sets]
        combined = self._combine(mean, np.hstack([solution.weights for solution in solutions]))
        fits = []
        for solution, values in zip(solutions, np.split(combined, len(solutions)), strict=True):
            subspace = Subspace(values[: len(mean)] + mean, values[len(mean) :], solution.scale)
            fits.append(SubspaceFit(subspace, solution.coefficients, solution.squared_residuals))
        return fits

    def _fit_in_passes(self, rows: Rows, rank: int) -> SubspaceFit:
        index = next((i for i, announced in enumerate(self._announced) if np.array_equal(announced, rows)), None)
        if index is None:
            return SubspacePasses(self.inputs, self._labels, [rows], rank, self._memory).fit(0)
        if self._passes is None or self._passes.rank != rank:
            self._passes = SubspacePasses(self.inputs, self._labels, self._announced, rank, self._memory)
        return self._passes.fit(index)

    @cached_property
    def _products(self) -> tuple[Float32Array, Float64Array]:
        """The mean of all images of each type, (T, D), and the inner products (N, N) of the images minus it."""
        mean = np.empty((self._labels.shape[1], self.inputs.data.shape[1]), np.float32)
        gram = np.zeros((len(self.inputs), len(self.inputs)))
        weights = mean_weights(self._labels).T.astype(np.float32)
        for columns in self._column_slices():
            values = self.inputs.rows(columns=columns)
            mean[:, columns] = weights @ values
            subtract_means(values, mean[:, columns], self._labels)
            gram += values @ values.T
        return mean, gram

    def _combine(self, mean: Float32Array, weights: Float64Array) -> Float32Array:
        """Sums (m, D) of all images minus ``mean``, with ``weights`` (N, m)."""
        combined = np.empty((weights.shape[1], mean.shape[1]), np.float32)
        factors = weights.T.astype(np.float32)
        for columns in self._column_slices():
            values = self.inputs.rows(columns=columns)
            subtract_means(values, mean[:, columns], self._labels)
            combined[:, columns] = factors @ values
        return combined

    def _column_slices(self) -> Iterator[slice]:
        return iterate_slices(self.inputs.data.shape[1], 4 * len(self.inputs), self._memory)


@dataclass(frozen=True)
class _Solution:
    """A fit before the means and components are computed from the images.

    Attributes:
        weights: The weight of each image in the means and components, (N, T + k).
        scale: See ``Subspace``.
        coefficients: See ``SubspaceFit``.
        squared_residuals: See ``SubspaceFit``.
    """

    weights: Float64Array
    scale: float
    coefficients: Float32Array
    squared_residuals: Float32Array


def _solve(gram: Float64Array, labels: Float64Array, rows: Rows, rank: int) -> _Solution:
    """Compute principal components of the images ``rows`` from inner products.

    The means of the rows are weighted sums of images, so the inner products of the images minus these means follow from
    the given ones.

    Args:
        gram: The inner products (N, N) of all images minus any means of their types.
        labels: One-hot labels of all images, (N, T).
        rows: The rows to fit.
        rank: The number of components.
    """
    weights_in_mean = mean_weights(labels[rows])
    with_rows = gram[:, rows]  # products of all images with the rows
    with_means = with_rows @ weights_in_mean
    of_means = weights_in_mean.T @ with_means[rows]
    centred = with_rows - labels @ with_means[rows].T - (with_means - labels @ of_means) @ labels[rows].T
    squared_norms = gram.diagonal() - 2 * (labels * with_means).sum(1) + labels @ of_means.diagonal()

    eigenvalues, vectors = largest_eigenpairs(centred[rows], rank)
    scale = coefficient_scale(eigenvalues, len(rows))
    factors = vectors / np.sqrt(np.where(eigenvalues > 0, eigenvalues, 1))
    factors *= largest_value_signs(factors)
    coefficients = centred @ factors / scale
    weights = np.zeros((len(gram), labels.shape[1] + rank))
    weights[rows] = np.hstack([weights_in_mean, factors])
    residuals = squared_residuals(squared_norms / scale**2, coefficients)
    return _Solution(weights, scale, coefficients.astype(np.float32), residuals)
