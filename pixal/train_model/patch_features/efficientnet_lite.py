"""EfficientNet-Lite0: EfficientNet without squeeze-and-excitation, and with ReLU6 (Tan and Le 2019; Liu 2020)."""

from __future__ import annotations

import keras
from keras import layers as kl

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5")  # of strides 2, 4, 8, 16 and 32
# Blocks with the same number of channels: stage, kernel, stride, expansion, channels, number of blocks.
_GROUPS = (
    ("stage1", 3, 1, 1, 16, 1),
    ("stage2", 3, 2, 6, 24, 2),
    ("stage3", 5, 2, 6, 40, 2),
    ("stage4", 3, 2, 6, 80, 3),
    ("stage4", 5, 1, 6, 112, 3),
    ("stage5", 5, 2, 6, 192, 4),
    ("stage5", 3, 1, 6, 320, 1),
)


def efficientnet_lite0(
    size: tuple[int, int], last_stage: int
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """Build the network with new weights, without its head.

    The layers have the names of the published weights, without the underscores at their start.

    Args:
        size: (h, w) of the images.
        last_stage: How many of ``STAGES`` are built.

    Returns:
        The input, images (n, h, w, 3) as (255 rgb - 127) / 128, and the feature map of each stage: 16, 24, 40, 112 and
        320 channels.
    """
    image = keras.Input((*size, 3), name="image")
    x = _normalise(kl.Conv2D(32, 3, 2, "same", use_bias=False, name="conv_stem")(image), "bn0", relu=True)
    maps: dict[str, keras.KerasTensor] = {}
    number = 0
    for stage, kernel, stride, expansion, channels, blocks in _GROUPS:
        if stage not in STAGES[:last_stage]:
            break
        for index in range(blocks):
            x = _block(x, kernel, stride if not index else 1, expansion, channels, f"blocks.{number}")
            number += 1
        maps[stage] = x
    return image, maps


def _block(
    x: keras.KerasTensor, kernel: int, stride: int, expansion: int, channels: int, name: str
) -> keras.KerasTensor:
    """An inverted residual block: expand the channels, convolve each alone, and project (Sandler et al. 2018)."""
    shortcut, width = x, x.shape[-1]
    if expansion > 1:
        x = kl.Conv2D(width * expansion, 1, use_bias=False, name=f"{name}.expand_conv")(x)
        x = _normalise(x, f"{name}.bn0", relu=True)
    x = kl.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}.depthwise_conv")(x)
    x = _normalise(x, f"{name}.bn1", relu=True)
    x = _normalise(kl.Conv2D(channels, 1, use_bias=False, name=f"{name}.project_conv")(x), f"{name}.bn2", relu=False)
    return kl.Add(name=f"{name}.add")([shortcut, x]) if stride == 1 and width == channels else x


def _normalise(x: keras.KerasTensor, name: str, *, relu: bool) -> keras.KerasTensor:
    x = kl.BatchNormalization(epsilon=1e-3, name=name)(x)
    return kl.ReLU(6.0, name=f"{name}_relu")(x) if relu else x
