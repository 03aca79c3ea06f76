"""Weights of a backbone from a file: of Keras, or of PyTorch. No file can run code: see ``pixal.io.torch_files``."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from pixal.errors import ConfigError, ModelError
from pixal.io.files import file_hash
from pixal.io.torch_files import read_state_dict
from pixal.train_model.patch_features.backbones import Backbone
from pixal.train_model.patch_features.dinov2 import Tensors

WEIGHTS_KEY = "model_training.model_options.weights"
_CHECKPOINTS = (".pt", ".pth", ".bin")
_TORCH_FILES = (".safetensors", *_CHECKPOINTS)
_KERAS_FILES = (".weights.h5", ".h5", ".keras")
# The names of Keras's weights in PyTorch's files, where they differ.
_TORCH_NAMES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Networks of keras.applications whose layers come in the same order as those of torchvision.
_SAME_ORDER = ("VGG", "MobileNetV2", "MobileNetV3", "EfficientNet", "DenseNet")
_TORCH_EPSILON = 1e-5  # of batch normalisation; torchvision builds some networks with another
_OTHER_EPSILON = dict.fromkeys(
    ("MobileNetV3", "EfficientNetB5", "EfficientNetB6", "EfficientNetB7", "EfficientNetV2"), 1e-3
)


def load_weights_file(backbone: Backbone, path: Path, sha256: str | None = None) -> tuple[Backbone, str]:
    """Load a weights file.

    Args:
        backbone: The network.
        path: ``.safetensors``, ``.pt``, ``.pth`` or ``.bin`` with PyTorch's names, or for ``keras.applications`` also
            ``.weights.h5``, ``.h5`` or ``.keras`` of the network without its head.
        sha256: The hash that the file must have; None: any.

    Returns:
        The backbone, which prepares images as its weights need, and the SHA-256 of the file.

    Raises:
        ConfigError: The file has an unsupported format.
        ModelError: The file is missing or damaged, or its weights do not match the network.
    """
    endings = _TORCH_FILES if backbone.is_own else (*_TORCH_FILES, *_KERAS_FILES)
    if not path.name.endswith(endings):
        raise ConfigError(
            f"{WEIGHTS_KEY}: {path} is not 'imagenet', not 'random' and not a file that {backbone.name} accepts "
            f"({', '.join(endings)})"
        )
    if not path.is_file():
        raise ModelError(f"{WEIGHTS_KEY}: {path} does not exist")
    try:
        if path.name.endswith(_KERAS_FILES):
            _load_keras_file(backbone.complete_model, path)
            return backbone, file_hash(path)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if sha256 is not None and digest != sha256:
            raise ValueError(f"its SHA-256 is {digest} instead of {sha256}")
        tensors = load_safetensors(content) if path.suffix == ".safetensors" else read_state_dict(content)
        if backbone.is_own:
            _assign_by_name(backbone, tensors)
            return backbone, digest
        in_order = sorted(tensors, key=_natural) if path.suffix == ".safetensors" else tensors
        _assign_in_order(backbone, {name: tensors[name] for name in in_order})
        return backbone.with_torch_input(), digest
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, UserWarning) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{WEIGHTS_KEY}: {path} does not contain the weights of {backbone.name} ({reason})") from error


def _load_keras_file(model: keras.Model, path: Path) -> None:
    if path.suffix == ".keras":
        source = keras.saving.load_model(path, compile=False, safe_mode=True)
        known = [layer.name for layer in source.layers]
        for layer in model.layers:
            if layer.weights:
                if layer.name not in known:
                    raise ValueError(f"it has no layer {layer.name}; it begins with {', '.join(known[:3])}")
                layer.set_weights(source.get_layer(layer.name).get_weights())
        return
    if path.name.endswith(".weights.h5"):
        _compare_shapes(model, path)
    with warnings.catch_warnings():
        # Otherwise Keras keeps random weights for layers that the file lacks.
        warnings.filterwarnings("error", message="Skipping nested container")
        model.load_weights(path)


def _compare_shapes(model: keras.Model, path: Path) -> None:
    """Raise ValueError, with the first layer concerned, if a file of Keras lacks an array of the shape of a weight.

    Keras's own messages describe its storage format. The arrays of the file have no names of layers.
    """
    import h5py  # Keras needs it for these files

    shapes: Counter[tuple[int, ...]] = Counter()

    def count(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer"):
            shapes[item.shape] += 1

    with h5py.File(path) as file:
        file.visititems(count)
    for layer in model.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if not shapes[shape]:
                raise ValueError(f"it has no array of the shape {shape} for {layer.name}.{variable.name}")
            shapes[shape] -= 1


def _assign_by_name(backbone: Backbone, tensors: Tensors) -> None:
    """Assign the tensors with the names of the layers. Other tensors, such as those of a head, are ignored."""
    model, named = backbone.model, backbone.named_as_layers(tensors)
    needed = {f"{layer.name}.{_torch_name(variable)}" for layer in model.layers for variable in layer.weights}
    if missing := sorted(needed - set(named), key=_natural):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"it lacks {missing[0]}{more}; it begins with {', '.join(list(tensors)[:3])}")
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}.{_torch_name(variable)}"
            _assign(layer, variable, name, named[name])


def _assign_in_order(backbone: Backbone, tensors: Tensors) -> None:
    """Assign the tensors to the layers of a network of ``keras.applications`` in their order.

    Batch normalisation divides by sqrt(variance + epsilon), and Keras's epsilon is not PyTorch's. The difference is
    added to the variance.
    """
    name = backbone.name
    if not name.startswith(_SAME_ORDER):
        raise ValueError(f"only weights of Keras can be loaded into it: {', '.join(_KERAS_FILES)}")
    epsilon = next((value for start, value in _OTHER_EPSILON.items() if name.startswith(start)), _TORCH_EPSILON)
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for tensor_name, values in tensors.items():
        group, _, kind = tensor_name.rpartition(".")
        if kind != "num_batches_tracked":  # a counter of the training
            groups.setdefault(group, {})[kind] = values
    # A matrix belongs to the head.
    groups = {group: kinds for group, kinds in groups.items() if all(values.ndim != 2 for values in kinds.values())}
    layers = [layer for layer in backbone.complete_model.layers if layer.weights and _has_counterpart(layer)]
    if len(groups) < len(layers):
        raise ValueError(f"it has {len(groups)} layers with weights instead of {len(layers)}")
    for layer, (group, tensors_by_kind) in zip(layers, groups.items(), strict=False):
        kinds = {_torch_name(variable): variable for variable in layer.weights}
        if set(kinds) != set(tensors_by_kind):
            raise ValueError(f"{group} has {', '.join(tensors_by_kind)}, but {layer.name} needs {', '.join(kinds)}")
        for kind, variable in kinds.items():
            added = epsilon - layer.epsilon if kind == "running_var" else 0.0
            _assign(layer, variable, f"{group}.{kind}", tensors_by_kind[kind], np.float32(added))


def _has_counterpart(layer: kl.Layer) -> bool:
    """Whether PyTorch's networks have this layer; the statistics of Keras's input normalisation are no weights there.

    Raises:
        ValueError: The layer is of a kind whose weights cannot be converted.
    """
    if not isinstance(layer, kl.Normalization | kl.BatchNormalization | kl.Conv2D | kl.DepthwiseConv2D):
        raise ValueError(f"the weights of {layer.name}, a {type(layer).__name__}, cannot be converted")
    return not isinstance(layer, kl.Normalization)


def _assign(
    layer: kl.Layer,
    variable: Any,
    name: str,
    values: NDArray[Any],
    added: np.float32 = np.float32(0),  # noqa: B008
) -> None:
    """Assign a tensor of PyTorch, in the order of Keras's axes, to a variable of a layer."""
    if _torch_name(variable) == "weight" and values.ndim == 4:  # (O, I, h, w) to (h, w, I, O), depthwise (h, w, O, I)
        values = values.transpose((2, 3, 0, 1) if isinstance(layer, kl.DepthwiseConv2D) else (2, 3, 1, 0))
    elif isinstance(layer, kl.Dense):  # a matrix (O, I), or a bias
        values = values.T
    if values.shape != tuple(variable.shape):
        raise ValueError(f"{name} has the shape {values.shape} instead of {tuple(variable.shape)}, in Keras's order")
    values = values.astype(np.float32) + added
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    if variable.name.endswith("moving_variance") and (values + layer.epsilon <= 0).any():
        raise ValueError(f"{name} holds variances that are not positive")
    variable.assign(values)


def _torch_name(variable: Any) -> str:
    kind: str = variable.name.rsplit("/", 1)[-1]
    return _TORCH_NAMES.get(kind, kind)


def _natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which 2 comes before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
