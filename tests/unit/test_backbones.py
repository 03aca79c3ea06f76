"""Backbones: a ResNet is compared with a slow NumPy version, and weights are found, loaded or refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from checkpoints import checkpoint, zipped
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.signal import correlate

from pixal.errors import ConfigError, ModelError
from pixal.io.files import file_hash
from pixal.train_model.patch_features.backbone_weights import _SHA256, load_backbone
from pixal.train_model.patch_features.backbones import (
    build_backbone,
    canonical_name,
)
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN, IMAGENET_STD
from pixal.train_model.patch_features.resnets import RESNETS, ResNet
from pixal.train_model.patch_features.weights_location import weights_folder

Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(RESNETS, "tiny", ResNet((1, 2, 1), bottleneck=False, width=4))
    monkeypatch.setitem(RESNETS, "tiny_wide", ResNet((1, 1, 1), bottleneck=True, widening=2, width=4))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def random_weights(name: str, seed: int = 0) -> Weights:
    """Weights with torchvision's names, including a head, which the backbone does not use."""
    generator = np.random.default_rng(seed)
    weights: Weights = {"fc.weight": np.zeros((10, 16), np.float32)}

    def add(layer: str, norm: str, shape: tuple[int, ...]) -> None:
        weights[f"{layer}.weight"] = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        for part, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            weights[f"{norm}.{part}"] = (low + generator.random(shape[0])).astype(np.float32)
        weights[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)

    architecture = RESNETS[name]
    add("conv1", "bn1", (architecture.width, 3, 7, 7))
    channels = architecture.width
    for stage, blocks in enumerate(architecture.blocks, 1):
        width = architecture.width * 2 ** (stage - 1)
        outer = 4 * width if architecture.bottleneck else width
        for block in range(blocks):
            prefix, inner = f"layer{stage}.{block}", width * architecture.widening
            shapes = [(width, channels, 3, 3), (width, width, 3, 3)]
            if architecture.bottleneck:
                shapes = [(inner, channels, 1, 1), (inner, inner, 3, 3), (outer, inner, 1, 1)]
            for number, shape in enumerate(shapes, 1):
                add(f"{prefix}.conv{number}", f"{prefix}.bn{number}", shape)
            if not block and (stage > 1 or channels != outer):
                add(f"{prefix}.downsample.0", f"{prefix}.downsample.1", (outer, channels, 1, 1))
            channels = outer
    return weights


def slow_maps(name: str, weights: Weights, rgb: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """The maps (c, h, w) of layer1, layer2 and layer3 of torchvision's ResNet, for an image (h, w, 3)."""

    def conv(x: NDArray[Any], layer: str, stride: int) -> NDArray[Any]:
        kernels = weights[f"{layer}.weight"].astype(np.float64)
        pad = kernels.shape[2] // 2
        x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        with np.errstate(invalid="ignore"):  # SciPy reports floating-point flags that other libraries left set
            full = np.stack([correlate(x, kernel, "valid", "direct")[0] for kernel in kernels])
        return np.asarray(full[:, ::stride, ::stride])

    def norm(x: NDArray[Any], layer: str) -> NDArray[Any]:
        gain, bias, mean, variance = (
            weights[f"{layer}.{part}"].astype(np.float64)[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return np.asarray((x - mean) / np.sqrt(variance + 1e-5) * gain + bias)

    architecture, maps = RESNETS[name], []
    x = np.maximum(norm(conv(((rgb - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1), "conv1", 2), "bn1"), 0)
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    x = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((-1, -2))
    for stage, blocks in enumerate(architecture.blocks, 1):
        for block in range(blocks):
            prefix, stride = f"layer{stage}.{block}", 2 if stage > 1 and not block else 1
            strides = [1, stride, 1] if architecture.bottleneck else [stride, 1]
            y = x
            for number, step in enumerate(strides, 1):
                y = norm(conv(y, f"{prefix}.conv{number}", step), f"{prefix}.bn{number}")
                y = np.maximum(y, 0) if number < len(strides) else y
            if f"{prefix}.downsample.0.weight" in weights:
                x = norm(conv(x, f"{prefix}.downsample.0", stride), f"{prefix}.downsample.1")
            x = np.maximum(x + y, 0)
        maps.append(x)
    return maps


@pytest.mark.parametrize("name", ["tiny", "tiny_wide"])
@pytest.mark.parametrize("size", [(32, 48), (37, 27)])
def test_a_resnet_agrees_with_the_definition_of_torchvision(name: str, size: tuple[int, int], tmp_path: Path) -> None:
    weights = random_weights(name)
    save_file(weights, tmp_path / "weights.safetensors")
    backbone, source = load_backbone(name, size, None, str(tmp_path / "weights.safetensors"), seed=0)
    assert len(source["sha256"]) == 64
    rgb = np.random.default_rng(1).random((*size, 3)).astype(np.float32)
    for fast, slow in zip(
        backbone.model(backbone.prepare(rgb[None]), training=False), slow_maps(name, weights, rgb), strict=True
    ):
        np.testing.assert_allclose(np.asarray(fast)[0].transpose(2, 0, 1), slow, rtol=1e-3, atol=1e-4)


def test_the_network_is_cut_after_the_last_requested_layer() -> None:
    backbone = build_backbone("tiny", (32, 32), ["layer2"])
    assert [tuple(output.shape) for output in backbone.model.outputs] == [(None, 4, 4, 8)]
    assert not any(layer.name.startswith("layer3") for layer in backbone.model.layers)
    swapped = build_backbone("tiny", (32, 32), ["layer3", "layer1"])
    assert [output.shape[-1] for output in swapped.model.outputs] == [16, 4]


def test_random_weights_depend_on_the_seed_and_keep_the_scale_of_values() -> None:
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    hashes, maps = [], []
    for seed in (1, 1, 2):
        backbone, source = load_backbone("tiny_wide", (64, 64), None, "random", seed)
        hashes.append(source["sha256"])
        maps = backbone.model(image, training=False)
    assert hashes[0] == hashes[1] != hashes[2]
    assert all(0.1 < float(np.std(np.asarray(values))) < 30 for values in maps)


def test_default_maps_of_keras_applications_are_at_the_ends_of_stages() -> None:
    backbone = build_backbone("MobileNetV2", (64, 96))
    names = [output._keras_history.operation.name for output in backbone.model.outputs]
    assert names == ["block_2_add", "block_5_add", "block_12_add"]  # the next block begins with a stride
    assert [tuple(output.shape[1:3]) for output in backbone.model.outputs] == [(16, 24), (8, 12), (4, 6)]
    plain = build_backbone("vgg16", (32, 32))  # without branches
    names = [output._keras_history.operation.name for output in plain.model.outputs]
    assert names == ["block3_conv3", "block4_conv3", "block5_conv3"]
    rgb = np.array([0.2, 0.5, 0.9], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(backbone.prepare(rgb).ravel(), rgb.ravel() * 2 - 1, atol=1e-5)
    means = [103.939, 116.779, 123.68]  # of BGR
    np.testing.assert_allclose(plain.prepare(rgb).ravel(), rgb.ravel()[::-1] * 255 - means, atol=1e-3)
    with pytest.raises(ConfigError, match="nearest is block3_conv3"):
        build_backbone("vgg16", (32, 32), ["block3_cnv3"])


def test_the_input_of_a_resnet_is_normalised() -> None:
    rgb = np.array([0.2, 0.5, 0.9], np.float32).reshape(1, 1, 1, 3)
    expected = [-0.285 / 0.229, 0.044 / 0.224, 0.494 / 0.225]
    np.testing.assert_allclose(build_backbone("tiny", (32, 32)).prepare(rgb).ravel(), expected, rtol=1e-5)


def test_weights_of_keras_applications_are_loaded_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = _small_network()
    kernel = network.get_layer("second").get_weights()[0]
    monkeypatch.setattr(keras.applications, "MobileNet", lambda **_: _small_network())
    for ending in (".weights.h5", ".h5", ".keras"):
        path = tmp_path / f"weights{ending}"
        (network.save_weights if ending == ".weights.h5" else network.save)(path)
        backbone, source = load_backbone("mobilenet", (32, 32), ["second"], str(path), seed=0)
        np.testing.assert_array_equal(backbone.model.get_layer("second").get_weights()[0], kernel)
        assert source == {"source": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _small_network(width: int = 4, last: str = "third") -> Any:
    image = keras.Input((32, 32, 3))
    maps = keras.layers.Conv2D(width, 3, 4, name="first")(image)
    return keras.Model(image, keras.layers.Conv2D(5, 3, name=last)(keras.layers.Conv2D(4, 3, name="second")(maps)))


@pytest.mark.parametrize(
    ("ending", "width", "last", "message"),
    [
        (".weights.h5", 6, "third", r"it has no array of the shape \(3, 3, 3, 4\) for first.kernel"),
        (".keras", 6, "third", r"Layer first weight shape \(3, 3, 3, 4\) is not compatible with .* \(3, 3, 3, 6\)"),
        (".keras", 4, "fourth", "it has no layer third; it begins with .*, first, second"),
    ],
)
def test_a_file_of_keras_with_other_layers_is_refused_and_the_layer_is_named(
    ending: str, width: int, last: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, path = _small_network(width, last), tmp_path / f"weights{ending}"
    monkeypatch.setattr(keras.applications, "MobileNet", lambda **_: _small_network())
    (network.save_weights if ending == ".weights.h5" else network.save)(path)
    with pytest.raises(ModelError, match=message):
        load_backbone("mobilenet", (32, 32), ["second"], str(path), seed=0)


@pytest.mark.parametrize(("name", "epsilon"), [("MobileNetV2", 1e-5), ("MobileNetV3Small", 1e-3)])
@pytest.mark.parametrize("scaling", ["none", "MobileNetV3", "EfficientNet"])
def test_images_and_variances_are_converted_for_the_weights_of_torchvision(
    name: str, epsilon: float, scaling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network gives what torchvision's gives, whatever Keras does to the image first."""
    first = {
        "none": [],
        "MobileNetV3": [keras.layers.Rescaling(1 / 127.5, -1)],
        "EfficientNet": [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]),
        ],
    }[scaling]
    normalise = keras.layers.BatchNormalization(epsilon=1e-3, name="bn")
    network = keras.Sequential([keras.Input((4, 4, 3)), *first, keras.layers.Conv2D(2, 1, use_bias=False), normalise])
    functional = keras.Model(network.inputs[0], network.outputs[0])
    monkeypatch.setattr(keras.applications, name, lambda **_: functional)
    generator = np.random.default_rng(0)
    kernel, gain, bias, mean = (generator.normal(size=shape).astype(np.float32) for shape in ((2, 3), 2, 2, 2))
    variance = np.array([0.002, 0.5], np.float32)
    tensors = {"0.weight": kernel[..., None, None], "1.weight": gain, "1.bias": bias}
    tensors |= {"1.running_mean": mean, "1.running_var": variance}
    save_file(tensors, tmp_path / "weights.safetensors")
    backbone, _ = load_backbone(name, (4, 4), ["bn"], str(tmp_path / "weights.safetensors"), 0)
    rgb = generator.random((1, 4, 4, 3)).astype(np.float32)
    expected = (((rgb - IMAGENET_MEAN) / IMAGENET_STD) @ kernel.T - mean) / np.sqrt(variance + epsilon) * gain + bias
    actual = backbone.model([backbone.prepare(rgb)], training=False)
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-3, atol=1e-3)


def test_the_networks_of_mobilenet_v3_are_known() -> None:
    assert canonical_name("mobilenet_v3_small") == "MobileNetV3Small"


def test_case_and_underscores_in_names_are_ignored() -> None:
    assert canonical_name("efficientnet_b5") == canonical_name("EfficientNetB5") == "EfficientNetB5"
    assert canonical_name("ResNet50") == "resnet50"
    with pytest.raises(ConfigError, match="nearest is EfficientNetB5"):
        canonical_name("efficientnet_b55")


def offline(*_: Any, **__: Any) -> Any:
    raise OSError("URL fetch failure on https://somewhere/weights.h5: None -- [Errno -2] Name or service not known")


def test_without_network_the_message_names_the_file_to_download_and_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.utils, "get_file", offline)
    with pytest.raises(ModelError) as caught:
        load_backbone("tiny", (32, 32), None, "imagenet", 0)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "https://huggingface.co/timm/tiny.tv_in1k/resolve/main/model.safetensors",
        str(weights_folder() / "tiny.tv_in1k.safetensors"),
        "model_training.model_options.weights",
        "Name or service not known",
    ):
        assert part in message
    monkeypatch.setattr(keras.applications, "MobileNetV2", lambda weights, **_: weights and offline())
    monkeypatch.setattr(
        "pixal.train_model.patch_features.backbone_weights.build_backbone", _build_with(keras.applications)
    )
    with pytest.raises(ModelError, match=r"https://somewhere/weights.h5 as .*models/weights.h5, or set"):
        load_backbone("MobileNetV2", (32, 32), None, "imagenet", 0)


def _build_with(applications: Any) -> Any:
    def build(name: str, size: Any, layers: Any, weights: str | None = None) -> Any:
        if weights:
            applications.MobileNetV2(weights=weights)
        return build_backbone("tiny", size).__class__(name, None, None, lambda rgb: rgb)

    return build


def test_a_file_in_the_cache_is_used_without_network() -> None:
    weights_folder().mkdir(parents=True)
    save_file(random_weights("tiny"), weights_folder() / "tiny.tv_in1k.safetensors")
    backbone, source = load_backbone("tiny", (32, 32), None, "imagenet", 0)
    stored = load_file(weights_folder() / "tiny.tv_in1k.safetensors")["conv1.weight"]
    np.testing.assert_array_equal(backbone.model.get_layer("conv1").get_weights()[0], stored.transpose(2, 3, 1, 0))
    assert source["source"].startswith("imagenet, https://huggingface.co/timm/tiny")


def test_a_file_in_the_cache_with_another_hash_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: Any, **__: Any) -> Any:
        raise OSError("no network here")

    monkeypatch.setattr(socket, "create_connection", no_network)
    weights_folder().mkdir(parents=True)
    path = weights_folder() / "tiny.tv_in1k.safetensors"
    save_file(random_weights("tiny"), path)
    monkeypatch.setitem(_SHA256, "tiny", file_hash(path))
    assert load_backbone("tiny", (32, 32), None, "imagenet", 0)[1]["sha256"] == file_hash(path)
    save_file(random_weights("tiny", seed=1), path)
    with pytest.raises(ModelError, match=r"cannot be downloaded \(.*no network here"):
        load_backbone("tiny", (32, 32), None, "imagenet", 0)


@pytest.mark.parametrize(
    ("name", "file", "kind", "message"),
    [
        ("tiny", "weights.h5", ConfigError, r"and not a file that tiny accepts \(.safetensors, .pt, .pth, .bin\)"),
        ("vgg16", "weights.pkl", ConfigError, r"and not a file that VGG16 accepts \(.*.weights.h5, .h5, .keras\)"),
        ("tiny", "broken.pth", ModelError, r"not contain the weights of tiny \(the pickle holds the instruction b'0'"),
        ("tiny", "code.pt", ModelError, r"the pickle names 'posix.system', and only tensors are read"),
        ("tiny", "none.safetensors", ModelError, "does not exist"),
        ("tiny", "broken.safetensors", ModelError, "does not contain the weights of tiny"),
        (
            "tiny",
            "other.safetensors",
            ModelError,
            r"it lacks layer2.1.bn1.bias and 9 more; it begins with ",
        ),
        ("tiny", "head.pt", ModelError, r"\(it lacks bn1.bias and 3 more; it begins with fc.weight, conv1.weight, "),
        ("tiny", "shape.pt", ModelError, r"conv1.weight has the shape \(7, 7, 3, 8\) instead of \(7, 7, 3, 4\)"),
        ("tiny", "nan.pt", ModelError, r"bn1.running_var holds values that are not finite"),
        ("tiny", "negative.pt", ModelError, r"bn1.running_var holds variances that are not positive"),
        ("vgg16", "broken.weights.h5", ModelError, "does not contain the weights of VGG16"),
    ],
)
def test_unsuitable_weights_files_are_refused(
    name: str, file: str, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"0" * 100)
    (tmp_path / "broken.weights.h5").write_bytes(b"0" * 100)
    (tmp_path / "broken.pth").write_bytes(b"0" * 100)
    (tmp_path / "code.pt").write_bytes(zipped(pickle.dumps(Code(), 2), {}))
    save_file(random_weights("tiny_wide"), tmp_path / "other.safetensors")
    weights = random_weights("tiny")
    variances = weights["bn1.running_var"]
    for file_name, changes in {
        "head.pt": {name: weights.pop(name) for name in list(weights) if name.startswith("bn1.")},
        "shape.pt": {"conv1.weight": np.zeros((8, 3, 7, 7), np.float32)},
        "nan.pt": {"bn1.running_var": variances * np.float32(np.nan)},
        "negative.pt": {"bn1.running_var": -variances},
    }.items():
        kept = weights if file_name == "head.pt" else random_weights("tiny") | changes
        (tmp_path / file_name).write_bytes(checkpoint(kept))
    with pytest.raises(kind, match=message):
        load_backbone(name, (32, 32), None, str(tmp_path / file), 0)


class Code:
    """An object whose pickle calls a function."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


@pytest.mark.parametrize("old", [False, True])
def test_a_checkpoint_gives_the_same_weights_as_safetensors(old: bool, tmp_path: Path) -> None:
    weights = random_weights("tiny_wide")
    save_file(weights, tmp_path / "weights.safetensors")
    (tmp_path / "weights.pt").write_bytes(checkpoint(weights, old=old))
    models = [
        load_backbone("tiny_wide", (32, 32), None, str(tmp_path / file), 0)[0].model
        for file in ("weights.safetensors", "weights.pt")
    ]
    for first, second in zip(*(model.weights for model in models), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
def test_weights_of_pytorch_are_assigned_to_keras_applications_in_their_order(ending: str, tmp_path: Path) -> None:
    network = build_backbone("mobilenet_v2", (32, 32)).complete_model
    generator, weights, epsilons = np.random.default_rng(0), {}, {}
    for number, layer in enumerate(layer for layer in network.layers if layer.weights):
        values = [generator.uniform(0.5, 1.5, variable.shape).astype(np.float32) for variable in layer.weights]
        layer.set_weights(values)
        if len(values) == 1:
            axes = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)
            weights[f"features.{number}.weight"] = values[0].transpose(axes)
        else:
            epsilons[layer.name] = layer.epsilon
            # What PyTorch divides by: sqrt(running_var + 1e-5).
            values[3] = values[3] + np.float32(layer.epsilon - 1e-5)
            for kind, value in zip(("weight", "bias", "running_mean", "running_var"), values, strict=True):
                weights[f"features.{number}.{kind}"] = value
            weights[f"features.{number}.num_batches_tracked"] = np.array(9, np.int64)
    weights["classifier.1.weight"] = np.zeros((10, 1280), np.float32)
    path = tmp_path / f"weights{ending}"
    contiguous = {name: np.ascontiguousarray(values) for name, values in weights.items()}
    save_file(contiguous, path) if ending == ".safetensors" else path.write_bytes(checkpoint(contiguous))
    backbone, _ = load_backbone("mobilenet_v2", (32, 32), None, str(path), 0)
    for expected, assigned in zip(network.weights, backbone.complete_model.weights, strict=True):
        np.testing.assert_allclose(assigned, expected, rtol=1e-5)
    rgb = np.array([0.2, 0.5, 0.9], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(backbone.prepare(rgb), (rgb - IMAGENET_MEAN) / IMAGENET_STD, rtol=1e-6)
    del weights["features.3.weight"]
    (tmp_path / "other.pt").write_bytes(checkpoint(weights))
    with pytest.raises(
        ModelError,
        match=r"features.3 has bias, .*, but expanded_conv_depthwise_BN needs weight,",
    ):
        load_backbone("mobilenet_v2", (32, 32), None, str(tmp_path / "other.pt"), 0)
    with pytest.raises(ModelError, match=r"only weights of Keras can be loaded into it: .weights.h5, .h5, .keras"):
        load_backbone("ResNet101", (32, 32), None, str(tmp_path / "other.pt"), 0)


def test_unknown_layers_and_too_small_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="tiny has no layer 'layer_2' with a feature map; the nearest is layer2"):
        build_backbone("tiny", (32, 32), ["layer_2"])
    with pytest.raises(ModelError, match=r"InceptionV3 does not accept images of 40 x 60 .* set resize"):
        build_backbone("InceptionV3", (40, 60))
