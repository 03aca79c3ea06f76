"""Predictions for events, some at a time: from files, or from the test events of the model input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixal.tasks.charge_clusters.measures.summary import standard_deviations
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
        half_widths: Half widths of the calibrated intervals that hold ``COVERAGES`` of the events, (2, n, 4).
        charge: Charge in the last slice, electrons, (n,).
        size: Pixels with charge in the last slice, (n,).
        p_value: How often a usual cluster is as unusual, (n,).
    """

    file: str
    events: Events
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    half_widths: NDArray[np.float64]
    charge: NDArray[np.float64]
    size: NDArray[np.int64]
    p_value: NDArray[np.float64]

    @property
    def sigma(self) -> NDArray[np.float64]:
        """Predicted standard deviations, (n, 4)."""
        return standard_deviations(self.covariance)

    @property
    def residual(self) -> NDArray[np.float64]:
        """Truth minus prediction, (n, 4)."""
        return self.events.labels - self.mean


def predict(
    network: ClusterNetwork, usual: UsualClusters, parts: Iterator[tuple[str, Events]], *, labelled: bool = True
) -> Iterator[Predictions]:
    """Predict the events of ``parts``, which have the name of their file.

    Without labels, the likelihood of the truth does not count for the p-value.
    """
    for file, events in parts:
        mean, covariance = network.predict(events.charge)
        quantities = quantities_of(events.charge, events.labels - mean if labelled else None, covariance)
        charge, size = charge_and_size(events.charge)
        half_widths = network.interval_factors[:, None] * standard_deviations(covariance)
        yield Predictions(file, events, mean, covariance, half_widths, charge, size, usual.p_values(quantities))
