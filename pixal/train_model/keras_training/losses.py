"""The losses, by their names in ``model_training.loss_function``."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.errors import ConfigError
from pixal.train_model.inference.activations import VARIANCES

CHARBONNIER_EPSILON = 1e-3  # Charbonnier et al. 1994: where sqrt(r² + e²) changes from quadratic to linear


def pointwise_loss(name: str, huber_delta: float) -> Callable[[Any], Any]:
    """Return the loss of a residual r, value by value. It takes Keras tensors and NumPy arrays.

    - ``mse``: r².
    - ``masked_mse``: r², of the part's pixels only (see ``value_weights``).
    - ``mae``: abs(r).
    - ``huber``: r²/2 up to ``huber_delta``, then delta (abs(r) - delta/2) (Huber 1964).
    - ``charbonnier``: sqrt(r² + e²) - e (Charbonnier et al. 1994).
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
    """Limit a log-variance to the logarithms of ``VARIANCES``, by softplus at either end (Chua et al. 2018).

    Values well inside the limits do not change. Outside, the slope goes to 0 smoothly: no gradient is infinite or NaN.
    """
    low, high = (math.log(variance) for variance in VARIANCES)
    return low + ops.softplus(high - ops.softplus(high - log_variance) - low)


def gaussian_nll(residual: Any, log_variance: Any) -> Any:
    """The negative log-likelihood of a residual r under a normal distribution, without log(2 pi)/2, value by value.

    0.5 (v + r² exp(-v)) with v the ``bounded_log_variance`` (Nix and Weigend 1994). Takes Keras tensors and NumPy
    arrays.
    """
    bounded = bounded_log_variance(log_variance)
    return 0.5 * (bounded + ops.square(residual) * ops.exp(-bounded))


def check_gaussian(settings: ModelTraining) -> None:
    """Check that the settings fit ``output: gaussian``.

    Raises:
        ConfigError: ``loss_function`` is set; the loss of this output is the likelihood.
    """
    if settings.loss_function != "mse":
        raise ConfigError(
            f"model_training.loss_function: {settings.loss_function} cannot be used with output gaussian, "
            "whose loss is the likelihood; remove it"
        )


def value_weights(
    masks: NDArray[np.bool_], channel_weights: Sequence[float], *, masked: bool
) -> NDArray[np.float32] | None:
    """Compute the weight of each value of an image in the loss.

    Args:
        masks: The consensus mask of each type, (T, H, W).
        channel_weights: The weight of each of the C channels.
        masked: Whether only the part counts.

    Returns:
        Weights (T, D) with mean 1; None if all are equal.
    """
    if not masked and len(set(channel_weights)) == 1:
        return None
    inside = masks if masked else np.ones_like(masks)
    weights = (inside[..., None] * np.asarray(channel_weights, np.float32)).reshape(len(masks), -1)
    return np.asarray(weights / weights.mean(1, keepdims=True, dtype=np.float64), np.float32)


@keras.saving.register_keras_serializable("pixal")
class ImageLoss(keras.losses.Loss):
    """The weighted mean of a pointwise loss over the values of an image.

    ``y_true`` is (n, D) or, with T > 1 rows of weights, (n, D + T): the image and its one-hot label.
    """

    def __init__(self, name: str = "mse", huber_delta: float = 0.05, weights: Any = None, **options: Any) -> None:
        """Create the loss.

        Args:
            name: See ``pointwise_loss``.
            huber_delta: See ``pointwise_loss``.
            weights: The weights of ``value_weights``, (T, D); None: all equal.
            **options: Arguments of ``keras.losses.Loss``.
        """
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
        """The configuration from which Keras rebuilds the loss, with compressed weights, which are large as text."""
        weights = None if self._weights is None else _pack(ops.convert_to_numpy(self._weights))
        config: dict[str, Any] = super().get_config()
        return config | {"huber_delta": self.huber_delta, "weights": weights}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ImageLoss:
        """Rebuild the loss from ``get_config``."""
        packed = config.get("weights")
        return cls(**(config | {"weights": None if packed is None else _unpack(packed)}))


@keras.saving.register_keras_serializable("pixal")
class GaussianLoss(ImageLoss):
    """The weighted mean of ``gaussian_nll`` over the values of an image.

    ``y_pred`` is (n, 2 D): the means, then the log-variances. ``y_true`` is as in ``ImageLoss``.
    """

    def __init__(self, name: str = "gaussian_nll", weights: Any = None, **options: Any) -> None:
        """Create the loss with the ``weights`` of ``value_weights``, (T, D); None: all equal."""
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
