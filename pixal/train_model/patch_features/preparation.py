"""The preparation of images for pretrained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # of RGB in [0, 1]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
LITE0 = "efficientnet_lite0"

Prepare = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Converts RGB images (n, h, w, 3) in [0, 1] to the input of a network."""


def prepare_lite0(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prepare images for EfficientNet-Lite0."""
    return np.asarray((rgb * np.float32(255) - np.float32(127)) / np.float32(128), np.float32)


def prepare_imagenet(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Prepare images for networks of PyTorch: by the mean and the standard deviation of ImageNet."""
    return (rgb - IMAGENET_MEAN) / IMAGENET_STD


PREPARATIONS: Mapping[str, Prepare] = {"lite0": prepare_lite0, "imagenet": prepare_imagenet}
"""The preparations that a stored network can name."""
