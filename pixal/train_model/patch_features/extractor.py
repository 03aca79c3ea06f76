"""The interface of patch feature extractors, independent of the library that runs the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.train_model.patch_features.colours import to_rgb
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.levels import Level
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN, Prepare

Features = NDArray[np.float32]
"""Features of n images at one level: (n, h, w, D) on its grid, or (n, p, D) in p cells of it."""


class FeatureExtractor(ABC):
    """Computes the features of images: the feature maps of a frozen network, joined on one grid per level.

    Attributes:
        frame: What the network sees of an image.
        levels: The levels.
        grids: (h, w) of the grid of each level, cells.
        depths: The number of features per cell of each level.
        prepare: Converts RGB images (n, h, w, 3) in [0, 1] to the input of the network.
    """

    def __init__(
        self,
        frame: Frame,
        channels: Sequence[str],
        levels: Sequence[Level],
        grids: Sequence[tuple[int, int]],
        depths: Sequence[int],
        prepare: Prepare,
    ) -> None:
        """Describe the network.

        Args:
            frame: What the network sees of an image.
            channels: The names of the channels of the images.
            levels: The levels, the outputs of the network.
            grids: (h, w) of each output.
            depths: The channels of each output.
            prepare: Converts RGB images in [0, 1] to the input of the network.
        """
        self.frame, self._channels, self.prepare = frame, tuple(channels), prepare
        self.levels, self.grids, self.depths = list(levels), list(grids), list(depths)

    @abstractmethod
    def _run(self, image: NDArray[np.float32]) -> Sequence[Features]:
        """The outputs (1, h, w, D) of the network for a prepared image (1, H, W, 3)."""

    def __call__(
        self, images: NDArray[np.float32], masks: NDArray[np.bool_], flips: NDArray[np.bool_] | None = None
    ) -> list[Features]:
        """Compute features.

        Pixels outside the part are set to ImageNet's mean colour. The images are processed one at a time, so that an
        image gives the same bits whatever the other images are.

        Args:
            images: (n, H, W, C).
            masks: The pixels of the part on each image, (n, H, W).
            flips: Whether each image is mirrored left to right, and top to bottom, (n, 2); None: no image.

        Returns:
            (n, h, w, D) of each level.
        """
        features = [
            np.empty((len(images), *grid, depth), np.float32)
            for grid, depth in zip(self.grids, self.depths, strict=True)
        ]
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            rgb = to_rgb(image, self._channels, mask)
            if flips is not None:
                left_right, top_bottom = flips[index]
                rgb = rgb[:: -1 if top_bottom else 1, :: -1 if left_right else 1]
                rgb = np.where(mask[..., None], rgb, IMAGENET_MEAN)
            seen = self.frame.to_network(rgb)
            for of_level, values in zip(features, self._run(self.prepare(seen[None])), strict=True):
                of_level[index] = values[0]
        return features

    def part_cells(self, mask: NDArray[np.bool_], level: int = 0) -> NDArray[np.bool_]:
        """The cells of the grid of a level, (h, w), at least half of which lie on the part; else those that touch it.

        The network sees the outline, and its jitter, mostly in the other cells.
        """
        seen = self.frame.to_network(mask.astype(np.float32))
        share = cv2.resize(seen, self.grids[level][::-1], interpolation=cv2.INTER_AREA)
        inside = share >= 0.5
        return np.asarray(inside if inside.any() else share > 0)
