"""Training with ``output: gaussian`` on coefficients alone: the likelihood of whole images follows from them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.autoencoder.log_variance import beside, bounded_gains
from pixal.train_model.autoencoder.subspace import Subspace
from pixal.train_model.family import Rows
from pixal.train_model.keras_training.data import Arrays

_EACH = 3  # numbers a channel besides products with the basis


def gaussian_data(
    inputs: InputSet,
    rows: Rows,
    labels: NDArray[np.float32],
    subspace: Subspace,
    level: NDArray[np.float32],
    weights: NDArray[np.float32],
) -> Arrays:
    """Inputs and targets of the core for ``rows``, as ``GaussianCoefficientLoss`` reads them.

    ``labels`` (N, T), of all rows. ``level`` (T, D): log-variances before any gain. ``weights`` (T, D): of the loss.
    What the subspace leaves of an image, r, and the basis B enter for each channel as r W r, B W r and B W B, with W
    the weights over the variances. Exact but for the bounds of the log-variances, far from which these are.
    """
    channels = inputs.shape[2]
    shares = weights / weights.shape[1]
    inverse = (shares * np.exp(-level)).reshape(len(level), -1, channels)
    basis = (subspace.basis * subspace.scale).reshape(len(subspace.basis), -1, channels)
    products = np.einsum("kpc,tpc,lpc->tckl", basis, inverse, basis, optimize=True)
    counted = shares.reshape(inverse.shape).sum(1)
    constant = (shares * level).reshape(inverse.shape).sum(1)
    coefficients, target = [], []
    for part in inputs.iterate_chunks(rows):
        images, kinds = inputs.rows(part), labels[part].argmax(1)
        found = subspace.coefficients(images, labels[part])
        coefficients.append(found)
        outside = beside(images, labels[part], found, subspace).reshape(len(part), -1, channels)
        weighted = outside * inverse[kinds]
        across = np.einsum("npc,kpc->nck", weighted, basis, optimize=True)
        own = np.einsum("npc,npc->nc", weighted, outside)
        columns = (found, own, counted[kinds], constant[kinds], across, products[kinds])
        target.append(np.concatenate([one.reshape(len(part), -1) for one in columns], axis=1))
    inside = np.concatenate(coefficients).astype(np.float32)
    given = [inside] if labels.shape[1] == 1 else [inside, labels[rows]]
    return Arrays(given, np.concatenate(target).astype(np.float32))


@keras.saving.register_keras_serializable("pixal")
class GaussianCoefficientLoss(keras.losses.Loss):
    """The ``GaussianLoss`` of images. y_pred: (n, k + C), coefficients and gains; y_true: see ``gaussian_data``."""

    def __init__(self, rank: int, channels: int, **options: Any) -> None:
        """``rank``: k, coefficients of an image; ``channels``: C."""
        super().__init__(**({"name": "gaussian_nll"} | options))
        self.rank, self.channels = rank, channels

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, (n,)."""
        k, c = self.rank, self.channels
        edges = np.cumsum([k, *[c] * _EACH, c * k]).tolist()
        truth, own, counted, constant, across, products = ops.split(y_true, edges, axis=1)
        across, products = ops.reshape(across, (-1, c, k)), ops.reshape(products, (-1, c, k, k))
        off = truth - y_pred[:, :k]
        gains = bounded_gains(y_pred[:, k:])
        linear = ops.einsum("nck,nk->nc", across, off)
        squared = ops.einsum("nckl,nk,nl->nc", products, off, off)
        return 0.5 * ops.sum(constant + counted * gains + ops.exp(-gains) * (own + 2 * linear + squared), axis=1)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build the loss again."""
        config: dict[str, Any] = super().get_config()
        return config | {"rank": self.rank, "channels": self.channels}
