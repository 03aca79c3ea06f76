"""Training on coefficients alone, where the loss of whole images follows from them exactly."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.train_model.autoencoder.subspace import Fit
from pixal.train_model.family import Rows
from pixal.train_model.keras_training.data import Arrays


def coefficient_data(fit: Fit, rows: Rows, labels: NDArray[np.float32], counted: NDArray[np.int_]) -> Arrays:
    """Inputs and targets of the core for ``rows``, as ``CoefficientLoss`` reads them.

    ``labels`` (N, T), of all rows. ``counted`` (T,): how many values of an image count in the loss.
    """
    coefficients = fit.coefficients[rows]
    share = (labels[rows] @ (fit.subspace.scale**2 / counted))[:, None].astype(np.float32)
    target = np.hstack([coefficients, fit.outside[rows][:, None], share])
    return Arrays([coefficients] if labels.shape[1] == 1 else [coefficients, labels[rows]], target)


@keras.saving.register_keras_serializable("pixal")
class CoefficientLoss(keras.losses.Loss):
    """The mean squared error of images, from their coefficients in an orthonormal basis.

    y_pred: (n, k). y_true: (n, k + 2): coefficients; the squared norm of what the basis does not reach, in their units;
    and what turns a squared norm in those units into a mean over the values that count.
    """

    def __init__(self, **options: Any) -> None:
        """Nothing to set."""
        super().__init__(**({"name": "mse"} | options))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, (n,)."""
        return (ops.sum(ops.square(y_true[:, :-2] - y_pred), axis=1) + y_true[:, -2]) * y_true[:, -1]
