"""Compare networks of ``keras.applications`` with those of torchvision, with the same random weights.

    pip install torch torchvision    # in an environment of its own, with PIXAL
    python tests/benchmarks/torchvision_reference.py [NETWORK ...]

torchvision writes a checkpoint, which PIXAL reads. Each default feature map is compared with the outputs of
torchvision's layers that have its shape, and the smallest difference is printed: the root mean square, in units of the
standard deviation. With images of 225 pixels the maps have odd sides, so that Keras and PyTorch pad alike.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN, IMAGENET_STD

SIZE = (225, 225)
NETWORKS = {
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
    "efficientnet_b0": "EfficientNetB0",
    "efficientnet_v2_s": "EfficientNetV2S",
    "densenet121": "DenseNet121",
    "vgg16": "VGG16",
}
Map = NDArray[np.float32]


def main() -> None:
    """Compare the networks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help="names of torchvision; default: all")
    print("| network | map | difference / standard deviation |\n|---|---|---:|")  # noqa: T201
    for name in parser.parse_args().networks:
        rgb = np.random.default_rng(0).random((1, *SIZE, 3)).astype(np.float32)
        network = reference(name)
        outputs = outputs_of(network, ((rgb - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights.pt"
            torch.save(network.state_dict(), path)
            backbone, _ = load_backbone(NETWORKS[name], SIZE, None, str(path), 0)
        for feature_map in backbone.model([backbone.prepare(rgb)], training=False):
            ours = np.asarray(feature_map)[0]
            alike = [theirs for theirs in outputs if theirs.shape == ours.shape and theirs.std() > 0]
            smallest = min(float(np.sqrt(np.square(ours - theirs).mean()) / theirs.std()) for theirs in alike)
            print(f"| {name} | {' x '.join(map(str, ours.shape))} | {smallest:.1e} |")  # noqa: T201


def reference(name: str) -> torch.nn.Module:
    """The network of torchvision with random weights, and statistics of normalisation that count."""
    torch.manual_seed(0)
    network = getattr(torchvision.models, name)(weights=None).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.01, 0.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return network


def outputs_of(network: torch.nn.Module, image: Map) -> list[Map]:
    """The outputs (h, w, c) of all layers for an image (1, H, W, 3)."""
    outputs: list[Map] = []

    def keep(module: object, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            outputs.append(output.numpy()[0].transpose(1, 2, 0).copy())

    for module in network.modules():
        module.register_forward_hook(keep)
    with torch.no_grad():
        network(torch.from_numpy(image.transpose(0, 3, 1, 2).copy()))
    return outputs


if __name__ == "__main__":
    main()
