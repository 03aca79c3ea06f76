"""ResNets, with the names of layers that torchvision gives them."""

from __future__ import annotations

from dataclasses import dataclass

import keras
from keras import layers as kl


@dataclass(frozen=True)
class ResNet:
    """The architecture of a ResNet.

    He et al. 2016, as implemented in torchvision and timm (in a bottleneck block, the 3x3 convolution has the stride).
    Zagoruyko and Komodakis 2016 for wide ResNets.

    Attributes:
        blocks: The number of blocks in each stage.
        bottleneck: Whether the blocks are bottleneck blocks.
        widening: The factor by which the inner convolution of a bottleneck block is wider.
        width: The number of channels of the first stage.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    widening: int = 1
    width: int = 64


RESNETS = {
    "resnet18": ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNet((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNet((3, 4, 6, 3), bottleneck=True),
    "wide_resnet50_2": ResNet((3, 4, 6, 3), bottleneck=True, widening=2),
}


def resnet(
    architecture: ResNet, size: tuple[int, int], last_stage: int
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """Build a ResNet with new weights, without its head.

    Args:
        architecture: The architecture.
        size: (h, w) of the images.
        last_stage: How many stages are built.

    Returns:
        The input, normalised RGB images (n, h, w, 3), and the feature map of each stage, ``layer1`` and so on.
    """
    image = keras.Input((*size, 3), name="image")
    x = _normalise(_convolve(image, architecture.width, 7, 2, "conv1"), "bn1", relu=True)
    # No value is below 0, so padding with zeros gives the same maximum as PyTorch's padding with minus infinity.
    x = kl.MaxPooling2D(3, 2, name="maxpool")(kl.ZeroPadding2D(1, name="maxpool_pad")(x))
    maps = {}
    for index, blocks in enumerate(architecture.blocks[:last_stage]):
        for block in range(blocks):
            stride = 2 if index and not block else 1
            x = _residual_block(x, architecture, architecture.width * 2**index, stride, f"layer{index + 1}.{block}")
        maps[f"layer{index + 1}"] = x
    return image, maps


def _residual_block(
    x: keras.KerasTensor, architecture: ResNet, width: int, stride: int, name: str
) -> keras.KerasTensor:
    """Two 3x3 convolutions, or (bottleneck) a 3x3 convolution between two 1x1 convolutions, and the shortcut."""
    if architecture.bottleneck:
        inner, outer = width * architecture.widening, 4 * width
        convolutions = [(inner, 1, 1), (inner, 3, stride), (outer, 1, 1)]
    else:
        outer = width
        convolutions = [(width, 3, stride), (width, 3, 1)]
    shortcut, last = x, len(convolutions)
    for number, (channels, kernel, own_stride) in enumerate(convolutions, 1):
        x = _convolve(x, channels, kernel, own_stride, f"{name}.conv{number}")
        x = _normalise(x, f"{name}.bn{number}", relu=number < last)
    if stride != 1 or shortcut.shape[-1] != outer:
        shortcut = _convolve(shortcut, outer, 1, stride, f"{name}.downsample.0")
        shortcut = _normalise(shortcut, f"{name}.downsample.1", relu=False)
    return kl.ReLU(name=f"{name}.relu")(kl.Add(name=f"{name}.add")([x, shortcut]))


def _convolve(x: keras.KerasTensor, channels: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
    """A convolution with equal padding on all sides, as in PyTorch. Keras's "same" pads less before than after."""
    if kernel > 1:
        x = kl.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return kl.Conv2D(channels, kernel, stride, use_bias=False, name=name)(x)


def _normalise(x: keras.KerasTensor, name: str, *, relu: bool) -> keras.KerasTensor:
    x = kl.BatchNormalization(epsilon=1e-5, name=name)(x)  # torchvision's epsilon; Keras's default is 1e-3
    return kl.ReLU(name=f"{name}_relu")(x) if relu else x
