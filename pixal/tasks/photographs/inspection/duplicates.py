"""Find photographs that are in a set more than once: the same file, the same picture, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import median_abs_deviation

from pixal.tasks.photographs.inspection.image_figures import HASH_BITS

SAME_FILE, SAME_PICTURE, NEAR = "same file", "same picture", "nearly the same picture"

_NEIGHBOURS = 10  # photographs whose fine structure is compared with that of one
_MAX_DIFFERENT_BITS = HASH_BITS // 4
_MIN_CORRELATION = 0.9  # of the fine structure; re-encoded photographs have 0.97 or more
_RANDOM_PAIRS = 400
_STANDARD_DEVIATIONS = 5  # that near duplicates must lie above pairs chosen at random
_LARGEST_CORRELATION = 1 - 1e-6  # beyond it, Fisher's transform is infinite
_CHUNK = 2048  # pairs at a time


@dataclass(frozen=True)
class Duplicates:
    """Photographs that are the same.

    Attributes:
        kind: ``SAME_FILE``, ``SAME_PICTURE`` or ``NEAR``: the weakest relation in the group.
        members: Their positions, in ascending order; at least two.
    """

    kind: str
    members: tuple[int, ...]


def find_duplicates(
    file_hashes: Sequence[str],
    pixel_hashes: Sequence[str],
    bits: NDArray[np.bool_],
    structures: NDArray[np.int8],
) -> list[Duplicates]:
    """Group the photographs that are the same.

    The perceptual hash finds the nearest photographs of each one. A pair of them is nearly the same if its fine
    structure correlates by at least 0.9, and clearly more than that of pairs chosen at random. The second condition
    matters where all parts lie in a fixture: their photographs then look the same without being duplicates.

    Args:
        file_hashes: Hash of the bytes of each of N files.
        pixel_hashes: Hash of the pixels of each photograph.
        bits: Perceptual hashes, (N, 256).
        structures: Fine structures, (N, 4096).
    """
    count = len(file_hashes)
    if count < 2:
        return []
    same_file, same_picture = _equal_pairs(file_hashes), _equal_pairs(pixel_hashes)
    pairs = [*same_file, *same_picture, *_near_pairs(bits, structures)]
    if not pairs:
        return []
    first, second = np.array(pairs).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    groups = [np.flatnonzero(labels == label) for label in np.flatnonzero(np.bincount(labels) > 1)]
    return [Duplicates(_kind(group, file_hashes, pixel_hashes), tuple(map(int, group))) for group in groups]


def _equal_pairs(hashes: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of each photograph with the first one that has the same hash."""
    first: dict[str, int] = {}
    return [(first[name], index) for index, name in enumerate(hashes) if first.setdefault(name, index) != index]


def _kind(group: NDArray[np.intp], file_hashes: Sequence[str], pixel_hashes: Sequence[str]) -> str:
    if len({file_hashes[index] for index in group}) == 1:
        return SAME_FILE
    return SAME_PICTURE if len({pixel_hashes[index] for index in group}) == 1 else NEAR


def _near_pairs(bits: NDArray[np.bool_], structures: NDArray[np.int8]) -> list[tuple[int, int]]:
    candidates = _nearest_pairs(bits)
    if not len(candidates):
        return []
    found = np.concatenate(list(_correlations(structures, candidates)))
    return [(int(a), int(b)) for a, b in candidates[found >= _correlation_limit(structures)]]


def _nearest_pairs(bits: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Pairs (K, 2) of each photograph with its nearest ones, by the number of different bits of their hashes."""
    from sklearn.neighbors import NearestNeighbors  # takes a second to import

    signs = np.where(bits, np.float32(1), np.float32(-1))  # the squared distance is 4 times the number of bits
    count = min(_NEIGHBOURS + 1, len(bits))
    distances, neighbours = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(signs).kneighbors(signs)
    first = np.repeat(np.arange(len(bits)), count)
    pairs = np.sort(np.stack([first, neighbours.ravel()], axis=1), axis=1)
    near = (distances.ravel() ** 2 / 4 <= _MAX_DIFFERENT_BITS + 0.5) & (pairs[:, 0] != pairs[:, 1])
    return np.asarray(np.unique(pairs[near], axis=0), np.intp)


def _correlation_limit(structures: NDArray[np.int8]) -> float:
    """The correlation from which on a pair stands out among pairs chosen at random (by Fisher's transform)."""
    random = np.random.default_rng(0)
    first = random.integers(len(structures), size=_RANDOM_PAIRS)
    second = (first + random.integers(1, len(structures), size=_RANDOM_PAIRS)) % len(structures)
    pairs = np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)
    values = np.concatenate(list(_correlations(structures, pairs)))
    z = np.arctanh(np.clip(values, -_LARGEST_CORRELATION, _LARGEST_CORRELATION))
    # Few photographs have few pairs, most of which may be duplicates.
    usual = np.median(z) + _STANDARD_DEVIATIONS * median_abs_deviation(z, scale="normal") if len(pairs) >= 10 else 0.0
    return max(_MIN_CORRELATION, min(float(np.tanh(usual)), _LARGEST_CORRELATION))


def _correlations(structures: NDArray[np.int8], pairs: NDArray[np.intp]) -> Iterator[NDArray[np.float64]]:
    """Correlation of the fine structures of each pair, in chunks. That of two flat images is 1."""
    for start in range(0, len(pairs), _CHUNK):
        first, second = (structures[pairs[start : start + _CHUNK, side]].astype(np.float32) for side in (0, 1))
        product = np.einsum("nk,nk->n", first, second)
        norms = np.sqrt(np.einsum("nk,nk->n", first, first) * np.einsum("nk,nk->n", second, second))
        both_flat = ~first.any(axis=1) & ~second.any(axis=1)
        yield np.where(both_flat, 1.0, product / np.where(norms > 0, norms, 1))
