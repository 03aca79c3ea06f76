"""The log-variances of an autoencoder: a fixed level at each pixel, plus a gain that the network gives per image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from pixal.calibration.spread import error_variance
from pixal.inputs import InputSet
from pixal.train_model.autoencoder.subspace import Subspace
from pixal.train_model.family import Rows
from pixal.train_model.inference.activations import MAX_GAIN, VARIANCES

Values = NDArray[np.float32]

_MIN_LEVEL = math.log(VARIANCES[0]) + MAX_GAIN  # so that level plus gain stays within the bounds of the loss


def bounded_gains(gains: keras.KerasTensor) -> keras.KerasTensor:
    """Bound gains smoothly between -4 and 4. Small gains are nearly unchanged."""
    return MAX_GAIN * ops.tanh(gains / MAX_GAIN)


@keras.saving.register_keras_serializable("pixal")
class LogVariance(layers.Layer):
    """Computes the log-variances of images, (n, D): the level of the type plus the gains of the image, (n, C).

    Attributes:
        level: The log-variance of each value without gains, (T, D); not trained.
        unit: The typical standard deviation of each channel: the root mean square over the part, (T, C).
    """

    def __init__(self, shape: Sequence[int], types: int = 1, **options: Any) -> None:
        """Create the layer.

        Args:
            shape: (H, W, C) of an image.
            types: T, the number of types.
            **options: Arguments of ``keras.layers.Layer``.
        """
        super().__init__(**(options | {"dtype": "float32", "trainable": False}))
        self.shape, self.types = tuple(int(size) for size in shape), types
        values = int(np.prod(self.shape))
        self.level = self.add_weight(shape=(types, values), initializer="zeros", trainable=False, name="level")
        self.unit = self.add_weight(shape=(types, self.shape[2]), initializer="ones", trainable=False, name="unit")
        self.built = True

    def call(self, gains: keras.KerasTensor, label: keras.KerasTensor | None = None) -> keras.KerasTensor:
        """Compute log-variances (n, D) from gains (n, C) and one-hot labels (n, T)."""
        level = self.level if label is None else ops.matmul(label, self.level)
        return level + ops.tile(bounded_gains(gains), (1, self.shape[0] * self.shape[1]))

    def set_level(self, squared: Values, masks: NDArray[np.bool_]) -> None:
        """Set the level from the residuals of good images.

        It is the largest variance near each pixel, as in the calibration: with few images, the residuals at a single
        pixel may be small by chance.

        Args:
            squared: Mean squared residuals, (T, D).
            masks: The consensus masks, (T, H, W).
        """
        variances = [
            error_variance(values.reshape(self.shape), mask) for values, mask in zip(squared, masks, strict=True)
        ]
        on_part = [values[mask] if mask.any() else values for values, mask in zip(variances, masks, strict=True)]
        self.level.assign(np.maximum(np.log([values.ravel() for values in variances]), _MIN_LEVEL))
        self.unit.assign(np.sqrt([values.reshape(-1, self.shape[2]).mean(0) for values in on_part]))

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras rebuilds the layer."""
        config: dict[str, Any] = super().get_config()
        return config | {"shape": self.shape, "types": self.types}


def mean_squared_residuals(inputs: InputSet, rows: Rows, labels: Values, subspace: Subspace) -> Values:
    """Compute the mean squared difference between images and their projection onto a subspace.

    Args:
        inputs: All good parts.
        rows: The rows to average.
        labels: One-hot labels of all rows, (N, T).
        subspace: The subspace.

    Returns:
        (T, D).
    """
    total = np.zeros((labels.shape[1], inputs.data.shape[1]), np.float32)
    for chunk in inputs.iterate_chunks(rows):
        images = inputs.rows(chunk)
        residual = residuals(images, labels[chunk], subspace.coefficients(images, labels[chunk]), subspace)
        total += labels[chunk].T @ np.square(residual)
    return _type_means(total, labels[rows])


def residuals(images: Values, labels: Values, coefficients: Values, subspace: Subspace) -> Values:
    """Images (n, D) minus their projections, from ``labels`` (n, T) and ``coefficients`` (n, k): (n, D)."""
    return np.asarray(images - labels @ subspace.mean - coefficients @ (subspace.basis * subspace.scale), np.float32)


def means_only(inputs: InputSet, rows: Rows, labels: Values) -> Subspace:
    """A subspace without components: the mean of ``inputs[rows]`` for each type. ``labels`` (N, T) of all rows."""
    total = np.zeros((labels.shape[1], inputs.data.shape[1]), np.float32)
    for chunk in inputs.iterate_chunks(rows):
        total += labels[chunk].T @ inputs.rows(chunk)
    return Subspace(_type_means(total, labels[rows]), np.zeros((0, total.shape[1]), np.float32), 1.0)


def _type_means(total: Values, labels: Values) -> Values:
    """Divide sums (T, D) over the images of each type by their numbers."""
    return np.asarray(total / np.maximum(labels.sum(0), 1)[:, None], np.float32)
