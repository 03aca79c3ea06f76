"""RGB images, which backbones need, from the channels of an input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN

_RGB = ("R", "G", "B")
_LAB = ("LAB_L", "LAB_a", "LAB_b")
_WHITE = np.array([0.95047, 1.0, 1.08883])  # of D65, 2 degree observer
# sRGB primaries to CIE XYZ
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_RGB_OF_XYZ = np.linalg.inv(_XYZ)


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
    inside = np.flatnonzero(mask)
    pixels = np.take(image.reshape(-1, image.shape[-1]), inside, axis=0)  # faster than a mask as an index
    if set(_RGB) <= set(channels):
        rgb.reshape(-1, 3)[inside] = pixels[:, [channels.index(name) for name in _RGB]]
    elif set(_LAB) <= set(channels):
        # Undo the scales of pixal/tasks/photographs/network_input/channels.py.
        lab = pixels[:, [channels.index(name) for name in _LAB]] * np.array([100, 255, 255], np.float32)
        lab -= np.array([0, 128, 128], np.float32)
        rgb.reshape(-1, 3)[inside] = lab_to_rgb(lab)
    else:
        raise ConfigError(
            f"preprocessing.preprocessor.channels: a backbone needs colours, but the channels are "
            f"{', '.join(channels)}; include R, G and B, or LAB_L, LAB_a and LAB_b, and run make_input again"
        )
    return rgb


def lab_to_rgb(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert CIE 1976 L*a*b* (D65, 2 degree observer) to gamma-encoded sRGB in [0, 1].

    Colours outside sRGB are clipped. The result is to the bit that of ``skimage.color.lab2rgb``, of which the import
    takes as long as the verdict on a photograph.

    Args:
        lab: (N, 3), L in [0, 100].
    """
    y = (lab[:, 0] + 16.0) / 116.0
    cone = np.stack([lab[:, 1] / 500.0 + y, y, np.maximum(y - lab[:, 2] / 200.0, 0)], axis=-1)
    xyz = np.where(cone > 0.2068966, np.power(cone, 3.0), (cone - 16.0 / 116.0) / 7.787)
    linear = (xyz * _WHITE).astype(lab.dtype) @ _RGB_OF_XYZ.T.astype(lab.dtype)
    curve = 1.055 * np.power(np.maximum(linear, 0), 1 / 2.4) - 0.055
    return np.asarray(np.clip(np.where(linear > 0.0031308, curve, linear * 12.92), 0, 1), np.float32)
