"""The subspace that a type's good images span: the fixed first and last layer of a projected autoencoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np

from pixal.inputs import InputSet
from pixal.train_model.autoencoder.projection_passes import Passes
from pixal.train_model.autoencoder.subspace import (
    Double,
    Fit,
    Single,
    Subspace,
    averages,
    blocks,
    centre,
    leading,
    scale_of,
    signs,
    squared_outside,
)
from pixal.train_model.family import Rows

EXACT_IMAGES = 1000  # an exact fit takes arithmetic with the square of their number; it is a minute's here
_AUTO_RANK = 3  # components a type; more find no more, raise more false alarms, and make a larger file


def auto_rank(images: int, types: int) -> int:
    """The rank that ``projection_rank`` null stands for: what the images span, within reason."""
    return max(1, min(images - types, _AUTO_RANK * types))


class SubspaceFitter:
    """Fits subspaces to parts of one InputSet, of which only blocks are ever in memory.

    Up to EXACT_IMAGES images by the eigenvectors of their inner products: exact; one reading of the inputs serves all
    fits, and each call of ``fit`` takes one more. Beyond, see ``Passes``: two readings, which serve all the fits that
    ``prepare`` was called with, where these have enough in common.
    """

    def __init__(self, inputs: InputSet, labels: Single, memory_limit: float) -> None:
        """``labels`` (N, T) one-hot. ``memory_limit``: GB."""
        self.inputs = inputs
        self._labels = labels.astype(np.float64)
        self._memory = memory_limit * 2**30
        self._expected: Sequence[Rows] = ()
        self._passes: Passes | None = None

    def prepare(self, row_sets: Sequence[Rows]) -> None:
        """Fits of ``row_sets`` are to come."""
        common = reduce(np.intersect1d, row_sets)
        # Of a type that is less than half in all fits, too little would enter into what these share.
        enough = (self._labels[common].sum(0) >= self._labels.sum(0) / 2).all()
        self._expected, self._passes = row_sets if enough else (), None

    def fit(self, row_sets: Sequence[Rows], rank: int) -> list[Fit]:
        """For each of ``row_sets`` the mean of each type, and the first ``rank`` principal components about them.

        Where the images span fewer dimensions the remaining components are 0.
        """
        if len(self.inputs) > EXACT_IMAGES:
            return [self._fit_in_passes(rows, rank) for rows in row_sets]
        mean, gram = self._products
        solutions = [_solve(gram, self._labels, rows, rank) for rows in row_sets]
        combined = self._combine(mean, np.hstack([solution.shares for solution in solutions]))
        return [
            Fit(Subspace(values[: len(mean)] + mean, values[len(mean) :], s.scale), s.coefficients, s.outside)
            for s, values in zip(solutions, np.split(combined, len(solutions)), strict=True)
        ]

    def _fit_in_passes(self, rows: Rows, rank: int) -> Fit:
        index = next((i for i, expected in enumerate(self._expected) if np.array_equal(expected, rows)), None)
        if index is None:
            return Passes(self.inputs, self._labels, [rows], rank, self._memory).fit(0)
        if self._passes is None or self._passes.rank != rank:
            self._passes = Passes(self.inputs, self._labels, self._expected, rank, self._memory)
        return self._passes.fit(index)

    @cached_property
    def _products(self) -> tuple[Single, Double]:
        """Each type's mean over all images, (T, D), and the inner products (N, N) of the images about it."""
        mean = np.empty((self._labels.shape[1], self.inputs.data.shape[1]), np.float32)
        gram = np.zeros((len(self.inputs), len(self.inputs)))
        shares = averages(self._labels).T.astype(np.float32)
        for columns in self._columns():
            block = self.inputs.rows(columns=columns)
            mean[:, columns] = shares @ block
            centre(block, mean[:, columns], self._labels)
            gram += block @ block.T
        return mean, gram

    def _combine(self, mean: Single, shares: Double) -> Single:
        """Sums (m, D) of all images about ``mean``, each times its share in ``shares`` (N, m)."""
        combined = np.empty((shares.shape[1], mean.shape[1]), np.float32)
        factors = shares.T.astype(np.float32)
        for columns in self._columns():
            block = self.inputs.rows(columns=columns)
            centre(block, mean[:, columns], self._labels)
            combined[:, columns] = factors @ block
        return combined

    def _columns(self) -> Iterator[slice]:
        return blocks(self.inputs.data.shape[1], 4 * len(self.inputs), self._memory)


@dataclass(frozen=True)
class _Solution:
    """A fit before the images are read again. shares: (N, T + k), what each image counts in means and components."""

    shares: Double
    scale: float
    coefficients: Single
    outside: Single


def _solve(gram: Double, labels: Double, rows: Rows, rank: int) -> _Solution:
    """Principal components from the inner products ``gram`` (N, N) of all images about any means of their types.

    The means of the images ``rows`` are sums of these, so all inner products about them follow from the known ones.
    """
    own = averages(labels[rows])
    to_rows = gram[:, rows]
    to_means = to_rows @ own
    between = own.T @ to_means[rows]
    cross = to_rows - labels @ to_means[rows].T - (to_means - labels @ between) @ labels[rows].T
    norms = gram.diagonal() - 2 * (labels * to_means).sum(1) + labels @ between.diagonal()

    spread, vectors = leading(cross[rows], rank)
    scale = scale_of(spread, len(rows))
    factors = vectors / np.sqrt(np.where(spread > 0, spread, 1))
    factors *= signs(factors)
    coefficients = cross @ factors / scale
    shares = np.zeros((len(gram), labels.shape[1] + rank))
    shares[rows] = np.hstack([own, factors])
    return _Solution(shares, scale, coefficients.astype(np.float32), squared_outside(norms / scale**2, coefficients))
