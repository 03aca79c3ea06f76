"""Predictions for events, some at a time: from files, or from the test events of the model input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixal.tasks.charge_clusters.models import ClusterNetwork
from pixal.tasks.charge_clusters.reading import Events
from pixal.tasks.charge_clusters.usual import UsualClusters, charge_and_size, quantities_of


@dataclass(frozen=True)
class Predictions:
    """Events of one file, and what the network says of them.

    Attributes:
        file: Name of the file.
        events: The events.
        mean: Predicted targets, (n, 4).
        covariance: Predicted covariance, (n, 4, 4).
        charge: Charge in the last slice, electrons, (n,).
        size: Pixels with charge in the last slice, (n,).
        p_value: How often a usual cluster is as unusual, (n,).
    """

    file: str
    events: Events
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    charge: NDArray[np.float64]
    size: NDArray[np.int64]
    p_value: NDArray[np.float64]

    @property
    def sigma(self) -> NDArray[np.float64]:
        """Predicted standard deviations, (n, 4)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def residual(self) -> NDArray[np.float64]:
        """Truth minus prediction, (n, 4)."""
        return self.events.labels - self.mean


def predict(
    network: ClusterNetwork, usual: UsualClusters, parts: Iterator[tuple[str, Events]]
) -> Iterator[Predictions]:
    """Predict the events of ``parts``, which have the name of their file."""
    for file, events in parts:
        mean, covariance = network.predict(events.charge)
        quantities = quantities_of(events.charge, events.labels - mean, covariance)
        charge, size = charge_and_size(events.charge)
        yield Predictions(file, events, mean, covariance, charge, size, usual.p_values(quantities))
