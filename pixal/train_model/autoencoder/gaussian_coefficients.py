"""Training with ``output: gaussian`` on coefficients only: the likelihood of whole images follows from them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.autoencoder.log_variance import bounded_gains, residuals
from pixal.train_model.autoencoder.subspace import Subspace
from pixal.train_model.family import Rows
from pixal.train_model.keras_training.data import Arrays

_VALUES_PER_CHANNEL = 3  # in the targets, besides products with the basis


def gaussian_data(
    inputs: InputSet,
    rows: Rows,
    labels: NDArray[np.float32],
    subspace: Subspace,
    level: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> Arrays:
    """Compute the inputs of the core for ``rows``, and the targets that ``GaussianCoefficientLoss`` expects.

    With the residual r of an image from the subspace, the basis B, and the matrix W of weights divided by variances,
    the targets contain r W r, B W r and B W B for each channel. The loss is exact except for the bounds of the
    log-variances, and the values are far from these bounds.

    Args:
        inputs: All good parts.
        rows: The rows to train on.
        labels: One-hot labels of all rows, (N, T).
        subspace: The subspace.
        level: The log-variances without gains, (T, D).
        weights: The weights of the values in the loss, (T, D).

    Returns:
        The coefficients, (n, k), with several types also the labels. The targets hold per image: k coefficients; r W r,
        the sum of the weights, and the sum of weights times log-variances, each (C,); B W r, (C, k); B W B, (C, k, k).
    """
    channels = inputs.shape[2]
    mean_weights = weights / weights.shape[1]
    inverse = (mean_weights * np.exp(-level)).reshape(len(level), -1, channels)
    basis = (subspace.basis * subspace.scale).reshape(len(subspace.basis), -1, channels)
    basis_products = np.einsum("kpc,tpc,lpc->tckl", basis, inverse, basis, optimize=True)
    weight_sums = mean_weights.reshape(inverse.shape).sum(1)
    level_sums = (mean_weights * level).reshape(inverse.shape).sum(1)
    all_coefficients, targets = [], []
    for chunk in inputs.iterate_chunks(rows):
        images, types = inputs.rows(chunk), labels[chunk].argmax(1)
        coefficients = subspace.coefficients(images, labels[chunk])
        all_coefficients.append(coefficients)
        residual = residuals(images, labels[chunk], coefficients, subspace).reshape(len(chunk), -1, channels)
        weighted = residual * inverse[types]
        cross_products = np.einsum("npc,kpc->nck", weighted, basis, optimize=True)
        squares = np.einsum("npc,npc->nc", weighted, residual)
        columns = (coefficients, squares, weight_sums[types], level_sums[types], cross_products, basis_products[types])
        targets.append(np.concatenate([values.reshape(len(chunk), -1) for values in columns], axis=1))
    core_input = np.concatenate(all_coefficients).astype(np.float32)
    core_inputs = [core_input] if labels.shape[1] == 1 else [core_input, labels[rows]]
    return Arrays(core_inputs, np.concatenate(targets).astype(np.float32))


@keras.saving.register_keras_serializable("pixal")
class GaussianCoefficientLoss(keras.losses.Loss):
    """The ``GaussianLoss`` of images, from their coefficients.

    ``y_pred`` is (n, k + C): coefficients and gains. ``y_true`` is described in ``gaussian_data``.
    """

    def __init__(self, rank: int, channels: int, **options: Any) -> None:
        """Create the loss.

        Args:
            rank: k, the number of coefficients of an image.
            channels: C, the number of channels.
            **options: Arguments of ``keras.losses.Loss``.
        """
        super().__init__(**({"name": "gaussian_nll"} | options))
        self.rank, self.channels = rank, channels

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """The loss of each image, (n,)."""
        k, c = self.rank, self.channels
        edges = np.cumsum([k, *[c] * _VALUES_PER_CHANNEL, c * k]).tolist()
        truth, squares, weight_sums, level_sums, cross_products, basis_products = ops.split(y_true, edges, axis=1)
        cross_products = ops.reshape(cross_products, (-1, c, k))
        basis_products = ops.reshape(basis_products, (-1, c, k, k))
        difference = truth - y_pred[:, :k]
        gains = bounded_gains(y_pred[:, k:])
        linear = ops.einsum("nck,nk->nc", cross_products, difference)
        quadratic = ops.einsum("nckl,nk,nl->nc", basis_products, difference, difference)
        scaled = ops.exp(-gains) * (squares + 2 * linear + quadratic)
        return 0.5 * ops.sum(level_sums + weight_sums * gains + scaled, axis=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras rebuilds the loss."""
        config: dict[str, Any] = super().get_config()
        return config | {"rank": self.rank, "channels": self.channels}
