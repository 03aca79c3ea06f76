"""The convolutional autoencoder's network: residual blocks, pooling, a 1x1 bottleneck, and the decoder that mirrors."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from pixal.errors import ModelError
from pixal.train_model.conv_autoencoder.options import ConvAutoencoderOptions, ConvSpecification
from pixal.train_model.keras_training.optimization import build_regularizer

# Channels of each stage, after each of which the size is halved: VGG16's pattern (Simonyan and Zisserman 2015), 64 to
# 512 channels in five stages, at 1/8, 1/4 and the whole of its width.
STAGES = {
    "redux": (8, 16, 32, 64, 64),
    "medium": (16, 32, 64, 128, 128),
    "large": (64, 128, 256, 512, 512),
}
_COPIES = 100  # values a step keeps for each of the first stage's, all stages together: measured


def conv_autoencoder(
    height: int, width: int, spec: ConvSpecification, options: ConvAutoencoderOptions
) -> tuple[Any, Any]:
    """The autoencoder of deviations (n, height, width, C), and its encoder to (n, h, w, bottleneck).

    The output has C channels, with ``output: gaussian`` twice as many: means, then logarithms of variances. Images are
    padded by their reflection to a size that all poolings divide, and the reconstruction is cropped again. At the start
    each block is the identity and the output 0, so that a deep network trains as well as a shallow one (as with Fixup;
    Zhang, Dauphin, Ma 2019).
    """
    if spec.spread is None:
        raise ModelError("the model's metadata lack 'spread'; run train again")
    channels = spec.shape[2]
    stages = STAGES[options.size][: options.poolings]
    image = keras.Input((height, width, channels), name="image")
    spread = {"mean": [0.0] * channels, "variance": np.square(spec.spread, dtype=np.float64).tolist()}
    hidden = layers.Normalization(**spread, dtype="float32", name="in_spreads")(image)
    if spec.input_noise:
        hidden = layers.GaussianNoise(spec.input_noise, seed=spec.seed, name="noise")(hidden)
    step = 2 ** len(stages)
    margins = tuple((-size % step // 2, -size % step - -size % step // 2) for size in (height, width))
    hidden = ReflectionPadding(margins, name="padding")(hidden)
    layer = {"padding": "same", "kernel_initializer": "he_normal", "kernel_regularizer": build_regularizer(spec)}
    down, up = partial(layers.Conv2D, **layer), partial(layers.Conv2DTranspose, **layer)
    hidden = down(stages[0], 3, name="first")(hidden)
    for index, size in enumerate(stages):
        hidden = _block(hidden, size, down, f"encoder_{index + 1}")
        hidden = Halving(name=f"pooling_{index + 1}")(hidden)
    hidden = down(options.bottleneck, 1, name="bottleneck")(hidden)
    encoder = keras.Model(image, hidden, name="encoder")
    if options.dropout:
        hidden = layers.SpatialDropout2D(options.dropout, seed=spec.seed, name="dropout")(hidden)
    hidden = up(stages[-1], 1, name="expansion")(hidden)
    for index, size in reversed(list(enumerate(stages))):
        hidden = layers.UpSampling2D(interpolation="nearest", name=f"upsampling_{index + 1}")(hidden)
        hidden = _block(hidden, size, up, f"decoder_{index + 1}")
    hidden = layers.LayerNormalization(name="last_normalization")(hidden)
    # float32 whatever the precision of the rest: the last digits are what tells good from bad.
    last = {"padding": "same", "dtype": "float32", "kernel_initializer": "zeros"}
    output = layers.Conv2DTranspose(channels, 3, name="output", **last)(hidden)
    output = layers.Normalization(**spread, invert=True, dtype="float32", name="in_values")(output)
    if options.output == "gaussian":
        log_variance = layers.Conv2DTranspose(channels, 3, name="log_variance", **last)(hidden)
        level = np.log(spread["variance"]).tolist()
        log_variance = layers.Rescaling(1.0, offset=level, dtype="float32", name="level")(log_variance)
        output = layers.Concatenate(dtype="float32", name="mean_and_log_variance")([output, log_variance])
    output = layers.Cropping2D(margins, dtype="float32", name="cropping")(output)
    return keras.Model(image, output, name=spec.model_name.replace(".", "_")), encoder


def step_bytes(height: int, width: int, size: str) -> float:
    """About how much memory a training step takes for an image of (height, width), weights apart."""
    return height * width * STAGES[size][0] * _COPIES * 4.0


@keras.saving.register_keras_serializable("pixal")
class ReflectionPadding(layers.Layer):
    """Images (n, H, W, C) continued by their reflection, by any number of pixels: ((top, bottom), (left, right))."""

    def __init__(self, margins: Any, **options: Any) -> None:
        super().__init__(**options)
        self.margins = tuple(tuple(int(size) for size in pair) for pair in margins)

    def call(self, images: Any) -> Any:
        """The padded images."""
        for axis, pair in enumerate(self.margins, start=1):
            if any(pair):
                images = ops.take(images, np.pad(np.arange(images.shape[axis]), pair, mode="reflect"), axis=axis)
        return images

    def get_config(self) -> dict[str, Any]:
        """What Keras needs to build the layer again."""
        return {**super().get_config(), "margins": self.margins}


@keras.saving.register_keras_serializable("pixal")
class Halving(layers.Layer):
    """The maximum of each 2x2 pixels of images of even size. Of Keras's own, XLA has no repeatable gradient."""

    def call(self, images: Any) -> Any:
        """The pooled images."""
        _, height, width, channels = images.shape
        pairs = ops.reshape(images, (-1, height // 2, 2, width // 2, 2 * channels))
        rows = ops.maximum(pairs[:, :, 0], pairs[:, :, 1])
        return ops.maximum(rows[..., :channels], rows[..., channels:])


def _block(values: Any, size: int, convolution: Any, name: str) -> Any:
    """Two normalised convolutions beside a way straight through, which is the whole of it at the start (He 2016)."""
    straight = values
    if values.shape[-1] != size:
        straight = convolution(size, 1, use_bias=False, name=f"{name}_straight")(values)
    hidden = values
    for number, start in ((1, "he_normal"), (2, "zeros")):
        hidden = layers.LayerNormalization(name=f"{name}_normalization_{number}")(hidden)
        hidden = layers.Activation("relu", name=f"{name}_relu_{number}")(hidden)
        hidden = convolution(size, 3, kernel_initializer=start, name=f"{name}_convolution_{number}")(hidden)
    return layers.Add(name=f"{name}_sum")([straight, hidden])
