"""The losses, by their names in ``model_training.loss_function``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

CHARBONNIER_EPSILON = 1e-3  # Charbonnier et al. 1994: where sqrt(r² + e²) turns from quadratic to linear


def pointwise_loss(name: str, huber_delta: float) -> Callable[[Any], Any]:
    """The loss of a residual, value by value (Keras operations; NumPy arrays work too).

    mse: r². mae: |r|. huber: r²/2 up to ``huber_delta``, then delta (|r| - delta/2) (Huber 1964).
    charbonnier: sqrt(r² + e²) - e. masked_mse: r², over the part's pixels alone (see ``image_loss``).
    """
    if name in ("mse", "masked_mse"):
        return lambda residual: ops.square(residual)
    if name == "mae":
        return lambda residual: ops.abs(residual)
    if name == "huber":

        def huber(residual: Any) -> Any:
            size = ops.abs(residual)
            return ops.where(size <= huber_delta, 0.5 * size * size, huber_delta * (size - 0.5 * huber_delta))

        return huber

    def charbonnier(residual: Any) -> Any:
        return ops.sqrt(residual * residual + CHARBONNIER_EPSILON**2) - CHARBONNIER_EPSILON

    return charbonnier


@keras.saving.register_keras_serializable("pixal")
class ImageLoss(keras.losses.Loss):
    """The weighted mean of a pointwise loss over an image's values, and over the images of a batch.

    weights: (T, D) float32, a weight for each value of an image of each type, 1 on average. y_true is (n, D) or, with
    T > 1, (n, D + T): the image and its one-hot label.
    """

    def __init__(self, name: str = "mse", huber_delta: float = 0.05, weights: Any = None, **options: Any) -> None:
        """``name``, ``huber_delta``: see ``pointwise_loss``. Without ``weights`` every value counts alike."""
        super().__init__(name=name, **options)
        self._pointwise = pointwise_loss(name, huber_delta)
        self._weights = None if weights is None else ops.convert_to_tensor(weights, "float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, (n,)."""
        values = ops.shape(y_pred)[1]
        losses = self._pointwise(y_true[:, :values] - y_pred)
        if self._weights is not None:
            label = y_true[:, values:]
            losses = losses * (self._weights if self._weights.shape[0] == 1 else ops.matmul(label, self._weights))
        return ops.mean(losses, axis=1)
