"""Write a Keras network as an ONNX graph.

Images are (n, H, W, C) in Keras and (n, C, H, W) in ONNX: the graph turns its input and its outputs, so that both
networks take and give the same arrays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.io.files import write_bytes
from pixal.train_model.inference.session import NOTES_KEY, notes_text
from pixal.version import __version__

_log = logging.getLogger(__name__)

_OPSET, _IR_VERSION = 17, 8  # of 2022: every ONNX Runtime that PIXAL can be installed with reads them
_AXES = {0: 0, 1: 2, 2: 3, 3: 1, -1: 1, -2: 3, -3: 2, -4: 0}  # of an image in Keras: in ONNX


class UnsupportedLayerError(Exception):
    """A network has a layer that cannot be written as ONNX."""


@dataclass
class Graph:
    """An ONNX graph that is being built.

    Attributes:
        nodes: The nodes, each after those that it needs.
        constants: The constants.
    """

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the name of the output."""
        from onnx import helper

        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: type = np.float32) -> str:
        """Add a constant; return its name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype), name))
        return name


def write_network(model: Any, path: Path, notes: Mapping[str, Any]) -> bool:
    """Write a Keras network from images (n, H, W, C) to images as an ONNX file. The same network gives the same bytes.

    Args:
        model: The Keras model, with one input.
        path: The file.
        notes: What is stored with the network, as JSON values.

    Returns:
        Whether the file was written. A network with a layer that is not known here is not; the log says so.
    """
    if find_spec("onnx") is None:
        _log.warning(
            "validation of this model needs TensorFlow, because the package onnx is not installed: pip install onnx"
        )
        return False
    import onnx
    from onnx import helper

    graph = Graph()
    try:
        outputs = _convert(model, graph)
    except UnsupportedLayerError as error:
        _log.info("validation of this model needs TensorFlow: %s", error)
        return False
    image, batch = (None, *model.inputs[0].shape[1:]), onnx.TensorProto.FLOAT
    names = [graph.add("Transpose", name, perm=[0, 2, 3, 1]) for name in outputs]
    built = helper.make_graph(
        graph.nodes,
        "pixal",
        [helper.make_tensor_value_info("image", batch, image)],
        [helper.make_tensor_value_info(name, batch, [None] * 4) for name in names],
        graph.constants,
    )
    content = helper.make_model(
        built,
        producer_name="pixal",
        producer_version=__version__,
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    helper.set_model_props(content, {NOTES_KEY: notes_text(notes)})
    onnx.checker.check_model(content)
    write_bytes(path, content.SerializeToString(deterministic=True))
    return True


def _convert(model: Any, graph: Graph) -> list[str]:
    """Add the layers of a functional model; return the names of its outputs."""
    (image,) = model.inputs
    names: dict[int, Any] = {id(image): graph.add("Transpose", "image", perm=[0, 3, 1, 2])}
    depths = sorted(model._nodes_by_depth, reverse=True)
    for node in (node for depth in depths for node in model._nodes_by_depth[depth]):
        if node.is_input or not all(id(tensor) in names for tensor in node.input_tensors):
            continue
        layer, kind = node.operation, type(node.operation).__name__
        if kind not in _LAYERS:
            raise UnsupportedLayerError(f"the layer {layer.name} ({kind}) has no counterpart in ONNX here")
        inputs = [names[id(tensor)] for tensor in node.input_tensors]
        others = [value for value in node.arguments.args[1:] if id(value) not in names]
        (output,) = node.outputs
        names[id(output)] = _LAYERS[kind](graph, layer, inputs, [*node.input_tensors, *others])
    return [names[id(output)] for output in model.outputs]


Tensors = Sequence[Any]
"""The tensors that a layer is called with, and then its other positional arguments."""

Convert = Callable[[Graph, Any, list[str], Tensors], str]


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The padding of one side with ``padding="same"``: less before than after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _pads(layer: Any, tensor: Any, kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    (top, bottom), (left, right) = (
        _same(int(size), int(side), int(step))
        for size, side, step in zip(tensor.shape[1:3], kernel, strides, strict=True)
    )
    return [top, left, bottom, right]


def _weights(layer: Any, name: str) -> NDArray[np.float32]:
    return np.asarray(getattr(layer, name).numpy(), np.float32)


def _activated(graph: Graph, layer: Any, name: str) -> str:
    """Apply the activation of a layer."""
    activation = getattr(layer.activation, "__name__", str(layer.activation))
    if activation == "linear":
        return name
    if activation != "relu":
        raise UnsupportedLayerError(f"the activation {activation} of the layer {layer.name} is not known here")
    return graph.add("Relu", name)


def _convolution(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    kernel, transposed = _weights(layer, "kernel"), type(layer).__name__ == "Conv2DTranspose"
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    if tuple(layer.dilation_rate) != (1, 1) or layer.data_format != "channels_last":
        raise UnsupportedLayerError(f"the layer {layer.name} is dilated")
    if transposed and tuple(layer.strides) != (1, 1):
        raise UnsupportedLayerError(f"the layer {layer.name} has strides")
    if depthwise and kernel.shape[3] != 1:
        raise UnsupportedLayerError(f"the layer {layer.name} multiplies channels")
    weights = kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)
    groups = kernel.shape[2] if depthwise else 1 if transposed else layer.groups
    bias = [graph.constant(_weights(layer, "bias"))] if layer.use_bias else []
    output = graph.add(
        "ConvTranspose" if transposed else "Conv",
        inputs[0],
        graph.constant(weights),
        *bias,
        kernel_shape=[int(size) for size in kernel.shape[:2]],
        strides=[int(step) for step in layer.strides],
        pads=_pads(layer, tensors[0], kernel.shape[:2], layer.strides),
        group=int(groups),
    )
    return _activated(graph, layer, output)


def _batch_normalization(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    mean, variance = _weights(layer, "moving_mean"), _weights(layer, "moving_variance")
    scale = _weights(layer, "gamma") if layer.scale else np.ones_like(mean)
    shift = _weights(layer, "beta") if layer.center else np.zeros_like(mean)
    arrays = [graph.constant(values) for values in (scale, shift, mean, variance)]
    return graph.add("BatchNormalization", inputs[0], *arrays, epsilon=float(layer.epsilon))


def _layer_normalization(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    turned = graph.add("Transpose", inputs[0], perm=[0, 2, 3, 1])
    arrays = [graph.constant(_weights(layer, name)) for name in ("gamma", "beta")]
    normal = graph.add("LayerNormalization", turned, *arrays, axis=-1, epsilon=float(layer.epsilon))
    return graph.add("Transpose", normal, perm=[0, 3, 1, 2])


def _normalization(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    mean, variance = (np.asarray(values, np.float32).reshape(1, -1, 1, 1) for values in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), np.float32(1e-7))  # Keras's epsilon
    if layer.invert:
        return graph.add("Add", graph.add("Mul", inputs[0], graph.constant(deviation)), graph.constant(mean))
    return graph.add("Div", graph.add("Sub", inputs[0], graph.constant(mean)), graph.constant(deviation))


def _rescaling(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    scale, offset = (np.asarray(values, np.float32).reshape(1, -1, 1, 1) for values in (layer.scale, layer.offset))
    return graph.add("Add", graph.add("Mul", inputs[0], graph.constant(scale)), graph.constant(offset))


def _relu(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    if layer.negative_slope or layer.threshold:
        raise UnsupportedLayerError(f"the layer {layer.name} is no plain ReLU")
    if layer.max_value is None:
        return graph.add("Relu", inputs[0])
    return graph.add("Clip", inputs[0], graph.constant(0.0), graph.constant(layer.max_value))


def _pooling(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    sides = {
        "kernel_shape": [int(size) for size in layer.pool_size],
        "strides": [int(step) for step in layer.strides],
        "pads": _pads(layer, tensors[0], layer.pool_size, layer.strides),
    }
    if type(layer).__name__ == "MaxPooling2D":
        return graph.add("MaxPool", inputs[0], **sides)
    return graph.add("AveragePool", inputs[0], count_include_pad=0, **sides)


def _halving(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    return graph.add("MaxPool", inputs[0], kernel_shape=[2, 2], strides=[2, 2])


def _zero_padding(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    (top, bottom), (left, right) = layer.padding
    return graph.add("Pad", inputs[0], graph.constant([0, 0, top, left, 0, 0, bottom, right], np.int64))


def _cropping(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    (top, bottom), (left, right) = layer.cropping
    height, width = tensors[0].shape[1:3]
    limits = ([top, left], [height - bottom, width - right], [2, 3])
    return graph.add("Slice", inputs[0], *(graph.constant(values, np.int64) for values in limits))


def _reflection(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    name = inputs[0]
    for axis, pair in enumerate(layer.margins):
        if any(pair):
            places = np.pad(np.arange(tensors[0].shape[1 + axis]), pair, mode="reflect")
            name = graph.add("Gather", name, graph.constant(places, np.int64), axis=2 + axis)
    return name


def _take(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    places = graph.constant(np.asarray(tensors[1]), np.int64)
    return graph.add("Gather", inputs[0], places, axis=_AXES[layer.axis])


def _upsampling(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    if layer.interpolation != "nearest":
        raise UnsupportedLayerError(f"the layer {layer.name} interpolates")
    factors = [1.0, 1.0, *(float(factor) for factor in layer.size)]
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.add("Resize", inputs[0], "", graph.constant(factors), **options)


def _resize(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    kinds = {"nearest": "nearest", "bilinear": "linear"}
    if layer.interpolation not in kinds or layer.antialias:
        raise UnsupportedLayerError(f"the layer {layer.name} interpolates in an unknown way")
    channels = int(tensors[0].shape[3])
    options = {
        "mode": kinds[layer.interpolation],
        "coordinate_transformation_mode": "half_pixel",
        "nearest_mode": "round_prefer_ceil",
    }
    size = graph.constant([1, channels, *layer.size], np.int64)
    return graph.add("Resize", inputs[0], "", "", size, **options)


def _concatenate(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    return graph.add("Concat", *inputs, axis=_AXES[layer.axis])


def _add(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    return graph.add("Add", *inputs)


def _cast(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    if "float32" not in str(layer.dtype):
        raise UnsupportedLayerError(f"the layer {layer.name} has another precision")
    return inputs[0]


def _activation(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    return _activated(graph, layer, inputs[0])


def _unchanged(graph: Graph, layer: Any, inputs: list[str], tensors: Tensors) -> str:
    """A layer that only training uses."""
    return inputs[0]


_LAYERS: dict[str, Convert] = {
    **dict.fromkeys(("Conv2D", "Conv2DTranspose", "DepthwiseConv2D"), _convolution),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "Normalization": _normalization,
    "Rescaling": _rescaling,
    "ReLU": _relu,
    "Activation": _activation,
    **dict.fromkeys(("MaxPooling2D", "AveragePooling2D"), _pooling),
    "Halving": _halving,
    "ZeroPadding2D": _zero_padding,
    "Cropping2D": _cropping,
    "ReflectionPadding": _reflection,
    "Take": _take,
    "UpSampling2D": _upsampling,
    "Resize": _resize,
    "Concatenate": _concatenate,
    "Add": _add,
    "Cast": _cast,
    **dict.fromkeys(("GaussianNoise", "SpatialDropout2D"), _unchanged),
}
