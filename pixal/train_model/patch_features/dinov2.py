"""DINOv2: vision transformers pretrained without labels on patches of 14x14 pixels (Oquab et al. 2024)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops
from numpy.typing import NDArray

PATCH_SIZE = 14  # pixels
LAST_LAYER = "norm"  # the normalised patch tokens after the last block
_TRAINED_GRID = 37  # patches per side of the images of 518x518 pixels for which the position codes were trained
_EPSILON = 1e-6  # of layer normalisation

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class VisionTransformer:
    """The architecture of a vision transformer (Dosovitskiy et al. 2021) with LayerScale (Touvron et al. 2021).

    Attributes:
        width: The number of values of a token.
        heads: The number of attention heads.
        blocks: The number of blocks.
        published: Where the weights are published: the names at timm and at Hugging Face.
    """

    width: int
    heads: int
    blocks: int = 12
    published: tuple[str, str] = ("", "")

    @property
    def layers(self) -> list[str]:
        """The names of the feature maps: the patch tokens after each block, and after the last normalisation."""
        return [*(f"blocks.{number}" for number in range(self.blocks)), LAST_LAYER]

    @property
    def middle_layer(self) -> str:
        """The name of the block in the middle: blocks.5 of 12."""
        return f"blocks.{self.blocks // 2 - 1}"

    def attention_bytes(self, size: tuple[int, int]) -> int:
        """The memory of the attention of one block, for an image (h, w): logits and weights, float32."""
        rows, columns = patch_grid(size)
        return 2 * 4 * self.heads * (1 + rows * columns) ** 2


DINOV2 = {
    "dinov2_small": VisionTransformer(384, 6, published=("vit_small_patch14_dinov2.lvd142m", "facebook/dinov2-small")),
    "dinov2_base": VisionTransformer(768, 12, published=("vit_base_patch14_dinov2.lvd142m", "facebook/dinov2-base")),
}


def patch_grid(size: tuple[int, int]) -> tuple[int, int]:
    """The number of rows and columns of patches of an image (h, w), which is resized to whole patches."""
    rows, columns = (max(1, round(side / PATCH_SIZE)) for side in size)
    return rows, columns


def vision_transformer(
    architecture: VisionTransformer, size: tuple[int, int], last_layer: str
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """Build the network with new weights, without its head. The layers have the names that timm gives them.

    An image whose sides are no multiples of 14 pixels is resized to the nearest multiples (bilinear).

    Args:
        architecture: The architecture.
        size: (h, w) of the images.
        last_layer: The last of ``architecture.layers`` that is built.

    Returns:
        The input, RGB images (n, h, w, 3) with ImageNet's mean and standard deviation removed, and the maps of patch
        tokens (n, rows, columns, width) of each layer.
    """
    rows, columns = patch_grid(size)
    x = image = keras.Input((*size, 3), name="image")
    whole = rows * PATCH_SIZE, columns * PATCH_SIZE
    if size != whole:
        x = kl.Resizing(*whole, interpolation="bilinear", name="resize")(x)
    x = kl.Conv2D(architecture.width, PATCH_SIZE, PATCH_SIZE, name="patch_embed.proj")(x)
    x = _ClassToken(name="tokens")(ops.reshape(x, (-1, rows * columns, architecture.width)))
    maps: dict[str, keras.KerasTensor] = {}
    for name in architecture.layers[: architecture.layers.index(last_layer) + 1]:
        x = _normalise(x, name) if name == LAST_LAYER else _block(x, architecture, name)
        maps[name] = ops.reshape(x[:, 1:], (-1, rows, columns, architecture.width))
    return image, maps


def convert_tensors(tensors: Tensors, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Rename published weights to the names of the layers, and resize the position codes to the patches of an image.

    Position codes are resized as timm does: to the exact grid, by bicubic interpolation with a = -0.5, widened where
    the grid is coarser than the trained one (antialiasing). Meta's own code has a = -0.75, no antialiasing, and adds
    0.1 to the grid's sides; for images of 518x518 pixels all agree.

    Args:
        tensors: Weights with the names of timm, which are Meta's, or of Hugging Face's transformers.
        size: (h, w) of the images.

    Raises:
        ValueError: The weights are those of a network with registers, or for another number of positions.
    """
    tensors = _timm_names(tensors)
    if any(name.startswith("reg") for name in tensors):
        raise ValueError("it holds register tokens; only the weights without registers are supported")
    converted = {re.sub(r"\.(ls[12])\.gamma$", r".\1.scale", name): values for name, values in tensors.items()}
    if "cls_token" in converted:
        converted["tokens.cls_token"] = np.ravel(converted.pop("cls_token"))
    if "pos_embed" in converted:
        codes = converted.pop("pos_embed")
        expected = 1 + _TRAINED_GRID**2
        if codes.ndim != 3 or codes.shape[:2] != (1, expected):
            raise ValueError(f"pos_embed has the shape {codes.shape} instead of (1, {expected}, width)")
        converted["tokens.pos_embed"] = resize_position_codes(codes[0], patch_grid(size))
    return converted


def resize_position_codes(codes: NDArray[Any], grid: tuple[int, int]) -> NDArray[np.float32]:
    """Resize position codes to another grid of patches.

    Args:
        codes: (1 + 37 * 37, D), first that of the class token.
        grid: (h, w).

    Returns:
        (1 + h * w, D).
    """
    codes = codes.astype(np.float32)
    if grid == (_TRAINED_GRID, _TRAINED_GRID):
        return codes
    trained = codes[1:].reshape(1, _TRAINED_GRID, _TRAINED_GRID, -1)
    resized = ops.image.resize(trained, grid, interpolation="bicubic", antialias=True, data_format="channels_last")
    return np.concatenate([codes[:1], ops.convert_to_numpy(resized).reshape(grid[0] * grid[1], -1)])


class _ClassToken(kl.Layer):
    """Puts the class token before the patch tokens (n, p, D), and adds the position codes: (n, 1 + p, D)."""

    def build(self, input_shape: tuple[int | None, int, int]) -> None:
        patches, width = input_shape[1:]
        self.cls_token = self.add_weight((width,), "zeros", name="cls_token")
        self.pos_embed = self.add_weight((1 + patches, width), "zeros", name="pos_embed")

    def call(self, x: Any) -> Any:
        first = ops.broadcast_to(self.cls_token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([first, x], axis=1) + self.pos_embed


class _LayerScale(kl.Layer):
    """Multiplies each value of a token by its own factor."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.scale = self.add_weight((input_shape[-1],), "ones", name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale


def _block(x: keras.KerasTensor, architecture: VisionTransformer, name: str) -> keras.KerasTensor:
    """Attention between the tokens, and two dense layers for each token; both are added to their input."""
    width, heads = architecture.width, architecture.heads
    y = kl.Dense(3 * width, name=f"{name}.attn.qkv")(_normalise(x, f"{name}.norm1"))
    queries, keys, values = (
        ops.reshape(part, (-1, x.shape[1], heads, width // heads)) for part in ops.split(y, 3, axis=-1)
    )
    y = ops.reshape(ops.dot_product_attention(queries, keys, values), (-1, x.shape[1], width))
    x = x + _LayerScale(name=f"{name}.ls1")(kl.Dense(width, name=f"{name}.attn.proj")(y))
    y = kl.Dense(4 * width, name=f"{name}.mlp.fc1")(_normalise(x, f"{name}.norm2"))
    y = kl.Dense(width, name=f"{name}.mlp.fc2")(ops.gelu(y, approximate=False))
    return x + _LayerScale(name=f"{name}.ls2")(y)


def _normalise(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return kl.LayerNormalization(epsilon=_EPSILON, name=name)(x)


_HUGGING_FACE_NAMES = (
    (r"^dinov2\.", ""),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.", ".attn."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)


def _timm_names(tensors: Tensors) -> dict[str, NDArray[Any]]:
    """The tensors with timm's names; the projections to queries, keys and values joined as there."""
    renamed = {}
    for name, values in tensors.items():
        for pattern, replacement in _HUGGING_FACE_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = values
    for query in [name for name in renamed if ".attn.query." in name]:
        parts = [query.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in renamed for part in parts):
            renamed[query.replace(".query.", ".qkv.")] = np.concatenate([renamed.pop(part) for part in parts])
    return renamed
