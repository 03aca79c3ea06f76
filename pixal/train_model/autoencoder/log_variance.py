"""The spread of an autoencoder's values: a fixed level a pixel, and what the network makes of it image by image."""

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
from pixal.train_model.keras_training.losses import VARIANCES

Values = NDArray[np.float32]

_MOST = 4.0  # a gain's size at most: a standard deviation is 7 times as large, or a seventh
_LEAST = math.log(VARIANCES[0]) + _MOST  # of the level, which leaves room for the gains within the bounds of the loss


def bounded_gains(gains: Any) -> Any:
    """Gains of any size, brought smoothly between -4 and 4; small ones stay as they are."""
    return _MOST * ops.tanh(gains / _MOST)


@keras.saving.register_keras_serializable("pixal")
class LogVariance(layers.Layer):
    """Log-variances of the values of images (n, D): the level of the type, plus each image's gains (n, C).

    level: (T, D), not trained. unit: (T, C), the level's root mean square over the part, as a standard deviation.
    """

    def __init__(self, shape: Sequence[int], types: int = 1, **options: Any) -> None:
        """``shape``: (H, W, C) of an image. ``types``: how many labels there are, each with a level of its own."""
        super().__init__(**(options | {"dtype": "float32", "trainable": False}))
        self.shape, self.types = tuple(int(size) for size in shape), types
        values = int(np.prod(self.shape))
        self.level = self.add_weight(shape=(types, values), initializer="zeros", trainable=False, name="level")
        self.unit = self.add_weight(shape=(types, self.shape[2]), initializer="ones", trainable=False, name="unit")
        self.built = True

    def call(self, gains: Any, label: Any = None) -> Any:
        """Log-variances (n, D) of images with ``gains`` (n, C) and one-hot ``label`` (n, T)."""
        level = self.level if label is None else ops.matmul(label, self.level)
        return level + ops.tile(bounded_gains(gains), (1, self.shape[0] * self.shape[1]))

    def set_level(self, squared: Values, masks: NDArray[np.bool_]) -> None:
        """Take the level from mean ``squared`` residuals (T, D) of good images whose parts are in ``masks`` (T, H, W).

        It is the largest near a pixel, as in the calibration: of few images some agree at a pixel by chance.
        """
        variances = [error_variance(one.reshape(self.shape), mask) for one, mask in zip(squared, masks, strict=True)]
        inside = [one[mask] if mask.any() else one for one, mask in zip(variances, masks, strict=True)]
        self.level.assign(np.maximum(np.log([one.ravel() for one in variances]), _LEAST))
        self.unit.assign(np.sqrt([one.reshape(-1, self.shape[2]).mean(0) for one in inside]))

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build the layer again."""
        config: dict[str, Any] = super().get_config()
        return config | {"shape": self.shape, "types": self.types}


def squared_residuals(inputs: InputSet, rows: Rows, labels: Values, subspace: Subspace) -> Values:
    """Mean squared differences (T, D) of each type's ``inputs[rows]`` to what a subspace makes of them.

    ``labels`` (N, T), of all rows.
    """
    total = np.zeros((labels.shape[1], inputs.data.shape[1]), np.float32)
    for part in inputs.iterate_chunks(rows):
        images = inputs.rows(part)
        outside = beside(images, labels[part], subspace.coefficients(images, labels[part]), subspace)
        total += labels[part].T @ np.square(outside)
    return _of_each(total, labels[rows])


def beside(images: Values, labels: Values, coefficients: Values, subspace: Subspace) -> Values:
    """What a subspace leaves of images (n, D) with ``labels`` (n, T) and ``coefficients`` (n, k): (n, D)."""
    return np.asarray(images - labels @ subspace.mean - coefficients @ (subspace.basis * subspace.scale), np.float32)


def means_alone(inputs: InputSet, rows: Rows, labels: Values) -> Subspace:
    """A subspace without components: of each type's ``inputs[rows]`` the mean image."""
    total = np.zeros((labels.shape[1], inputs.data.shape[1]), np.float32)
    for part in inputs.iterate_chunks(rows):
        total += labels[part].T @ inputs.rows(part)
    return Subspace(_of_each(total, labels[rows]), np.zeros((0, total.shape[1]), np.float32), 1.0)


def _of_each(total: Values, labels: Values) -> Values:
    """Sums (T, D) over the images of each type as means."""
    return np.asarray(total / np.maximum(labels.sum(0), 1)[:, None], np.float32)
