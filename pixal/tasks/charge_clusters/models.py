"""The model families ``mdn`` and ``mdn_float``: from a charge cluster to four targets and their covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.tasks.charge_clusters import TARGETS
from pixal.tasks.charge_clusters.measures.summary import COVERAGES, normal_factors, standard_deviations
from pixal.tasks.charge_clusters.network import likelihood, model
from pixal.tasks.charge_clusters.network.settings import FloatNetworkSettings, NetworkSettings
from pixal.tasks.charge_clusters.normalization import Normalization
from pixal.train_model.family import NO_CONTROL, FitControl, Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.keras_family import KerasFamily
from pixal.train_model.specification import ModelSpecification

_EVENTS_AT_ONCE = 4096
_CALIBRATION_FILE = "calibration.npz"


class ClusterSpecification(ModelSpecification):
    """What a network of charge clusters is built from.

    Attributes:
        normalization: How charges and labels are normalised.
        clusters: The section ``clusters`` of the settings at training.
        gradient_clip: See ``ClusterTraining``.
        warm_up_epochs: See ``ClusterTraining``.
    """

    normalization: Normalization
    clusters: dict[str, Any]
    gradient_clip: float | None = None
    warm_up_epochs: int = 0


class ClusterNetwork(KerasFamily):
    """A network that Keras trains on batches from disk (``training.py`` of the task)."""

    Specification = ClusterSpecification
    spec: ClusterSpecification
    loss: likelihood.WarmUpLikelihood
    """The loss of the model that ``compiled`` returns."""
    offset: NDArray[np.float64]
    """What ``predict`` adds to the means, in the units of the labels, (4,). See ``calibrate``."""
    covariance_scale: NDArray[np.float64]
    """What ``predict`` multiplies the standard deviations of the four targets with, (4,). See ``calibrate``."""
    interval_factors: NDArray[np.float64]
    """Half widths of the intervals that hold ``COVERAGES`` of the held-out events, in standard deviations, (2, 4)."""

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self.offset, self.covariance_scale = np.zeros(len(TARGETS)), np.ones(len(TARGETS))
        self.interval_factors = np.tile(normal_factors()[:, None], len(TARGETS))

    @property
    def loss_name(self) -> str:
        """See ``ModelFamily.loss_name``."""
        return "negative log-likelihood"

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Not possible: an ``InputSet`` has no batches from disk."""
        raise ModelError(f"{self.spec.model} is trained by the task charge_clusters; set task: charge_clusters")

    def compiled(self) -> Any:
        """Build the network with new weights, and return a Keras model for training that shares its layers."""
        network = self.build_model(self.spec.input_dim)
        self.loss = likelihood.WarmUpLikelihood()
        trained = self._compile(network, self.loss, replicated=False)
        trained.optimizer.global_clipnorm = self.spec.gradient_clip
        return trained

    def calibrate(self, raw: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Adapt the predictions, their covariances, and the intervals, to held-out events.

        The mean of the residuals becomes 0, as that of the centroid with an offset. Standard deviations get one factor
        per target, so that the pulls have a mean square of 1 (Laves et al. 2020, arXiv 2006.13092); correlations stay
        as they are. Pulls are not normal, so the half width of an interval is a quantile of the absolute pulls (split
        conformal prediction: Lei et al. 2018, J. Am. Stat. Assoc. 113, 1094).

        Args:
            raw: Charge in electrons, (n, rows, columns, slices).
            labels: True targets, (n, 4).
        """
        self.offset, self.covariance_scale = np.zeros(len(TARGETS)), np.ones(len(TARGETS))
        mean, covariance = self.predict(raw)
        self.offset = (labels - mean).mean(axis=0, dtype=np.float64)
        pulls = np.abs(labels - mean - self.offset) / standard_deviations(covariance)
        self.covariance_scale = np.sqrt(np.square(pulls).mean(axis=0))
        ordered = np.sort(pulls / self.covariance_scale, axis=0)
        places = [min(math.ceil((len(ordered) + 1) * level), len(ordered)) - 1 for level in COVERAGES]
        self.interval_factors = ordered[places]

    def save(self, folder: Path) -> list[Path]:
        """Write the network, and what ``calibrate`` found."""
        path = folder / _CALIBRATION_FILE
        found = {"covariance_scale": self.covariance_scale, "interval_factors": self.interval_factors}
        save_arrays(path, offset=self.offset, **found)
        return [*super().save(folder), path]

    def _load_other_files(self, folder: Path) -> None:
        path = folder / _CALIBRATION_FILE
        try:
            stored = load_arrays(path)
            self.offset, self.covariance_scale = stored["offset"], stored["covariance_scale"]
            self.interval_factors = stored["interval_factors"]
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise ModelError(f"{path} is missing or damaged; run train again") from error

    def predict(self, raw: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predict the targets of clusters.

        Args:
            raw: Charge in electrons, (n, rows, columns, slices).

        Returns:
            The targets (n, 4) in the units of the labels, and their calibrated covariance (n, 4, 4).
        """
        normalization = self.spec.normalization
        mean, cholesky = likelihood.split_output(self.outputs(raw))
        factors = np.asarray(normalization.label_scale) * self.covariance_scale
        scaled = cholesky.astype(np.float64) * factors[:, None]  # with less precision a covariance may not be positive
        return normalization.targets(mean, raw) + self.offset, np.asarray(scaled @ scaled.transpose(0, 2, 1))

    def outputs(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The 14 outputs of the network for charges in electrons, (n, 14)."""
        charge = self.spec.normalization.charge(raw)
        parts = [
            self._built.predict_on_batch(charge[start : start + _EVENTS_AT_ONCE])
            for start in range(0, len(charge), _EVENTS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, likelihood.OUTPUTS), np.float32)


class Mdn(ClusterNetwork):
    """The quantised network of 2,029 weights, small enough for the chip."""

    Options = NetworkSettings

    def _build(self, input_dim: int) -> Any:
        return model.build_mdn(self.spec.shape, NetworkSettings.model_validate(self.options.model_dump()))


class MdnFloat(ClusterNetwork):
    """A larger network without quantisation, as an upper bound."""

    Options = FloatNetworkSettings

    def _build(self, input_dim: int) -> Any:
        return model.build_float(self.spec.shape, FloatNetworkSettings.model_validate(self.options.model_dump()))


def specification(settings: Mapping[str, Any], shape: tuple[int, int, int], **found: Any) -> ClusterSpecification:
    """The specification of a network.

    Args:
        settings: The values of the section ``model_training``.
        shape: Shape of the charges of an event.
        found: The values of ``ClusterSpecification``, and ``memory_limit``.
    """
    channels = tuple(f"slice_{index}" for index in found.pop("slices"))
    described = {"input_dim": int(np.prod(shape)), "shape": shape, "channels": channels, "types": ("clusters",)}
    weights = {"channel_weights": (1.0,) * shape[2]}
    return ClusterSpecification.read({**settings, **described, **weights, **found})
