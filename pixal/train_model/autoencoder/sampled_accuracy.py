"""The accuracy of a dense autoencoder, measured after each epoch on a sample of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pixal.inputs import InputSet, evenly_spaced
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection, activated
from pixal.train_model.family import Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.accuracy import ACCURACY_TOLERANCE, Accuracy

_VALUES = 2048  # sampled values per image
_IMAGES = 500  # images, evenly spaced; a million values give the share to 0.05 %
_ROWS = 16  # images in memory at a time


class SampledAccuracy(Accuracy):
    """The share of input values reconstructed within ``ACCURACY_TOLERANCE``, on a fixed random sample of values."""

    def __init__(
        self,
        share: Any,
        projection: SubspaceProjection | None,
        inputs: InputSet,
        labels: NDArray[np.float32],
        *,
        rows: Rows,
        validation_rows: Rows | None,
        seed: int,
    ) -> None:
        """Draw the sample.

        Args:
            share: The ``share_function`` of the network.
            projection: The projection around the network; None if there is none.
            inputs: All good parts.
            labels: One-hot labels of all rows, (N, T).
            rows: The training rows.
            validation_rows: The validation rows; None if there are none.
            seed: Seed of the sample.
        """
        count = inputs.data.shape[1]
        self._columns = np.sort(np.random.default_rng(seed).choice(count, min(_VALUES, count), replace=False))
        self._share, self._projection = share, projection
        if projection is None:
            self._sample: Any = (tf.constant(self._columns),)
        else:  # the projection is fixed, so its sampled columns are gathered once
            means, basis = (tf.gather(values, self._columns, axis=1) for values in (projection.mean, projection.basis))
            self._sample = (means, basis * projection.scale)
        self._training = self._prepare(inputs, labels, rows)
        self._validation = None if validation_rows is None else self._prepare(inputs, labels, validation_rows)

    def measure_epoch(self, history: History) -> None:
        """Add the accuracy of the current epoch to ``history``."""
        history.accuracy.append(float(self._share(*self._training, self._sample)))
        if self._validation is not None:
            history.validation_accuracy.append(float(self._share(*self._validation, self._sample)))

    def _prepare(self, inputs: InputSet, labels: NDArray[np.float32], rows: Rows) -> tuple[Any, Any, Any]:
        """The sampled values of ``rows``, the input of the network for them, and their labels."""
        rows = evenly_spaced(rows, _IMAGES)
        sampled, network_inputs = [], []
        for chunk in np.array_split(rows, -(-len(rows) // _ROWS)):
            images = inputs.rows(chunk)
            sampled.append(images[:, self._columns])
            projected = images if self._projection is None else self._projection(images, labels[chunk]).numpy()
            network_inputs.append(projected)
        return tf.concat(sampled, 0), tf.concat(network_inputs, 0), tf.constant(labels[rows])


def share_function(core: Any, activation: str | None) -> Any:
    """Compile the function that measures the share of accurate values. It is traced once for all fits of ``core``.

    Args:
        core: The trained part of the network.
        activation: The activation of the projection around it; None without a projection.
    """

    def share(sampled: Any, values: Any, label: Any, sample: Any) -> Any:
        output = core(values if len(core.inputs) == 1 else [values, label], training=False)
        if activation is None:
            output = tf.gather(output, *sample, axis=1)
        else:
            means, basis = sample
            output = activated(label @ means, output @ basis, activation)
        return tf.reduce_mean(tf.cast(tf.abs(output - sampled) <= ACCURACY_TOLERANCE, tf.float32))

    return tf.function(share, reduce_retracing=True)
