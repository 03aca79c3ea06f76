"""The losses, by their names in ``model_training.loss_function``."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.errors import ConfigError

VARIANCES = 1e-8, 1.0  # of values in [0, 1]: a tenth of a 10-bit level, squared, and more than any can have
CHARBONNIER_EPSILON = 1e-3  # Charbonnier et al. 1994: where sqrt(r² + e²) turns from quadratic to linear


def pointwise_loss(name: str, huber_delta: float) -> Callable[[Any], Any]:
    """The loss of a residual, value by value (Keras operations; NumPy arrays work too).

    mse: r². mae: |r|. huber: r²/2 up to ``huber_delta``, then delta (|r| - delta/2) (Huber 1964).
    charbonnier: sqrt(r² + e²) - e. masked_mse: r², over the part's pixels alone (see ``value_weights``).
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


def bounded_log_variance(log_variance: Any) -> Any:
    """A log-variance, kept between the logarithms of ``VARIANCES`` by softplus at either end (Chua et al. 2018).

    Well inside it stays what it is. Beyond, the slope goes to 0 smoothly, and no gradient is infinite or NaN.
    """
    low, high = (math.log(variance) for variance in VARIANCES)
    return low + ops.softplus(high - ops.softplus(high - log_variance) - low)


def gaussian_nll(residual: Any, log_variance: Any) -> Any:
    """The negative log-likelihood of a residual under a normal distribution, value by value, without log(2 pi)/2.

    0.5 (v + r² exp(-v)), v the ``bounded_log_variance`` (Nix and Weigend 1994); Keras operations, NumPy arrays too.
    """
    bounded = bounded_log_variance(log_variance)
    return 0.5 * (bounded + ops.square(residual) * ops.exp(-bounded))


def check_gaussian(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for settings of ``model_training`` that make no sense with ``output: gaussian``."""
    if settings["loss_function"] != "mse":
        raise ConfigError(
            f"model_training.loss_function: {settings['loss_function']} does not go with output gaussian, "
            "whose loss is the likelihood; leave it out"
        )


def value_weights(
    masks: NDArray[np.bool_], channel_weights: Sequence[float], *, masked: bool
) -> NDArray[np.float32] | None:
    """What each value of an image counts in the loss, (T, D), 1 on average; None where all count alike.

    masks: (T, H, W), where each type's part is; it counts with ``masked`` alone. channel_weights: (C,).
    """
    if not masked and len(set(channel_weights)) == 1:
        return None
    inside = masks if masked else np.ones_like(masks)
    weights = (inside[..., None] * np.asarray(channel_weights, np.float32)).reshape(len(masks), -1)
    return np.asarray(weights / weights.mean(1, keepdims=True, dtype=np.float64), np.float32)


@keras.saving.register_keras_serializable("pixal")
class ImageLoss(keras.losses.Loss):
    """The weighted mean of a pointwise loss over an image's values, and over the images of a batch.

    weights: (T, D) float32, a weight for each value of an image of each type, 1 on average. y_true is (n, D) or, with
    T > 1, (n, D + T): the image and its one-hot label.
    """

    def __init__(self, name: str = "mse", huber_delta: float = 0.05, weights: Any = None, **options: Any) -> None:
        """``name``, ``huber_delta``: see ``pointwise_loss``. ``weights``: see ``value_weights``."""
        super().__init__(name=name, **options)
        self.huber_delta = huber_delta
        self._pointwise = pointwise_loss(name, huber_delta)
        self._weights = None if weights is None else ops.convert_to_tensor(weights, "float32")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, (n,)."""
        values = ops.shape(y_pred)[1]
        return self._mean(self._pointwise(y_true[:, :values] - y_pred), y_true[:, values:])

    def _mean(self, losses: Any, label: Any) -> Any:
        """The weighted mean (n,) of the losses (n, D) of images with one-hot ``label`` (n, T)."""
        if self._weights is not None:
            weights = ops.cast(self._weights, losses.dtype)
            losses = losses * (weights if weights.shape[0] == 1 else ops.matmul(label, weights))
        return ops.mean(losses, axis=1)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build the loss again; the weights packed: as text they would be longer than a model."""
        weights = None if self._weights is None else _pack(ops.convert_to_numpy(self._weights))
        config: dict[str, Any] = super().get_config()
        return config | {"huber_delta": self.huber_delta, "weights": weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageLoss:
        """The loss that ``get_config`` described."""
        packed = config.get("weights")
        return cls(**(config | {"weights": None if packed is None else _unpack(packed)}))


@keras.saving.register_keras_serializable("pixal")
class GaussianLoss(ImageLoss):
    """``gaussian_nll``, meant as ``ImageLoss`` is. y_pred: (n, 2 D), the means and then the log-variances."""

    def __init__(self, name: str = "gaussian_nll", weights: Any = None, **options: Any) -> None:
        """``weights``: see ``value_weights``."""
        super().__init__(name=name, weights=weights, **options)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image, (n,)."""
        mean, log_variance = ops.split(y_pred, 2, axis=1)
        values = ops.shape(mean)[1]
        return self._mean(gaussian_nll(y_true[:, :values] - mean, log_variance), y_true[:, values:])


def _pack(values: NDArray[np.float32]) -> dict[str, Any]:
    packed = base64.b64encode(zlib.compress(values.astype("<f4").tobytes())).decode("ascii")
    return {"shape": list(values.shape), "float32_zlib_base64": packed}


def _unpack(packed: dict[str, Any]) -> NDArray[np.float32]:
    values = np.frombuffer(zlib.decompress(base64.b64decode(packed["float32_zlib_base64"])), "<f4")
    return np.asarray(values.reshape(packed["shape"]), np.float32)
