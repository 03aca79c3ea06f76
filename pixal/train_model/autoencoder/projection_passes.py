"""Principal components of more images than whose inner products could be held, in passes over the rows of the input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np

from pixal.inputs import InputSet
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

_COLUMNS = 1 << 16  # of a wide product at a time; less has the threads of a busy machine wait for one another


class Passes:
    """The principal components of one or several sets of rows, about their types' means, from two readings.

    Subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4) with images for the random start: one power of
    the covariance of the rows that all sets hold, then each set's principal components of the images within the
    subspace found. So no set's fit knows of rows that are not its own. Against the exact components the residual of
    3000 images grew by 0.06 %.
    """

    def __init__(self, inputs: InputSet, labels: Double, row_sets: Sequence[Rows], rank: int, memory: float) -> None:
        """Read the inputs. ``labels`` (N, T) one-hot, of all images. ``memory``: bytes."""
        self.rank = rank
        self._labels, self._row_sets = labels, row_sets
        values, types = inputs.data.shape[1], labels.shape[1]
        common = reduce(np.intersect1d, row_sets)
        # Two bases of float32 in half the memory, less what the means take.
        room = int(memory / (16 * values)) - (len(row_sets) + 1) * types
        start = common[np.linspace(0, len(common) - 1, max(rank, min(2 * rank + 10, room))).astype(np.intp)]
        means, self._basis = _power(inputs, labels, [common, *row_sets], start, memory)
        self._mean, self._offsets = means[:types], means[types:]
        self._offsets.reshape(-1, *self._mean.shape)[:] -= self._mean

        # Of each image about the mean of the common ones: its products with the basis and with the offsets, its norm.
        self._inside = np.empty((len(inputs), len(self._basis)))
        self._along = np.empty((len(inputs), len(self._offsets)))
        self._norms = np.empty(len(inputs))
        for part in blocks(len(inputs), 4 * values, memory):
            block = inputs.rows(part)
            centre(block, self._mean, labels[part])
            self._inside[part], self._along[part] = block @ self._basis.T, block @ self._offsets.T
            self._norms[part] = np.einsum("nd,nd->n", block, block)

    def fit(self, index: int) -> Fit:
        """The fit of the set ``row_sets[index]``; its components beyond what the images span are 0."""
        labels, rows = self._labels, self._row_sets[index]
        own = slice(index * labels.shape[1], (index + 1) * labels.shape[1])
        offset = self._offsets[own]
        inside = self._inside - labels @ (offset @ self._basis.T)
        norms = self._norms - 2 * (labels * self._along[:, own]).sum(1) + labels @ np.einsum("td,td->t", offset, offset)

        spread, vectors = leading(inside[rows].T @ inside[rows], self.rank)
        vectors *= signs(inside[rows] @ vectors)
        scale = scale_of(spread, len(rows))
        coefficients = inside @ vectors / scale
        components = np.zeros((self.rank, self._basis.shape[1]), np.float32)
        _add_product(components, vectors.T.astype(np.float32), self._basis)
        outside = squared_outside(norms / scale**2, coefficients)
        return Fit(Subspace(self._mean + offset, components, scale), coefficients.astype(np.float32), outside)


def _power(
    inputs: InputSet, labels: Double, row_sets: Sequence[Rows], start: Rows, memory: float
) -> tuple[Single, Single]:
    """The means of each set (S*T, D), and an orthonormal basis of the first one's covariance times images ``start``."""
    block = inputs.rows(start)
    provisional = averages(labels[start]).T.astype(np.float32) @ block
    centre(block, provisional, labels[start])
    basis = _orthonormal(block)
    types = labels.shape[1]
    shares = np.zeros((len(inputs), len(row_sets) * types), np.float32)
    for index, rows in enumerate(row_sets):
        shares[rows, index * types : (index + 1) * types] = averages(labels[rows])
    needed, inner = reduce(np.union1d, row_sets), np.isin(np.arange(len(inputs)), row_sets[0])
    powered, shifts = np.zeros_like(basis), np.zeros((shares.shape[1], basis.shape[1]), np.float32)
    for part in blocks(len(needed), 4 * inputs.data.shape[1], memory):
        rows = needed[part]
        block = inputs.rows(rows)
        centre(block, provisional, labels[rows])
        _add_product(shifts, shares[rows].T, block)
        _add_product(powered, basis @ block.T * inner[rows], block)
    # The covariance about the means themselves, rather than about the provisional ones.
    counts, shift = labels[row_sets[0]].sum(0).astype(np.float32), shifts[:types]
    _add_product(powered, -(basis @ shift.T) * counts, shift)
    shifts.reshape(-1, *provisional.shape)[:] += provisional
    return shifts, _orthonormal(powered)


def _orthonormal(vectors: Single) -> Single:
    """Make the rows of ``vectors`` (l, d) orthonormal, in place; those that the others span become 0.

    By the eigenvectors of their inner products, so that nothing wide is factorised or copied.
    """
    for _ in range(2):  # the second time makes up for the first one's rounding
        spread, turn = np.linalg.eigh((vectors @ vectors.T).astype(np.float64))
        held = spread > 1e-9 * max(spread[-1], 1e-30)
        factors = (turn * held / np.sqrt(np.where(held, spread, 1))).T.astype(np.float32)
        for part in _wide(vectors):
            vectors[:, part] = factors @ vectors[:, part]
    return vectors


def _add_product(total: Single, left: Single, right: Single) -> None:
    """``total += left @ right`` (m, d), without another array of that size."""
    for part in _wide(total):
        total[:, part] += left @ right[:, part]


def _wide(array: Single) -> Iterator[slice]:
    for start in range(0, array.shape[1], _COLUMNS):
        yield slice(start, start + _COLUMNS)
