"""The projection as a Keras layer: what stands, fixed, between the pixels and the trained network."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from pixal.train_model.autoencoder.subspace import Subspace


@keras.saving.register_keras_serializable("pixal")
class SubspaceProjection(layers.Layer):
    """Coefficients of images in a fixed subspace, and images from coefficients; nothing here is trained.

    Called with images (n, D) it gives coefficients (n, k); with ``inverse=True`` and coefficients (n, k), images. The
    ``activation`` of the images is applied about the mean, with its slope there divided out: for small deviations every
    activation reconstructs alike, and its bounds hold for large ones.
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
        """``types``: how many labels there are, each with a mean of its own. ``on_cpu``: keep the basis off the GPU."""
        # get_config holds both of them, so they come back in options when a model is loaded.
        super().__init__(**(options | {"dtype": "float32", "trainable": False}))
        self.input_dim, self.rank, self.types = input_dim, rank, types
        self.activation, self.on_cpu = activation, on_cpu
        with self._place():
            self.mean = self.add_weight(shape=(types, input_dim), initializer="zeros", trainable=False, name="mean")
            self.basis = self.add_weight(shape=(rank, input_dim), initializer="zeros", trainable=False, name="basis")
            self.scale = self.add_weight(shape=(), initializer="ones", trainable=False, name="scale")
        self.built = True

    def call(self, values: Any, label: Any = None, inverse: bool = False) -> Any:
        """Project ``values``, or (``inverse``) give images back; ``label`` (n, T) picks the mean."""
        with self._place():
            mean = self.mean if label is None else ops.matmul(label, self.mean)
            if not inverse:
                return ops.matmul(values - mean, ops.transpose(self.basis)) / self.scale
            return activated(mean, ops.matmul(values * self.scale, self.basis), self.activation)

    def set_subspace(self, subspace: Subspace) -> None:
        """Take over a fitted subspace."""
        self.mean.assign(subspace.mean)
        self.basis.assign(subspace.basis)
        self.scale.assign(subspace.scale)

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build the layer again."""
        names = ("input_dim", "rank", "types", "activation", "on_cpu")
        config: dict[str, Any] = super().get_config()
        return config | {name: getattr(self, name) for name in names}

    def _place(self) -> Any:
        """Where weights and products are; None would be the processor too, whatever device is chosen outside."""
        return tf.device("CPU:0") if self.on_cpu else nullcontext()


def activated(mean: Any, deviation: Any, activation: str) -> Any:
    """``mean`` plus ``deviation``, within the bounds of ``activation``; for small deviations all activations agree."""
    if activation == "linear":
        return mean + deviation
    if activation == "relu":
        return ops.relu(mean + deviation)
    edge = 1e-3  # values at the very ends have no finite inverse
    if activation == "sigmoid":
        inner = ops.clip(mean, edge, 1 - edge)
        return ops.sigmoid(ops.log(inner / (1 - inner)) + deviation / (inner * (1 - inner)))
    inner = ops.clip(mean, 0.0, 1 - edge)
    return ops.tanh(ops.arctanh(inner) + deviation / (1 - inner * inner))
