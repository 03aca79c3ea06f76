"""Frozen convolutional networks whose feature maps describe patches: ResNets, and ``keras.applications``."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from numpy.typing import NDArray

from pixal.errors import ConfigError, ModelError

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of RGB in [0, 1]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
MAP_STRIDES = (4, 8, 16)  # strides of the three feature maps that are used if no layers are named


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


@dataclass(frozen=True)
class Backbone:
    """A network, cut after the last layer that is needed.

    Attributes:
        name: The name of the network, as Keras or ``RESNETS`` writes it.
        model: The Keras model from prepared images (n, h, w, 3) to the feature maps of the requested layers, in their
            order, each (n, h / stride, w / stride, channels).
        complete_model: The network without its head, to which weights files belong; for a ResNet, ``model``.
        prepare: Converts RGB images (n, h, w, 3) in [0, 1] to the input of ``model``.
    """

    name: str
    model: keras.Model
    complete_model: keras.Model
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    @property
    def is_resnet(self) -> bool:
        """Whether the network is one of ``RESNETS``, whose layers have torchvision's names."""
        return self.name in RESNETS


def build_backbone(
    name: str, size: tuple[int, int], layers: Sequence[str] | None = None, weights: str | None = None
) -> Backbone:
    """Build a network with new weights.

    Args:
        name: A name in ``RESNETS`` or ``keras.applications``; case and underscores are ignored.
        size: (h, w) of the images.
        layers: The layers whose feature maps are returned; None: layer1, layer2 and layer3 of a ResNet, otherwise the
            last layer at each of ``MAP_STRIDES``.
        weights: ``imagenet``: ``keras.applications`` loads its own weights; None: it draws new ones.

    Raises:
        ConfigError: There is no such network or layer.
        ModelError: ``size`` is too small for the network.
    """
    name = canonical_name(name)
    return _resnet(name, size, layers) if name in RESNETS else _application(name, size, layers, weights)


def canonical_name(name: str) -> str:
    """Return the name of a backbone as Keras or ``RESNETS`` writes it.

    Raises:
        ConfigError: There is no such backbone.
    """
    if name in RESNETS:
        return name
    names = {_simplified(known): known for known in [*_applications(), *RESNETS]}
    if _simplified(name) not in names:
        nearest = difflib.get_close_matches(_simplified(name), names, 1, 0.0)[0]
        raise ConfigError(
            f"model_training.model_options.backbone: {name!r} is not one of {', '.join(RESNETS)}, and not in "
            f"keras.applications; the nearest is {names[nearest]}"
        )
    return names[_simplified(name)]


def _resnet(name: str, size: tuple[int, int], layers: Sequence[str] | None) -> Backbone:
    architecture = RESNETS[name]
    stages = [f"layer{index + 1}" for index in range(len(architecture.blocks))]
    requested = list(layers or stages[:3])
    _check_layers(name, requested, stages)
    image = keras.Input((*size, 3), name="image")
    x = _normalise(_convolve(image, architecture.width, 7, 2, "conv1"), "bn1", relu=True)
    # No value is below 0, so padding with zeros gives the same maximum as PyTorch's padding with minus infinity.
    x = kl.MaxPooling2D(3, 2, name="maxpool")(kl.ZeroPadding2D(1, name="maxpool_pad")(x))
    maps = {}
    for index, stage in enumerate(stages[: max(stages.index(layer) for layer in requested) + 1]):
        for block in range(architecture.blocks[index]):
            stride = 2 if index and not block else 1
            x = _residual_block(x, architecture, architecture.width * 2**index, stride, f"{stage}.{block}")
        maps[stage] = x
    model = keras.Model(image, [maps[layer] for layer in requested], name=name)
    return Backbone(name, model, model, lambda rgb: (rgb - IMAGENET_MEAN) / IMAGENET_STD)


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


def _application(name: str, size: tuple[int, int], layers: Sequence[str] | None, weights: str | None) -> Backbone:
    module = _applications()[name]
    try:
        with warnings.catch_warnings():
            # Without a head, the network takes images of any size.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            complete_model = getattr(keras.applications, name)(
                include_top=False, weights=weights, input_shape=(*size, 3)
            )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{name} does not accept images of {size[0]} x {size[1]} ({reason}); set resize") from error
    outputs = {layer.name: layer.output for layer in complete_model.layers[1:] if _is_map(layer.output)}
    layers = layers or _last_of_strides([layer for layer in complete_model.layers if layer.name in outputs], size)
    _check_layers(name, layers, list(outputs))
    model = keras.Model(complete_model.inputs, [outputs[layer] for layer in layers], name=f"{name}_cut")

    def prepare(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(module.preprocess_input(rgb * np.float32(255)), np.float32)

    return Backbone(name, model, complete_model, prepare)


def _is_map(output: Any) -> bool:
    """Whether the output of a layer is a feature map of known size; some layers have several outputs, or none."""
    return getattr(output, "shape", None) is not None and len(output.shape) == 4 and None not in output.shape[1:3]


def _last_of_strides(layers: Sequence[keras.layers.Layer], size: tuple[int, int]) -> list[str]:
    """The last layer at each of ``MAP_STRIDES`` that joins branches, where a block ends; else the last one.

    Layers that only pad or crop are ignored.

    Raises:
        ConfigError: The network has no feature map of one of the strides.
    """
    layer_at_stride: dict[int, str] = {}
    for kinds in ((kl.Add, kl.Concatenate), keras.layers.Layer):
        last = {}
        for layer in layers:
            if isinstance(layer, kinds) and not isinstance(layer, kl.ZeroPadding2D | kl.Cropping2D):
                # Rounded, because the maps of a network without padding are slightly smaller than their stride implies.
                last[2 ** round(float(np.log2(max(size) / max(layer.output.shape[1:3]))))] = layer.name
        layer_at_stride = last | layer_at_stride
    if not set(MAP_STRIDES) <= set(layer_at_stride):
        raise ConfigError(
            f"this backbone has no feature maps of strides {', '.join(map(str, MAP_STRIDES))} for images of "
            f"{size[0]} x {size[1]} pixels; name layers in model_training.model_options.layers, or set resize"
        )
    return [layer_at_stride[stride] for stride in MAP_STRIDES]


def _check_layers(name: str, requested: Sequence[str], known: Sequence[str]) -> None:
    for layer in requested:
        if layer not in known:
            nearest = difflib.get_close_matches(layer, known, 1, 0.0)
            raise ConfigError(
                f"model_training.model_options.layers: {name} has no layer {layer!r} with a feature map; "
                f"the nearest is {nearest[0]}"
            )


def _applications() -> dict[str, ModuleType]:
    """The names of the networks of ``keras.applications``, and the module of each, which has ``preprocess_input``."""
    modules = [module for module in vars(keras.applications).values() if hasattr(module, "preprocess_input")]
    networks = [name for name, value in vars(keras.applications).items() if callable(value)]
    return {name: module for name in networks for module in modules if hasattr(module, name)}


def _simplified(name: str) -> str:
    return name.lower().replace("_", "")
