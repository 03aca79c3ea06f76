"""RGB images, which backbones need, from the channels of an input."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.color import lab2rgb

from pixal.errors import ConfigError
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN

_RGB = ("R", "G", "B")
_LAB = ("LAB_L", "LAB_a", "LAB_b")


def has_colours(channels: Sequence[str]) -> bool:
    """Whether ``to_rgb`` can make an image of these channels."""
    return set(_RGB) <= set(channels) or set(_LAB) <= set(channels)


def to_rgb(image: NDArray[np.float32], channels: Sequence[str], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the RGB image of an input: from its channels R, G and B if it has them, else from LAB.

    Args:
        image: (H, W, C).
        channels: The names of the C channels.
        mask: (H, W), the pixels of the part.

    Returns:
        (H, W, 3) in [0, 1]; ImageNet's mean colour outside the mask.

    Raises:
        ConfigError: The channels contain neither RGB nor LAB.
    """
    rgb = np.empty((*image.shape[:2], 3), np.float32)
    rgb[:] = IMAGENET_MEAN
    if set(_RGB) <= set(channels):
        rgb[mask] = image[mask][:, [channels.index(name) for name in _RGB]]
    elif set(_LAB) <= set(channels):
        # Undo the scales of pixal/tasks/photographs/network_input/channels.py.
        lab = image[mask][:, [channels.index(name) for name in _LAB]] * np.array([100, 255, 255], np.float32)
        lab -= np.array([0, 128, 128], np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the mean of several pixels may be slightly outside sRGB
            rgb[mask] = lab2rgb(lab)
    else:
        raise ConfigError(
            f"preprocessing.preprocessor.channels: a backbone needs colours, but the channels are "
            f"{', '.join(channels)}; include R, G and B, or LAB_L, LAB_a and LAB_b, and run make_input again"
        )
    return rgb
