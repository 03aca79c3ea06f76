"""Frozen convolutional networks whose feature maps describe patches: ResNets of our own, and ``keras.applications``."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from numpy.typing import NDArray

from pixal.errors import ConfigError, ModelError

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of RGB in [0, 1]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
STAGES = (4, 8, 16)  # strides of the three maps that are taken unless layers are named


@dataclass(frozen=True)
class ResNet:
    """What tells one ResNet from another: blocks a stage, their kind, and how wide they are.

    He et al. 2016, as torchvision and timm have it (in a bottleneck the 3x3 convolution has the stride); Zagoruyko and
    Komodakis 2016 for the wide ones.
    """

    blocks: tuple[int, ...]
    bottleneck: bool
    widening: int = 1  # of a bottleneck's inner convolution
    width: int = 64  # channels of the first stage


RESNETS = {
    "resnet18": ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNet((3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNet((3, 4, 6, 3), bottleneck=True),
    "wide_resnet50_2": ResNet((3, 4, 6, 3), bottleneck=True, widening=2),
}


@dataclass(frozen=True)
class Backbone:
    """A network, cut after the last layer that is needed.

    model: from (n, h, w, 3), prepared, to the feature maps of the layers in their order, (n, h / s, w / s, c).
    whole: the network that weights files are of, without its head; of a ResNet, the same as ``model``.
    prepare: what turns RGB (n, h, w, 3) in [0, 1] into the network's own input.
    """

    name: str
    model: Any
    whole: Any
    prepare: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    @property
    def is_resnet(self) -> bool:
        """Whether it is one of ``RESNETS``: its layers have torchvision's names."""
        return self.name in RESNETS


def build_backbone(
    name: str, size: tuple[int, int], layers: Sequence[str] | None = None, weights: str | None = None
) -> Backbone:
    """The network ``name`` for images of ``size`` (h, w), its weights those of a new network.

    ``name``: of ``RESNETS``, or of ``keras.applications`` (case and underscores do not count). ``layers``: whose maps
    are wanted; None: layer1, layer2, layer3 of a ResNet, else the last of each of ``STAGES``. ``weights``: "imagenet"
    lets ``keras.applications`` load its own. Raises ConfigError for what is not there, ModelError where ``size`` is
    too small.
    """
    name = canonical(name)
    return _resnet(name, size, layers) if name in RESNETS else _application(name, size, layers, weights)


def canonical(name: str) -> str:
    """The name of a backbone as Keras or ``RESNETS`` writes it. Raises ConfigError for one that nobody has."""
    if name in RESNETS:
        return name
    folded = {_folded(known): known for known in [*_applications(), *RESNETS]}
    if _folded(name) not in folded:
        close = difflib.get_close_matches(_folded(name), folded, 1, 0.0)[0]
        raise ConfigError(
            f"model_training.model_options.backbone: {name!r} is none of {', '.join(RESNETS)} or keras.applications; "
            f"the nearest is {folded[close]}"
        )
    return folded[_folded(name)]


def _resnet(name: str, size: tuple[int, int], layers: Sequence[str] | None) -> Backbone:
    kind = RESNETS[name]
    stages = [f"layer{number + 1}" for number in range(len(kind.blocks))]
    wanted = list(layers or stages[:3])
    _check_layers(name, wanted, stages)
    image = keras.Input((*size, 3), name="image")
    x = _normalised(_convolved(image, kind.width, 7, 2, "conv1"), "bn1", relu=True)
    # No value is below 0, so that zeros around them are as good as PyTorch's minus infinity.
    x = kl.MaxPooling2D(3, 2, name="maxpool")(kl.ZeroPadding2D(1, name="maxpool_pad")(x))
    maps = {}
    for number, stage in enumerate(stages[: max(stages.index(layer) for layer in wanted) + 1]):
        for block in range(kind.blocks[number]):
            stride = 2 if number and not block else 1
            x = _block(x, kind, kind.width * 2**number, stride, f"{stage}.{block}")
        maps[stage] = x
    model = keras.Model(image, [maps[layer] for layer in wanted], name=name)
    return Backbone(name, model, model, lambda rgb: (rgb - IMAGENET_MEAN) / IMAGENET_STD)


def _block(x: Any, kind: ResNet, width: int, stride: int, name: str) -> Any:
    """A residual block: two 3x3 convolutions, or (bottleneck) a 3x3 one between two 1x1 ones."""
    inner = width * kind.widening if kind.bottleneck else width
    outer = 4 * width if kind.bottleneck else width
    steps = (
        [(inner, 1, 1), (inner, 3, stride), (outer, 1, 1)] if kind.bottleneck else [(inner, 3, stride), (outer, 3, 1)]
    )
    shortcut, last = x, len(steps)
    for number, (channels, kernel, step) in enumerate(steps, 1):
        x = _convolved(x, channels, kernel, step, f"{name}.conv{number}")
        x = _normalised(x, f"{name}.bn{number}", relu=number < last)
    if stride != 1 or shortcut.shape[-1] != outer:
        shortcut = _convolved(shortcut, outer, 1, stride, f"{name}.downsample.0")
        shortcut = _normalised(shortcut, f"{name}.downsample.1", relu=False)
    return kl.ReLU(name=f"{name}.relu")(kl.Add(name=f"{name}.add")([x, shortcut]))


def _convolved(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
    """A convolution padded alike on all sides, as PyTorch does; "same" of Keras pads less before than after."""
    if kernel > 1:
        x = kl.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    return kl.Conv2D(channels, kernel, stride, use_bias=False, name=name)(x)


def _normalised(x: Any, name: str, *, relu: bool) -> Any:
    x = kl.BatchNormalization(epsilon=1e-5, name=name)(x)  # torchvision's; that of Keras is 1e-3
    return kl.ReLU(name=f"{name}_relu")(x) if relu else x


def _application(name: str, size: tuple[int, int], layers: Sequence[str] | None, weights: str | None) -> Backbone:
    module = _applications()[name]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="`input_shape` is undefined or non-square"
            )  # without a head, fine
            whole = getattr(keras.applications, name)(include_top=False, weights=weights, input_shape=(*size, 3))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{name} cannot take images of {size[0]} x {size[1]} ({reason}); set resize") from error
    outputs = {layer.name: layer.output for layer in whole.layers[1:] if _is_map(layer.output)}
    layers = layers or _last_of_stages([layer for layer in whole.layers if layer.name in outputs], size)
    _check_layers(name, layers, list(outputs))
    model = keras.Model(whole.inputs, [outputs[layer] for layer in layers], name=f"{name}_cut")

    def prepare(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(module.preprocess_input(rgb * np.float32(255)), np.float32)

    return Backbone(name, model, whole, prepare)


def _is_map(output: Any) -> bool:
    return getattr(output, "shape", None) is not None and len(output.shape) == 4 and None not in output.shape[1:3]


def _last_of_stages(layers: Sequence[Any], size: tuple[int, int]) -> list[str]:
    """At each of ``STAGES`` the last layer that joins branches, where a block ends; else the last that does not pad."""
    found: dict[int, str] = {}
    for kinds in ((kl.Add, kl.Concatenate), keras.layers.Layer):
        last = {}
        for layer in layers:
            if isinstance(layer, kinds) and not isinstance(layer, kl.ZeroPadding2D | kl.Cropping2D):
                # A network that does not pad has maps a little smaller than their stride says.
                last[2 ** round(float(np.log2(max(size) / max(layer.output.shape[1:3]))))] = layer.name
        found = last | found
    if not set(STAGES) <= set(found):
        raise ConfigError(
            f"this backbone has no maps of strides {', '.join(map(str, STAGES))} at {size[0]} x {size[1]} pixels; "
            "name some in model_training.model_options.layers, or set resize"
        )
    return [found[stride] for stride in STAGES]


def _check_layers(name: str, wanted: Sequence[str], known: Sequence[str]) -> None:
    for layer in wanted:
        if layer not in known:
            close = difflib.get_close_matches(layer, known, 1, 0.0)
            raise ConfigError(
                f"model_training.model_options.layers: {name} has no layer {layer!r} with a feature map; "
                f"the nearest is {close[0]}"
            )


def _applications() -> dict[str, Any]:
    """The networks of ``keras.applications``, and the module of each, which knows how its input is prepared."""
    modules = [module for module in vars(keras.applications).values() if hasattr(module, "preprocess_input")]
    networks = [name for name, value in vars(keras.applications).items() if callable(value)]
    return {name: module for name in networks for module in modules if hasattr(module, name)}


def _folded(name: str) -> str:
    return name.lower().replace("_", "")
