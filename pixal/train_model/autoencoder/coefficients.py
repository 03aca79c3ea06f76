"""Training on coefficients only. For a quadratic loss, the loss of whole images follows from them exactly."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.train_model.autoencoder.subspace import SubspaceFit
from pixal.train_model.family import Rows
from pixal.train_model.keras_training.data import Arrays


def coefficient_data(
    fit: SubspaceFit, rows: Rows, labels: NDArray[np.float32], value_counts: NDArray[np.int_]
) -> Arrays:
    """Return the inputs of the core for ``rows``, and the targets that ``CoefficientLoss`` expects.

    Args:
        fit: The subspace, and the coefficients of all images.
        rows: The rows to train on.
        labels: One-hot labels of all rows, (N, T).
        value_counts: The number of values of an image of each type that count in the loss, (T,).
    """
    coefficients = fit.coefficients[rows]
    factor = (labels[rows] @ (fit.subspace.scale**2 / value_counts))[:, None].astype(np.float32)
    targets = np.hstack([coefficients, fit.squared_residuals[rows][:, None], factor])
    return Arrays([coefficients] if labels.shape[1] == 1 else [coefficients, labels[rows]], targets)


@keras.saving.register_keras_serializable("pixal")
class CoefficientLoss(keras.losses.Loss):
    """The mean squared error of images, from their coefficients in an orthonormal basis.

    ``y_pred`` is (n, k). ``y_true`` is (n, k + 2): the coefficients; the squared distance of the image from the
    subspace, in the units of the coefficients; and the factor that converts a squared norm in these units to a mean
    over the values that count in the loss.
    """

    def __init__(self, **options: Any) -> None:
        """Create the loss. ``options`` are arguments of ``keras.losses.Loss``."""
        super().__init__(**({"name": "mse"} | options))

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """The loss of each image, (n,)."""
        return (ops.sum(ops.square(y_true[:, :-2] - y_pred), axis=1) + y_true[:, -2]) * y_true[:, -1]
