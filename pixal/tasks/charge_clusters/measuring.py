"""Measure predictions: the network, and simple estimates of the position beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.io.arrays import load_arrays, save_arrays
from pixal.tasks.charge_clusters import TARGETS
from pixal.tasks.charge_clusters.measures.bound import cramer_rao
from pixal.tasks.charge_clusters.measures.centroid import CentroidFit, centroid, fit_centroid
from pixal.tasks.charge_clusters.measures.head_tail import HeadTailFit, fit_head_tail, head_tail
from pixal.tasks.charge_clusters.measures.summary import Binning, equal_bins, measure
from pixal.tasks.charge_clusters.prediction import Predictions
from pixal.tasks.charge_clusters.settings import Clusters
from pixal.tasks.charge_clusters.simulation import Sensor

_FILE = "centroid.npz"
_OTHERS = "centroid", "centroid_eta", "head_tail"
_MEASURED = 1_000_000  # events; further ones are in the results only
_BINS = 8
_BOUND_EVENTS = 500


@dataclass(frozen=True)
class Centroids:
    """The positions that the network is compared with, fitted on held-out events.

    Attributes:
        plain: The charge-weighted centroid with an offset.
        head_tail: The position also from the ends of wide clusters; its ``centroid`` has an eta correction.
    """

    plain: CentroidFit
    head_tail: HeadTailFit

    @classmethod
    def fit(cls, charge: NDArray[np.float32], labels: NDArray[np.float32], pitch: tuple[float, float]) -> Centroids:
        """Fit all to charges in electrons (n, rows, columns, slices) and labels (n, 4)."""
        plain = fit_centroid(charge, labels, eta=False, pitch=pitch)
        return cls(plain, fit_head_tail(charge, labels, pitch=pitch))

    def estimate(self, charge: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """The x and y in µm of each estimate, (n, 2), by name."""
        estimates = centroid(charge, self.plain), centroid(charge, self.eta), head_tail(charge, self.head_tail)
        return dict(zip(_OTHERS, estimates, strict=True))

    @property
    def eta(self) -> CentroidFit:
        """The centroid with an offset and an eta correction."""
        return self.head_tail.centroid

    def save(self, folder: Path) -> Path:
        """Write the file into the model's folder."""
        eta: dict[str, Any] = {"eta": self.eta.eta, "places": self.eta.places}
        offsets = {"plain_offset": self.plain.offset, "eta_offset": self.eta.offset}
        offsets |= {"wide_weight": self.head_tail.weight, "wide_offset": self.head_tail.offset}
        save_arrays(folder / _FILE, pitch=np.asarray(self.plain.pitch), **offsets, **eta)
        return folder / _FILE

    @classmethod
    def load(cls, folder: Path) -> Centroids:
        """Read what ``save`` wrote."""
        stored = load_arrays(folder / _FILE)
        x, y = map(float, stored["pitch"])
        eta = CentroidFit((x, y), stored["eta_offset"], stored["eta"], stored["places"])
        wide = HeadTailFit(eta, stored["wide_weight"], stored["wide_offset"])
        return cls(CentroidFit((x, y), stored["plain_offset"]), wide)


class Kept:
    """What measures and figures need of the first million events, as arrays by name.

    ``truth`` (n, 4), ``mean`` (n, 4), ``covariance`` (n, 4, 4), ``size`` (n,), and the estimates of
    ``Centroids``.
    """

    def __init__(self, centroids: Centroids) -> None:
        self._centroids = centroids
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._count = 0

    def add(self, part: Predictions) -> None:
        """Keep some events."""
        if self._count >= _MEASURED:
            return
        self._count += len(part.events)
        self._parts.append(
            {
                "truth": part.events.labels.astype(np.float64),
                "mean": part.mean,
                "covariance": part.covariance,
                "size": part.size,
                **self._centroids.estimate(part.events.charge),
            }
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All kept events."""
        return {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}


def measure_all(kept: dict[str, NDArray[Any]], factors: NDArray[np.float64]) -> dict[str, Any]:
    """Measures of the network for all targets, and of the other estimates for x and y, by name.

    See ``measures.summary.measure``; ``factors`` are the network's ``interval_factors``. ``bins`` are those of the
    cluster size and of the true angles.
    """
    truth, binnings = kept["truth"], _binnings(kept)
    estimators = {"network": measure(truth, kept["mean"], kept["covariance"], factors=factors, binnings=binnings)}
    for name in _OTHERS:
        estimators[name] = measure(truth[:, :2], kept[name], binnings=binnings, targets=TARGETS[:2])
    return estimators


def bound_of(kept: dict[str, NDArray[Any]], sensor: Sensor, settings: dict[str, Any]) -> dict[str, Any]:
    """The Cramér-Rao bound of each target, by name: the median over some events; ``bins``: that of the same bins.

    A mean would be that of the few events which tell next to nothing about a target, for example about x if a steep
    track stays in the middle of a pixel.
    """
    truth = kept["truth"]
    used = replace(sensor, noise=float(np.hypot(sensor.noise, settings["noise"])))
    slices = Clusters.model_validate(settings).used_slices
    bounds = cramer_rao(truth[:_BOUND_EVENTS].astype(np.float32), used, slices)
    bins = {
        binning.name: [
            _medians(bounds[binning.inside(index)[:_BOUND_EVENTS]]) for index in range(len(binning.edges) - 1)
        ]
        for binning in _binnings(kept)
    }
    return _medians(bounds) | {"bins": bins}


def _medians(bounds: NDArray[np.float64]) -> dict[str, Any]:
    """The finite medians by target; none without events."""
    medians = np.median(bounds, axis=0) if len(bounds) else np.full(len(TARGETS), np.nan)
    return {name: float(value) for name, value in zip(TARGETS, medians, strict=True) if np.isfinite(value)}


def _binnings(kept: dict[str, NDArray[Any]]) -> list[Binning]:
    """Bins of the cluster size and of the true angles."""
    quantities = {"size": kept["size"].astype(np.float64)}
    quantities |= {TARGETS[index]: kept["truth"][:, index] for index in (2, 3)}
    return [Binning(name, values, equal_bins(values, _BINS)) for name, values in quantities.items()]
