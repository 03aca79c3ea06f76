"""Compare PIXAL's DINOv2 with that of timm, with the same random weights.

    pip install timm torch safetensors keras tensorflow-cpu    # in an environment of its own, with PIXAL
    python tests/benchmarks/dinov2_reference.py

For each network and each size of image, the patch tokens of the middle block and the normalised ones of the last block
are compared. The weights are drawn so that all of them count: LayerScale is 1 / 2 to 3 / 2, where timm's new networks
have 1e-5. Prints a table, and fails if a token differs by more than 1e-4 of the standard deviation of all tokens.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.dinov2 import DINOV2, LAST_LAYER

SIZES = ((518, 518), (224, 224), (196, 644), (700, 560))
LIMIT = 1e-4
Tokens = NDArray[np.float32]


def main() -> None:
    """Compare all networks and sizes, and print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| backbone | image | layer | largest difference / standard deviation |\n|---|---|---|---:|")  # noqa: T201
    worst = 0.0
    for name, architecture in DINOV2.items():
        layers = [architecture.middle_layer, LAST_LAYER]
        network = reference(architecture.published[0].split(".")[0])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            save_file(network.state_dict(), path)
            for size in SIZES:
                backbone, _ = load_backbone(name, size, layers, str(path), 0)
                rgb = np.random.default_rng(0).random((1, *size, 3)).astype(np.float32)
                image = backbone.prepare(rgb)
                actual = [np.asarray(tokens)[0] for tokens in backbone.model(image, training=False)]
                for layer, ours, theirs in zip(layers, actual, tokens_of(network, image), strict=True):
                    difference = float(np.abs(ours - theirs.reshape(ours.shape)).max() / theirs.std())
                    worst = max(worst, difference)
                    print(f"| `{name}` | {size[0]} x {size[1]} | `{layer}` | {difference:.1e} |")  # noqa: T201
    if worst > LIMIT:
        raise SystemExit(f"{worst:.1e} is more than {LIMIT:.0e}")


def reference(name: str) -> torch.nn.Module:
    """The network of timm with random weights that all count, for images of any size."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True).eval()
    with torch.no_grad():
        for key, values in network.named_parameters():
            if key.endswith(".gamma") or ((".norm" in key or key.startswith("norm")) and key.endswith("weight")):
                values.copy_(0.5 + torch.rand_like(values))
            elif key in ("cls_token", "pos_embed") or key.endswith("bias"):
                values.copy_(torch.randn_like(values))
    return network


def tokens_of(network: torch.nn.Module, image: Tokens) -> list[Tokens]:
    """The patch tokens (p, D) of the middle block and the normalised ones of the last block."""
    with torch.no_grad():
        channels_first = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
        x = network._pos_embed(network.patch_embed(channels_first))
        blocks = list(network.blocks)
        for block in blocks[: len(blocks) // 2]:
            x = block(x)
        last = network.forward_features(channels_first)
    return [tokens[0, network.num_prefix_tokens :].numpy() for tokens in (x, last)]


if __name__ == "__main__":
    main()
