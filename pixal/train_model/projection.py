"""The subspace that a type's good images span: the fixed first and last layer of a projected autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet

_AUTO_RANK = 16  # components a type; more neither finds more nor costs little on disk
_BLOCK_VALUES = 1 << 24  # values of the inputs in memory at a time: 64 MiB


@dataclass(frozen=True)
class Subspace:
    """Means and principal components of good images.

    mean: (T, D) float32, a mean image a type (T = 1 without labels). basis: (k, D) float32, orthonormal rows.
    scale: the root mean square of the coefficients on the first component; coefficients are divided by it.
    """

    mean: NDArray[np.float32]
    basis: NDArray[np.float32]
    scale: float

    def coefficients(self, data: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coefficients (n, k) of ``data`` (n, D) with one-hot ``labels`` (n, T)."""
        return np.asarray(((data - labels @ self.mean) @ self.basis.T) / self.scale, np.float32)


def auto_rank(images: int, types: int) -> int:
    """The rank that ``projection_rank`` null stands for: what the images span, within reason."""
    return max(1, min(images - types, _AUTO_RANK * types))


def fit_subspace(inputs: InputSet, rows: NDArray[np.intp], labels: NDArray[np.float32], rank: int) -> Subspace:
    """The mean of each type and the first ``rank`` principal components about them of ``inputs[rows]``.

    By the eigenvectors of the images' Gram matrix, summed over blocks of columns: exact, and only a block of the
    inputs is in memory at a time. ``labels`` (n, T) one-hot, of ``rows``. Where the images span fewer than ``rank``
    dimensions the remaining components are 0.
    """
    count, values = len(rows), inputs.data.shape[1]
    counts = np.maximum(labels.sum(0), 1)[:, None]
    mean = np.empty((labels.shape[1], values), np.float32)
    gram = np.zeros((count, count))
    blocks = [
        slice(start, start + max(1, _BLOCK_VALUES // count))
        for start in range(0, values, max(1, _BLOCK_VALUES // count))
    ]

    def centred(block: slice) -> NDArray[np.float32]:
        data = np.asarray(inputs.data[:, block][rows], np.float32)
        return data - labels @ mean[:, block]

    for block in blocks:
        data = np.asarray(inputs.data[:, block][rows], np.float32)
        mean[:, block] = labels.T @ data / counts
        data = data - labels @ mean[:, block]
        gram += data @ data.T
    spread, vectors = np.linalg.eigh(gram)
    spread, vectors = spread[::-1][:rank], vectors[:, ::-1][:, :rank]
    basis = np.zeros((rank, values), np.float32)
    held = spread > 1e-7 * max(spread[0], 1e-12)
    factors = (vectors[:, held] / np.sqrt(spread[held])).astype(np.float32)
    # A component's sign is arbitrary; its largest weight is made positive, so that every machine agrees.
    factors *= np.sign(factors[np.abs(factors).argmax(0), np.arange(factors.shape[1])])
    if held.any():
        for block in blocks:
            basis[: int(held.sum()), block] = factors.T @ centred(block)
    return Subspace(mean, basis, float(max(np.sqrt(max(spread[0], 0) / count), 1e-6)))
