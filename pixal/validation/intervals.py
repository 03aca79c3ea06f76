"""How far a measure might lie elsewhere with other parts of the same kind: 95 % confidence intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Interval = list[float]
"""Lower and upper end."""

LEVEL = 0.95
_RESAMPLES = 2000
_SEED = 0
_CELLS = 2_000_000  # numbers in memory at a time


def rate_interval(hits: int, parts: int) -> Interval:
    """The interval of a rate, exact (Clopper and Pearson 1934).

    Not a bootstrap: none of 20 resampled stays none of 20, though one part in seven may well fail.
    """
    return [float(end) for end in binomtest(hits, parts).proportion_ci(LEVEL, method="exact")]


def ranking_intervals(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> dict[str, Interval]:
    """Bootstrap intervals of image AUROC and average precision (Efron 1979): percentiles of 2000 resamples.

    labels (n,), 0 or 1, both there; scores (n,). Good and defective parts are each drawn anew, as many as there are.
    """
    order = np.argsort(-scores, kind="stable")
    defective = labels[order] == 1
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # a threshold finds equal scores together
    good, bad = int((~defective).sum()), int(defective.sum())
    generator = np.random.default_rng(_SEED)
    draws = (_resamples(generator, parts, len(labels)) for parts in (good, bad))
    auroc, ap = [], []
    for drawn_good, drawn_bad in zip(*draws, strict=True):
        drawn = np.zeros((len(drawn_good), len(labels)))
        drawn[:, ~defective] = drawn_good
        false = _sums(drawn)[:, ends]
        drawn[:, ~defective], drawn[:, defective] = 0, drawn_bad
        true = _sums(drawn)[:, ends]
        found = np.diff(true, prepend=0)
        auroc.append((found * (good - false + np.diff(false, prepend=0) / 2)).sum(1) / (good * bad))
        ap.append((found * true / np.maximum(true + false, 1)).sum(1) / bad)
    return {"image_auroc": _percentiles(auroc), "image_ap": _percentiles(ap)}


def mean_interval(values: NDArray[np.float64]) -> Interval:
    """The bootstrap interval of the mean of values (n,), n > 0, one a part."""
    draws = _resamples(np.random.default_rng(_SEED), len(values), len(values))
    return _percentiles([drawn @ values / len(values) for drawn in draws])


def _resamples(generator: np.random.Generator, parts: int, total: int) -> Iterator[NDArray[np.int64]]:
    """How often each of ``parts`` is drawn: (b, parts), several times, ``_RESAMPLES`` rows in all.

    ``total``: of how many numbers a row of the caller's work is.
    """
    step = max(1, _CELLS // total)
    for start in range(0, _RESAMPLES, step):
        rows = min(step, _RESAMPLES - start)
        drawn = generator.integers(0, parts, (rows, parts)) + parts * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * parts).reshape(rows, parts)


def _sums(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cumsum(drawn, axis=1))


def _percentiles(chunks: list[NDArray[np.float64]]) -> Interval:
    tail = (1 - LEVEL) / 2
    return [float(end) for end in np.quantile(np.concatenate(chunks), [tail, 1 - tail])]
