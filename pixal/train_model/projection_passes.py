"""Principal components of more images than whose inner products could be held, in passes over the rows of the input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pixal.inputs import InputSet
from pixal.train_model.family import Rows
from pixal.train_model.subspace import (
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

_COLUMNS = 1 << 16  # of a wide product at a time


def fit_in_passes(inputs: InputSet, labels: Double, rows: Rows, rank: int, memory: float) -> Fit:
    """The first ``rank`` principal components of ``inputs[rows]``, about their types' means, in two readings.

    Subspace iteration (Halko, Martinsson and Tropp 2011, algorithm 4.4) with images for the random start: one power of
    the covariance, then the principal components of the images within the subspace found. Against the exact ones the
    residual of 3000 images grew by 0.06 %. ``labels`` (N, T) one-hot, of all images. ``memory``: bytes.
    """
    values = inputs.data.shape[1]
    room = int(memory / (16 * values))  # two bases of float32 in half the memory
    start = rows[np.linspace(0, len(rows) - 1, max(rank, min(2 * rank + 10, room))).astype(np.intp)]
    mean, basis = _power(inputs, labels, rows, start, memory)

    inside, norms = np.empty((len(inputs), len(basis))), np.empty(len(inputs))
    for part in blocks(len(inputs), 4 * values, memory):
        block = inputs.rows(part)
        centre(block, mean, labels[part])
        inside[part], norms[part] = block @ basis.T, np.einsum("nd,nd->n", block, block)
    spread, vectors = leading(inside[rows].T @ inside[rows], rank)
    vectors *= signs(inside[rows] @ vectors)
    scale = scale_of(spread, len(rows))
    coefficients = inside @ vectors / scale
    components = np.zeros((rank, values), np.float32)
    _add_product(components, vectors.T.astype(np.float32), basis)
    outside = squared_outside(norms / scale**2, coefficients)
    return Fit(Subspace(mean, components, scale), coefficients.astype(np.float32), outside)


def _power(inputs: InputSet, labels: Double, rows: Rows, start: Rows, memory: float) -> tuple[Single, Single]:
    """The means of ``rows`` (T, D), and an orthonormal basis of their covariance times the images ``start``."""
    block = inputs.rows(start)
    provisional = averages(labels[start]).T.astype(np.float32) @ block
    centre(block, provisional, labels[start])
    basis = _orthonormal(block)
    powered, shift = np.zeros_like(basis), np.zeros_like(provisional)
    own = averages(labels[rows]).astype(np.float32)
    for part in blocks(len(rows), 4 * inputs.data.shape[1], memory):
        block = inputs.rows(rows[part])
        centre(block, provisional, labels[rows[part]])
        _add_product(shift, own[part].T, block)
        _add_product(powered, basis @ block.T, block)
    # The covariance about the means themselves, rather than about the provisional ones.
    counts = labels[rows].sum(0).astype(np.float32)
    _add_product(powered, -(basis @ shift.T) * counts, shift)
    return provisional + shift, _orthonormal(powered)


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
