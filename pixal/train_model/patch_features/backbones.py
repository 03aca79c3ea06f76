"""Frozen networks whose feature maps describe patches: PIXAL's own, and ``keras.applications``."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from numpy.typing import NDArray

from pixal.errors import ConfigError, ModelError
from pixal.train_model.patch_features.dinov2 import (
    DINOV2,
    LAST_LAYER,
    Tensors,
    VisionTransformer,
    convert_tensors,
    vision_transformer,
)
from pixal.train_model.patch_features.efficientnet_lite import STAGES, efficientnet_lite0
from pixal.train_model.patch_features.preparation import LITE0, Prepare, prepare_imagenet, prepare_lite0
from pixal.train_model.patch_features.resnets import RESNETS, resnet

MAP_STRIDES = (4, 8, 16)  # strides of the three feature maps that are used if no layers are named


@dataclass(frozen=True)
class Backbone:
    """A network, cut after the last layer that is needed.

    Attributes:
        name: The name of the network, as ``canonical_name`` returns it.
        model: The Keras model from prepared images (n, h, w, 3) to the feature maps of the requested layers, in their
            order, each (n, h / stride, w / stride, channels).
        complete_model: The network without its head, to which weights files belong; for PIXAL's own, ``model``.
        prepare: Converts RGB images (n, h, w, 3) in [0, 1] to the input of ``model``.
        transformer: The architecture, if the network is a vision transformer.
    """

    name: str
    model: keras.Model
    complete_model: keras.Model
    prepare: Prepare
    transformer: VisionTransformer | None = None

    @property
    def is_own(self) -> bool:
        """Whether the network is one of PIXAL's own, whose layers have the names of PyTorch's weights."""
        return self.name in own_networks()

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the images."""
        height, width = self.model.inputs[0].shape[1:3]
        return int(height), int(width)

    def named_as_layers(self, tensors: Tensors) -> Tensors:
        """The tensors of a weights file of one of PIXAL's own networks, with the names of its layers.

        Raises:
            ValueError: The tensors are those of another kind of network.
        """
        if self.transformer:
            return convert_tensors(tensors, self.size)
        return {".".join(part.lstrip("_") for part in name.split(".")): values for name, values in tensors.items()}

    def with_torch_input(self) -> Backbone:
        """The backbone of ``keras.applications`` with images prepared as torchvision's weights need them."""
        zeros, ones = (self._after_own_scaling(np.full((1, 1, 1, 3), value, np.float32)) for value in (0, 1))
        return replace(self, prepare=lambda rgb: (prepare_imagenet(rgb) - zeros) / (ones - zeros))

    def _after_own_scaling(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the layers at the start of the network that only scale channels make of pixels (1, 1, 1, 3)."""
        for layer in self.complete_model.layers[1:]:
            if not isinstance(layer, kl.Rescaling | kl.Normalization):
                break
            pixels = layer(pixels)
        return np.asarray(pixels, np.float32)


def build_backbone(
    name: str, size: tuple[int, int], layers: Sequence[str] | None = None, weights: str | None = None
) -> Backbone:
    """Build a network with new weights.

    Args:
        name: A name in ``own_networks`` or ``keras.applications``; case and underscores are ignored.
        size: (h, w) of the images.
        layers: The layers whose feature maps are returned; None: layer1 to layer4 of a ResNet, stage2 to stage5 of
            EfficientNet-Lite0 (strides 4 to 32), the normalised patch tokens of a vision transformer (stride 14),
            otherwise the last layer at each of ``MAP_STRIDES``.
        weights: ``imagenet``: ``keras.applications`` loads its own weights; None: it draws new ones.

    Raises:
        ConfigError: There is no such network or layer.
        ModelError: ``size`` is too small for the network.
    """
    name = canonical_name(name)
    return _own_network(name, size, layers) if name in own_networks() else _application(name, size, layers, weights)


def own_networks() -> list[str]:
    """The names of the networks that PIXAL builds itself."""
    return [LITE0, *RESNETS, *DINOV2]


def transformer(name: str) -> VisionTransformer | None:
    """The architecture of a backbone that is a vision transformer, else None.

    Raises:
        ConfigError: There is no such backbone.
    """
    return DINOV2.get(canonical_name(name))


def canonical_name(name: str) -> str:
    """Return the name of a backbone as Keras or ``own_networks`` writes it.

    Raises:
        ConfigError: There is no such backbone.
    """
    if name in own_networks():
        return name
    names = {_simplified(known): known for known in [*_applications(), *own_networks()]}
    if _simplified(name) not in names:
        nearest = difflib.get_close_matches(_simplified(name), names, 1, 0.0)[0]
        raise ConfigError(
            f"model_training.model_options.backbone: {name!r} is not one of {', '.join(own_networks())}, and not in "
            f"keras.applications; the nearest is {names[nearest]}"
        )
    return names[_simplified(name)]


def _own_network(name: str, size: tuple[int, int], layers: Sequence[str] | None) -> Backbone:
    architecture = DINOV2.get(name)
    if architecture:
        known, default = architecture.layers, [LAST_LAYER]
    elif name == LITE0:
        known, default = list(STAGES), list(STAGES[1:])
    else:
        known = [f"layer{index + 1}" for index in range(len(RESNETS[name].blocks))]
        default = known[:4]
    requested = list(layers or default)
    _check_layers(name, requested, known)
    last = max(known.index(layer) for layer in requested)
    if architecture:
        image, maps = vision_transformer(architecture, size, known[last])
    elif name == LITE0:
        image, maps = efficientnet_lite0(size, last + 1)
    else:
        image, maps = resnet(RESNETS[name], size, last + 1)
    model = keras.Model(image, [maps[layer] for layer in requested], name=name)
    return Backbone(name, model, model, prepare_lite0 if name == LITE0 else prepare_imagenet, architecture)


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
    found = {name: module for name in networks for module in modules if hasattr(module, name)}
    # The module of MobileNetV3 does not export its networks.
    version_3 = {name: keras.applications.mobilenet_v3 for name in networks if name.startswith("MobileNetV3")}
    return found | version_3


def _simplified(name: str) -> str:
    return name.lower().replace("_", "")
