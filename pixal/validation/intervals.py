"""95 % confidence intervals of the measures of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper end."""

LEVEL = 0.95
_RESAMPLES = 2000
_SEED = 0
_MAX_VALUES = 2_000_000  # values in memory at a time


def rate_interval(count: int, total: int) -> Interval:
    """Return the exact interval of the rate ``count / total`` (Clopper and Pearson 1934).

    A bootstrap would be wrong for extreme rates: every resample of 0 failures in 20 parts has 0 failures, although the
    true rate may well be 1 in 7.
    """
    from scipy.stats import binomtest  # takes longer to import than the verdict on one photograph

    interval = binomtest(count, total).proportion_ci(LEVEL, method="exact")
    return float(interval.low), float(interval.high)


def ranking_intervals(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> dict[str, Interval]:
    """Return bootstrap intervals of image AUROC and average precision (Efron 1979).

    The ends are percentiles of 2000 resamples. A resample draws as many good and as many defective parts as there are.

    Args:
        labels: (N,), 0 for good and 1 for defective; both must occur.
        scores: (N,), higher for more anomalous parts.

    Returns:
        The intervals by the names ``image_auroc`` and ``image_ap``.
    """
    order = np.argsort(-scores, kind="stable")
    is_defective = labels[order] == 1
    # Parts of equal score pass a threshold together, so the curves have one point per distinct score.
    last_of_score = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    n_good, n_defective = int((~is_defective).sum()), int(is_defective.sum())
    generator = np.random.default_rng(_SEED)
    resamples = (resample_counts(generator, size, len(labels)) for size in (n_good, n_defective))
    auroc, average_precision = [], []
    for good_counts, defective_counts in zip(*resamples, strict=True):
        counts = np.zeros((len(good_counts), len(labels)))
        counts[:, ~is_defective] = good_counts
        false_positives = np.cumsum(counts, axis=1)[:, last_of_score]
        counts[:, ~is_defective], counts[:, is_defective] = 0, defective_counts
        true_positives = np.cumsum(counts, axis=1)[:, last_of_score]
        new_true = np.diff(true_positives, prepend=0)
        new_false = np.diff(false_positives, prepend=0)
        auroc.append((new_true * (n_good - false_positives + new_false / 2)).sum(1) / (n_good * n_defective))
        precision = true_positives / np.maximum(true_positives + false_positives, 1)
        average_precision.append((new_true * precision).sum(1) / n_defective)
    return {"image_auroc": percentile_interval(auroc), "image_ap": percentile_interval(average_precision)}


def mean_interval(values: NDArray[np.float64]) -> Interval:
    """Return the bootstrap interval of the mean of ``values`` (N,), one value per part, N > 0."""
    resamples = resample_counts(np.random.default_rng(_SEED), len(values), len(values))
    return percentile_interval([counts @ values / len(values) for counts in resamples])


def resample_counts(generator: np.random.Generator, size: int, row_length: int) -> Iterator[NDArray[np.int64]]:
    """Yield how often each of ``size`` parts is drawn in each resample.

    Args:
        generator: The random number generator.
        size: The number of parts, and of draws per resample.
        row_length: The number of values per resample that the caller holds in memory. It limits the chunk size.

    Yields:
        Counts (chunk, size); all chunks together have ``_RESAMPLES`` rows.
    """
    chunk = max(1, _MAX_VALUES // row_length)
    for start in range(0, _RESAMPLES, chunk):
        rows = min(chunk, _RESAMPLES - start)
        drawn = generator.integers(0, size, (rows, size)) + size * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)


def percentile_interval(chunks: list[NDArray[np.float64]], level: float = LEVEL) -> Interval:
    """Return the percentile interval of the values of all resamples, which come in chunks."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(chunks), [tail, 1 - tail])
    return float(low), float(high)
