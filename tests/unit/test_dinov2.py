"""DINOv2: its maps agree with a slow NumPy version, and weights with either kind of names are loaded or refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_parts import built, input_set, part
from safetensors.numpy import save_file

from pixal.errors import ConfigError, ModelError
from pixal.train_model.padim import Padim
from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.backbones import build_backbone
from pixal.train_model.patch_features.dinov2 import DINOV2, VisionTransformer, patch_grid, resize_position_codes
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN, IMAGENET_STD
from pixal.train_model.patchcore import Patchcore

WIDTH, HEADS, BLOCKS = 12, 3, 2
Weights = dict[str, NDArray[np.float32]]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    published = ("vit_tiny_patch14_dinov2.lvd142m", "facebook/dinov2-tiny")
    monkeypatch.setitem(DINOV2, "dinov2_tiny", VisionTransformer(WIDTH, HEADS, BLOCKS, published))


def new_weights(seed: int = 0) -> Weights:
    """Weights with the names of timm."""
    generator = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + 37 * 37, WIDTH),
        "mask_token": (1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 14, 14),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
    }
    for block in range(BLOCKS):
        for name, shape in {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "ls1.gamma": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,),
            "ls2.gamma": (WIDTH,),
        }.items():
            shapes[f"blocks.{block}.{name}"] = shape
    return {
        name: (generator.standard_normal(shape) / math.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in shapes.items()
    }


def hugging_face_names(weights: Weights) -> Weights:
    """The same weights as ``transformers`` names them."""
    renamed: Weights = {}
    for name, values in weights.items():
        if ".attn.qkv." in name:
            before, kind = name.replace("blocks.", "encoder.layer.").split(".attn.qkv.")
            for part_name, third in zip(("query", "key", "value"), np.split(values, 3), strict=True):
                renamed[f"{before}.attention.attention.{part_name}.{kind}"] = third.copy()
            continue
        for old, new in (
            ("blocks.", "encoder.layer."),
            (".attn.proj.", ".attention.output.dense."),
            (".ls1.gamma", ".layer_scale1.lambda1"),
            (".ls2.gamma", ".layer_scale2.lambda1"),
            ("cls_token", "embeddings.cls_token"),
            ("mask_token", "embeddings.mask_token"),
            ("pos_embed", "embeddings.position_embeddings"),
            ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
        ):
            name = name.replace(old, new)
        renamed["layernorm." + name.removeprefix("norm.") if name.startswith("norm.") else name] = values
    return renamed


def slow_codes(codes: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float64]:
    """Bicubic interpolation (Keys 1981, a = -0.5) of each axis by a loop; wider if the grid is coarser."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def along(values: NDArray[Any], count: int) -> NDArray[Any]:
        scale = len(values) / count
        rows = []
        for index in range(count):
            center = (index + 0.5) * scale - 0.5
            weights = np.array([cubic((place - center) / max(scale, 1)) for place in range(len(values))])
            rows.append(np.tensordot(weights / weights.sum(), values, 1))
        return np.array(rows)

    square = codes[1:].reshape(37, 37, -1).astype(np.float64)
    resized = along(along(square, grid[0]).swapaxes(0, 1), grid[1]).swapaxes(0, 1)
    return np.concatenate([codes[:1], resized.reshape(grid[0] * grid[1], -1)])


def slow_maps(weights: Weights, rgb: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """The map (h, w, D) of each layer, for an image (14 h, 14 w, 3) in [0, 1]. Loops over patches, heads and tokens."""
    values = {name: array.astype(np.float64) for name, array in weights.items()}
    image = (rgb.astype(np.float64) - IMAGENET_MEAN) / IMAGENET_STD
    rows, columns = image.shape[0] // 14, image.shape[1] // 14

    def dense(x: NDArray[Any], name: str) -> NDArray[Any]:
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def norm(x: NDArray[Any], name: str) -> NDArray[Any]:
        spread = np.sqrt(x.var(1, keepdims=True) + 1e-6)
        return (x - x.mean(1, keepdims=True)) / spread * values[f"{name}.weight"] + values[f"{name}.bias"]

    def attention(x: NDArray[Any]) -> NDArray[Any]:
        queries, keys, contents = np.split(x, 3, 1)
        result = np.zeros_like(queries)
        for head in np.split(np.arange(WIDTH), HEADS):
            for token, query in enumerate(queries[:, head]):
                logits = keys[:, head] @ query / math.sqrt(len(head))
                shares = np.exp(logits - logits.max())
                result[token, head] = shares @ contents[:, head] / shares.sum()
        return result

    def gelu(x: NDArray[Any]) -> NDArray[Any]:
        return np.vectorize(lambda value: value * (1 + math.erf(value / math.sqrt(2))) / 2)(x)

    tokens = [values["cls_token"][0, 0]]
    for row in range(rows):
        for column in range(columns):
            patch = image[14 * row : 14 * row + 14, 14 * column : 14 * column + 14].transpose(2, 0, 1)
            tokens.append((values["patch_embed.proj.weight"] * patch).sum((1, 2, 3)) + values["patch_embed.proj.bias"])
    x = np.array(tokens) + slow_codes(values["pos_embed"][0], (rows, columns))
    maps = {}
    for block in range(BLOCKS):
        name = f"blocks.{block}"
        y = attention(dense(norm(x, f"{name}.norm1"), f"{name}.attn.qkv"))
        x = x + dense(y, f"{name}.attn.proj") * values[f"{name}.ls1.gamma"]
        y = gelu(dense(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
        x = x + dense(y, f"{name}.mlp.fc2") * values[f"{name}.ls2.gamma"]
        maps[name] = x
    maps["norm"] = norm(x, "norm")
    return {name: tokens[1:].reshape(rows, columns, WIDTH) for name, tokens in maps.items()}


@pytest.mark.parametrize("size", [(28, 42), (70, 14)])
@pytest.mark.parametrize("names", ["timm", "hugging face"])
def test_the_maps_agree_with_a_slow_version(names: str, size: tuple[int, int], tmp_path: Path) -> None:
    weights, path = new_weights(), tmp_path / "model.safetensors"
    save_file(weights if names == "timm" else hugging_face_names(weights), path)
    layers = ["norm", "blocks.0", "blocks.1"]
    backbone, source = load_backbone("DINOv2_tiny", size, layers, str(path), 0)
    assert source["source"] == str(path)
    rgb = np.random.default_rng(1).random((*size, 3)).astype(np.float32)
    expected = slow_maps(weights, rgb)
    for layer, values in zip(layers, backbone.model(backbone.prepare(rgb[None]), training=False), strict=True):
        np.testing.assert_allclose(np.asarray(values)[0], expected[layer], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grid", [(37, 37), (16, 16), (5, 11), (50, 37), (1, 60)])
def test_position_codes_are_resized_bicubically(grid: tuple[int, int]) -> None:
    codes = np.random.default_rng(0).standard_normal((1 + 37 * 37, 5)).astype(np.float32)
    resized = resize_position_codes(codes, grid)
    assert resized.shape == (1 + grid[0] * grid[1], 5)
    np.testing.assert_allclose(resized, slow_codes(codes, grid), atol=2e-5)


def test_an_image_of_any_size_is_resized_to_whole_patches() -> None:
    assert [patch_grid(size) for size in ((28, 42), (34, 36), (6, 300))] == [(2, 3), (2, 3), (1, 21)]
    backbone = build_backbone("dinov2_tiny", (34, 36))
    assert [tuple(output.shape[1:]) for output in backbone.model.outputs] == [(2, 3, WIDTH)]
    image = np.random.default_rng(0).random((1, 34, 36, 3)).astype(np.float32)
    whole = build_backbone("dinov2_tiny", (28, 42))
    whole.model.set_weights(backbone.model.get_weights())
    resized = backbone.model.get_layer("resize")(image)
    np.testing.assert_allclose(backbone.model(image), whole.model(resized), atol=1e-5)


def test_only_the_blocks_that_are_needed_are_built() -> None:
    backbone = build_backbone("dinov2_tiny", (28, 28), ["blocks.0"])
    assert not any(layer.name.startswith(("blocks.1", "norm")) for layer in backbone.model.layers)
    with pytest.raises(ConfigError, match=r"dinov2_tiny has no layer 'block.1' .*; the nearest is blocks.1"):
        build_backbone("dinov2_tiny", (28, 28), ["block.1"])
    assert (DINOV2["dinov2_small"].middle_layer, DINOV2["dinov2_small"].layers[-2]) == ("blocks.5", "blocks.11")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks.1.attn.qkv.bias": None}, r"it lacks blocks.1.attn.qkv.bias; it begins with "),
        ({"pos_embed": np.zeros((1, 257, WIDTH), np.float32)}, r"pos_embed has the shape \(1, 257, 12\) instead of "),
        ({"reg_token": np.zeros((1, 4, WIDTH), np.float32)}, "it holds register tokens; only the weights without"),
        (
            {"blocks.0.mlp.fc1.weight": np.zeros((24, WIDTH), np.float32)},
            r"blocks.0.mlp.fc1.weight has the shape \(12, 24\) instead of \(12, 48\)",
        ),
    ],
)
def test_other_weights_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    weights = {name: values for name, values in (new_weights() | changes).items() if values is not None}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_backbone("dinov2_tiny", (28, 28), None, str(tmp_path / "model.safetensors"), 0)


def test_without_a_file_the_message_names_the_files_that_are_published() -> None:
    with pytest.raises(ModelError, match=r"save model.safetensors of timm/vit_tiny_patch14_dinov2.lvd142m or facebook"):
        load_backbone("dinov2_tiny", (28, 28), None, "imagenet", 0)


def model(family: Any, memory_limit: float = 4.0, **options: Any) -> Any:
    return built(family, family.__name__.lower(), (), memory_limit, {"backbone": "dinov2_tiny"} | options)


def test_patchcore_compares_normalised_tokens_by_their_angle() -> None:
    generator = np.random.default_rng(0)
    inputs = input_set(generator.random((4, 36, 52, 3)).astype(np.float32))
    fitted = model(Patchcore)
    fitted.fit(inputs, np.arange(3), part()[None])
    memory = fitted._learned[0][0].arrays["memory"]
    np.testing.assert_allclose(np.linalg.norm(memory, axis=1), 1, rtol=1e-5)
    backbone = build_backbone("dinov2_tiny", (36, 52))
    backbone.model.set_weights(fitted._backbone.model.get_weights())
    rgb = np.where(part()[..., None], inputs.images(np.array([3]))[0], IMAGENET_MEAN)
    tokens = np.asarray(backbone.model(backbone.prepare(rgb[None].astype(np.float32))))[0].reshape(-1, WIDTH)
    tokens = tokens[fitted._grids(part())[0].ravel()]
    cosines = (tokens / np.linalg.norm(tokens, axis=1)[:, None]) @ memory.T
    expected = np.sqrt(2 - 2 * cosines.max(1))
    actual = fitted._distances({"memory": memory}, (tokens / np.linalg.norm(tokens, axis=1)[:, None])[None])
    np.testing.assert_allclose(actual[0], expected, atol=1e-3)


@pytest.mark.parametrize(("family", "layer"), [(Padim, "blocks.0"), (Patchcore, "norm")])
def test_a_defect_is_found_and_a_stored_model_gives_the_same_map(family: Any, layer: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = np.full((7, 36, 52, 3), 0.5, np.float32) + 0.02 * generator.standard_normal((7, 36, 52, 3))
    images[6, 12:24, 20:32] = [0.9, 0.1, 0.1]
    inputs = input_set(images.astype(np.float32))
    fitted = model(family)
    fitted.fit(inputs, np.arange(5), part()[None])
    assert [output.shape[-1] for output in fitted._backbone.model.outputs] == [WIDTH]
    assert fitted._layers() in ([layer], None)
    errors = fitted.error(inputs, np.array([5, 6]))
    assert errors[1, 12:24, 20:32].max() > 3 * errors[0].max()
    fitted.save(tmp_path)
    loaded = family.load(tmp_path, fitted.spec)
    np.testing.assert_array_equal(loaded.error(inputs, np.array([5, 6])), errors)


def test_levels_and_too_large_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="levels: dinov2_tiny has one level; remove levels, or set layers"):
        model(Padim, levels=["fine"]).check()
    with pytest.raises(
        ModelError, match=r"attention of dinov2_tiny for an image of 7000 x 10111 pixels would need .*GB"
    ):
        model(Padim, resize=7000).check()
