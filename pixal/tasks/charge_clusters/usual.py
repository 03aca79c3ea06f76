"""How unusual a cluster is, compared with clusters that were held out in training."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.thresholds import p_values
from pixal.io.arrays import load_arrays, save_arrays

QUANTITIES = ("charge", "size", "uncertainty", "surprise")
"""Charge in the last slice (logarithm); its number of pixels (logarithm); logarithm of the determinant of the predicted
covariance; negative log-likelihood of the truth."""

_FILE = "usual.npz"
_LARGEST = 100_000  # events that are kept
_SMALLEST_SPREAD = 0.1  # of logarithms; sizes that are nearly all equal would make every other size unusual


@dataclass(frozen=True)
class UsualClusters:
    """What is usual: the centre and the spread of each quantity, and the scores of held-out events.

    Attributes:
        center: Median of each quantity, (4,).
        spread: Half width of the central 68.27 %, (4,).
        scores: Scores of held-out events, (M,).
        scores_without_truth: Their scores without the last quantity, which needs the truth, (M,).
    """

    center: NDArray[np.float64]
    spread: NDArray[np.float64]
    scores: NDArray[np.float64]
    scores_without_truth: NDArray[np.float64]

    @classmethod
    def fit(cls, quantities: NDArray[np.float64]) -> UsualClusters:
        """Learn what is usual from held-out events.

        Half of them give the centres and spreads, the other half the scores, which no event of the first half enters.

        Args:
            quantities: (n, 4), in the order of ``QUANTITIES``.
        """
        chosen = quantities[:_LARGEST]
        first, second = chosen[::2], chosen[1::2] if len(chosen) > 1 else chosen
        low, center, high = np.quantile(first, [0.158655, 0.5, 0.841345], axis=0)
        usual = cls(center, np.maximum((high - low) / 2, _SMALLEST_SPREAD), np.empty(0), np.empty(0))
        return replace(usual, scores=usual.score(second), scores_without_truth=usual.score(second[:, :-1]))

    def score(self, quantities: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest distance of a quantity from its centre, in spreads, (n,). The last quantity may be left out."""
        count = quantities.shape[1]
        return np.asarray(np.abs((quantities - self.center[:count]) / self.spread[:count]).max(axis=1))

    def p_values(self, quantities: NDArray[np.float64]) -> NDArray[np.float64]:
        """How often a usual cluster scores at least as high, (n,). See ``pixal.calibration.thresholds.p_values``."""
        is_complete = quantities.shape[1] == len(QUANTITIES)
        held_out = self.scores if is_complete else self.scores_without_truth
        return p_values(self.score(quantities), held_out, "conformal")

    def save(self, folder: Path) -> Path:
        """Write the file into the model's folder."""
        save_arrays(folder / _FILE, **{field.name: getattr(self, field.name) for field in fields(self)})
        return folder / _FILE

    @classmethod
    def load(cls, folder: Path) -> UsualClusters:
        """Read what ``save`` wrote."""
        return cls(**load_arrays(folder / _FILE))


def quantities_of(
    raw: NDArray[np.float32],
    residual: NDArray[np.float64] | None,
    covariance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The quantities of events, (n, 4), in the order of ``QUANTITIES``; (n, 3) without a residual.

    Args:
        raw: Charge in electrons, (n, rows, columns, slices).
        residual: Truth minus prediction, (n, 4); None: the truth is not known.
        covariance: Predicted covariance, (n, 4, 4), in the units of the residual.
    """
    charge, size = charge_and_size(raw)
    factor = np.linalg.cholesky(covariance)
    uncertainty = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(1)
    quantities = [np.log1p(np.maximum(charge, 0)), np.log1p(size), uncertainty]
    if residual is not None:
        pulls = np.linalg.solve(factor, residual[..., None])[..., 0]
        quantities.append(0.5 * (np.square(pulls).sum(1) + uncertainty + residual.shape[1] * np.log(2 * np.pi)))
    return np.stack(quantities, axis=1)


def charge_and_size(raw: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Charge of the last slice in electrons, (n,), and its number of pixels with a positive charge, (n,)."""
    last = raw[..., -1]
    return last.sum((1, 2), dtype=np.float64), np.count_nonzero(last > 0, axis=(1, 2))
