"""The projection as a Keras layer: the fixed layer between the pixels and the trained network."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from pixal.train_model.autoencoder.subspace import Subspace
from pixal.train_model.inference.activations import EDGE


@keras.saving.register_keras_serializable("pixal")
class SubspaceProjection(layers.Layer):
    """Projects images onto a fixed subspace, and back. Nothing in this layer is trained.

    From images (n, D) it computes coefficients (n, k). With ``inverse=True`` it computes images from coefficients. The
    ``activation`` is applied to the images so that small deviations from the mean are unchanged, and large ones stay
    within the bounds of the activation; see ``activated``.

    Attributes:
        mean: The mean image of each type, (T, D).
        basis: The components, (k, D).
        scale: The unit of the coefficients.
    """

    def __init__(
        self,
        input_dim: int,
        rank: int,
        types: int = 1,
        activation: str = "linear",
        on_cpu: bool = False,
        **options: Any,
    ) -> None:
        """Create the layer, with a subspace of zeros.

        Args:
            input_dim: D, the number of values of an image.
            rank: k, the number of components.
            types: T, the number of types.
            activation: The activation of the images.
            on_cpu: Whether the weights are kept in the memory of the CPU, not of the GPU.
            **options: Arguments of ``keras.layers.Layer``.
        """
        # get_config contains dtype and trainable, so both are in options when a model is loaded.
        super().__init__(**(options | {"dtype": "float32", "trainable": False}))
        self.input_dim, self.rank, self.types = input_dim, rank, types
        self.activation, self.on_cpu = activation, on_cpu
        with self._device():
            self.mean = self.add_weight(shape=(types, input_dim), initializer="zeros", trainable=False, name="mean")
            self.basis = self.add_weight(shape=(rank, input_dim), initializer="zeros", trainable=False, name="basis")
            self.scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")
        self.built = True

    def call(
        self, values: keras.KerasTensor, label: keras.KerasTensor | None = None, inverse: bool = False
    ) -> keras.KerasTensor:
        """Project images, or (``inverse``) compute images from coefficients. ``label`` (n, T) selects the mean."""
        with self._device():
            mean = self.mean if label is None else ops.matmul(label, self.mean)
            if not inverse:
                return ops.matmul(values - mean, ops.transpose(self.basis)) / self.scale
            return activated(mean, ops.matmul(values * self.scale, self.basis), self.activation)

    def set_subspace(self, subspace: Subspace) -> None:
        """Copy a fitted subspace into the layer."""
        self.mean.assign(subspace.mean)
        self.basis.assign(subspace.basis)
        self.scale.assign(subspace.scale)

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras rebuilds the layer."""
        names = ("input_dim", "rank", "types", "activation", "on_cpu")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}

    def _device(self) -> AbstractContextManager[None]:
        """The device of the weights and products. ``tf.device(None)`` would override a device that the caller chose."""
        return tf.device("CPU:0") if self.on_cpu else nullcontext()


def activated(mean: keras.KerasTensor, deviation: keras.KerasTensor, activation: str) -> keras.KerasTensor:
    """Add ``deviation`` to ``mean`` within the bounds of an activation.

    The inverse of the activation is applied to the mean, and the deviation is divided by the slope there. So small
    deviations are unchanged, whatever the activation.
    """
    if activation == "linear":
        return mean + deviation
    if activation == "relu":
        return ops.relu(mean + deviation)
    if activation == "sigmoid":
        inner = ops.clip(mean, EDGE, 1 - EDGE)
        return ops.sigmoid(ops.log(inner / (1 - inner)) + deviation / (inner * (1 - inner)))
    inner = ops.clip(mean, 0.0, 1 - EDGE)
    return ops.tanh(ops.arctanh(inner) + deviation / (1 - inner * inner))
