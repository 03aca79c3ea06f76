"""The network: residual blocks with pooling, a 1x1 bottleneck, and a decoder that mirrors the encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from pixal.errors import ModelError
from pixal.train_model.conv_autoencoder.options import STAGES, ConvAutoencoderOptions, ConvSpecification
from pixal.train_model.keras_training.optimization import build_regularizer


def conv_autoencoder(
    height: int, width: int, spec: ConvSpecification, options: ConvAutoencoderOptions
) -> tuple[keras.Model, keras.Model]:
    """Build the autoencoder of deviations from mean images, and its encoder.

    Images are padded by reflection to a size that all poolings divide, and the reconstruction is cropped to the
    original size. Before training, each block is the identity and the output is 0, so that a deep network trains as
    well as a shallow one (as with Fixup; Zhang, Dauphin, Ma 2019).

    Args:
        height: Height of an image or tile, pixels.
        width: Width of an image or tile, pixels.
        spec: The specification, with the ``spread``.
        options: The options of the family.

    Returns:
        The autoencoder, from (n, height, width, C) to the same shape, or with ``output: gaussian`` to
        (n, height, width, 2 C): means followed by log-variances. And the encoder, to (n, h, w, bottleneck).

    Raises:
        ModelError: The specification has no ``spread``.
    """
    if spec.spread is None:
        raise ModelError("the model's metadata lack 'spread'; run train again")
    channels = spec.shape[2]
    stages = STAGES[options.size][: options.poolings]
    image = keras.Input((height, width, channels), name="image")
    scale = {"mean": [0.0] * channels, "variance": np.square(spec.spread, dtype=np.float64).tolist()}
    hidden = layers.Normalization(**scale, dtype="float32", name="in_spreads")(image)
    if spec.input_noise:
        hidden = layers.GaussianNoise(spec.input_noise, seed=spec.seed, name="noise")(hidden)
    divisor = 2 ** len(stages)
    margins = tuple((-size % divisor // 2, -size % divisor - -size % divisor // 2) for size in (height, width))
    hidden = ReflectionPadding(margins, name="padding")(hidden)
    options_of_all = {
        "padding": "same",
        "kernel_initializer": "he_normal",
        "kernel_regularizer": build_regularizer(spec),
    }
    down, up = partial(layers.Conv2D, **options_of_all), partial(layers.Conv2DTranspose, **options_of_all)
    hidden = down(stages[0], 3, name="first")(hidden)
    for index, size in enumerate(stages):
        hidden = _residual_block(hidden, size, down, f"encoder_{index + 1}")
        hidden = Halving(name=f"pooling_{index + 1}")(hidden)
    hidden = down(options.bottleneck, 1, name="bottleneck")(hidden)
    encoder = keras.Model(image, hidden, name="encoder")
    if options.dropout:
        hidden = layers.SpatialDropout2D(options.dropout, seed=spec.seed, name="dropout")(hidden)
    hidden = up(stages[-1], 1, name="expansion")(hidden)
    for index, size in reversed(list(enumerate(stages))):
        hidden = layers.UpSampling2D(interpolation="nearest", name=f"upsampling_{index + 1}")(hidden)
        hidden = _residual_block(hidden, size, up, f"decoder_{index + 1}")
    hidden = layers.LayerNormalization(name="last_normalization")(hidden)
    # Always float32: the last digits decide between good and defective.
    last = {"padding": "same", "dtype": "float32", "kernel_initializer": "zeros"}
    output = layers.Conv2DTranspose(channels, 3, name="output", **last)(hidden)
    output = layers.Normalization(**scale, invert=True, dtype="float32", name="in_values")(output)
    if options.output == "gaussian":
        log_variance = layers.Conv2DTranspose(channels, 3, name="log_variance", **last)(hidden)
        level = np.log(scale["variance"]).tolist()
        log_variance = layers.Rescaling(1.0, offset=level, dtype="float32", name="level")(log_variance)
        output = layers.Concatenate(dtype="float32", name="mean_and_log_variance")([output, log_variance])
    output = layers.Cropping2D(margins, dtype="float32", name="cropping")(output)
    return keras.Model(image, output, name=spec.model_name.replace(".", "_")), encoder


@keras.saving.register_keras_serializable("pixal")
class ReflectionPadding(layers.Layer):
    """Pads images (n, H, W, C) by reflection. The margins may be larger than the image."""

    def __init__(self, margins: Sequence[Sequence[int]], **options: Any) -> None:
        """Create the layer.

        Args:
            margins: ((top, bottom), (left, right)), pixels.
            **options: Arguments of ``keras.layers.Layer``.
        """
        super().__init__(**options)
        self.margins = tuple(tuple(int(margin) for margin in pair) for pair in margins)

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """The padded images."""
        for axis, pair in enumerate(self.margins, start=1):
            if any(pair):
                images = ops.take(images, np.pad(np.arange(images.shape[axis]), pair, mode="reflect"), axis=axis)
        return images

    def get_config(self) -> dict[str, Any]:
        """The arguments from which Keras rebuilds the layer."""
        return {**super().get_config(), "margins": self.margins}


@keras.saving.register_keras_serializable("pixal")
class Halving(layers.Layer):
    """Maximum pooling of 2x2 pixels, for images of even size.

    The gradient of Keras's own layer is not reproducible with XLA.
    """

    def call(self, images: keras.KerasTensor) -> keras.KerasTensor:
        """The pooled images."""
        _, height, width, channels = images.shape
        pairs = ops.reshape(images, (-1, height // 2, 2, width // 2, 2 * channels))
        rows = ops.maximum(pairs[:, :, 0], pairs[:, :, 1])
        return ops.maximum(rows[..., :channels], rows[..., channels:])


def _residual_block(
    values: keras.KerasTensor, size: int, convolution: Callable[..., keras.layers.Layer], name: str
) -> keras.KerasTensor:
    """Add a shortcut and two convolutions with normalisation (He et al. 2016).

    Before training, the second convolution is 0 and the block equals the shortcut.
    """
    shortcut = values
    if values.shape[-1] != size:
        shortcut = convolution(size, 1, use_bias=False, name=f"{name}_straight")(values)
    hidden = values
    for number, initializer in ((1, "he_normal"), (2, "zeros")):
        hidden = layers.LayerNormalization(name=f"{name}_normalization_{number}")(hidden)
        hidden = layers.Activation("relu", name=f"{name}_relu_{number}")(hidden)
        hidden = convolution(size, 3, kernel_initializer=initializer, name=f"{name}_convolution_{number}")(hidden)
    return layers.Add(name=f"{name}_sum")([shortcut, hidden])
