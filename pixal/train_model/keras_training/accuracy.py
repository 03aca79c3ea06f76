"""The accuracy of a fit: the share of values that are reconstructed well, measured epoch by epoch at little cost."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pixal.inputs import InputSet, evenly_spaced
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection, activated
from pixal.train_model.family import History, Rows

ACCURACY_TOLERANCE = 0.02  # of the input's range: a value reconstructed within it counts as accurate
_SAMPLE = 2048  # values an image
_IMAGES = 500  # evenly spaced among more: their million values give the share to 0.05 %
_ROWS = 16  # images in memory at a time


class Accuracy(Protocol):
    """The share of values reconstructed within ``ACCURACY_TOLERANCE``."""

    def measure_epoch(self, history: History) -> None:
        """Add this epoch's accuracy to ``history``."""


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
        """``share``: ``share_function`` of the network; ``projection``: what stands around it. ``labels`` (N, T)."""
        count = inputs.data.shape[1]
        self._columns = np.sort(np.random.default_rng(seed).choice(count, min(_SAMPLE, count), replace=False))
        self._share, self._projection = share, projection
        if projection is None:
            self._sample: Any = (tf.constant(self._columns),)
        else:  # fixed, so gathered once
            means, basis = (tf.gather(values, self._columns, axis=1) for values in (projection.mean, projection.basis))
            self._sample = (means, basis * projection.scale)
        self._training = self._prepared(inputs, labels, rows)
        self._validation = None if validation_rows is None else self._prepared(inputs, labels, validation_rows)

    def measure_epoch(self, history: History) -> None:
        """Add this epoch's accuracy to ``history``."""
        history.accuracy.append(float(self._share(*self._training, self._sample)))
        if self._validation is not None:
            history.validation_accuracy.append(float(self._share(*self._validation, self._sample)))

    def _prepared(self, inputs: InputSet, labels: NDArray[np.float32], rows: Rows) -> tuple[Any, Any, Any]:
        """The sampled values of ``rows``, what the network is given for them, and their labels."""
        rows = evenly_spaced(rows, _IMAGES)
        truth, given = [], []
        for part in np.array_split(rows, -(-len(rows) // _ROWS)):
            images = inputs.rows(part)
            truth.append(images[:, self._columns])
            given.append(images if self._projection is None else self._projection(images, labels[part]).numpy())
        return tf.concat(truth, 0), tf.concat(given, 0), tf.constant(labels[rows])


def share_function(core: Any, activation: str | None) -> Any:
    """The measure itself, compiled; traced once, it serves all fits of ``core``.

    ``activation``: of the projection around it; None without one.
    """

    def share(truth: Any, values: Any, label: Any, sample: Any) -> Any:
        found = core(values if len(core.inputs) == 1 else [values, label], training=False)
        if activation is None:
            found = tf.gather(found, *sample, axis=1)
        else:
            means, basis = sample
            found = activated(label @ means, found @ basis, activation)
        return tf.reduce_mean(tf.cast(tf.abs(found - truth) <= ACCURACY_TOLERANCE, tf.float32))

    return tf.function(share, reduce_retracing=True)
