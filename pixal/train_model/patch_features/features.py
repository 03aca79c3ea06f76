"""Patch features: the outputs of a frozen network in each cell of one grid over the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from pixal.train_model.patch_features.backbones import IMAGENET_MEAN, Backbone
from pixal.train_model.patch_features.colours import to_rgb
from pixal.train_model.patch_features.frame import Frame

Features = NDArray[np.float32]
"""Features of n images: (n, h, w, D) on the grid, or (n, p, D) in p cells of it."""


class PatchFeatures:
    """Computes the features of images: feature maps of a backbone, resized to the grid of the first map and joined.

    Attributes:
        frame: What the network sees of an image.
        grid: (h, w) of the grid, cells.
        depth: D, the number of features per cell.
    """

    def __init__(
        self,
        backbone: Backbone,
        frame: Frame,
        channels: Sequence[str],
        *,
        maps: slice = slice(None),
        subset: NDArray[np.intp] | None = None,
        pool_size: int = 1,
        interpolation: str = "nearest",
    ) -> None:
        """Build the network.

        Args:
            backbone: A backbone that was built for ``frame.size``.
            frame: What the network sees of an image.
            channels: The names of the channels of the images.
            maps: Which of the backbone's feature maps are used.
            subset: Which channels of the joined maps are kept, ascending indices; None: all.
            pool_size: Each map is first averaged over a square of this many cells per side.
            interpolation: How coarser maps are resized to the grid: ``nearest`` or ``bilinear``.
        """
        self.frame, self._channels, self._prepare = frame, tuple(channels), backbone.prepare
        outputs = backbone.model.outputs[maps]
        height, width = outputs[0].shape[1:3]
        self.grid: tuple[int, int] = int(height), int(width)
        on_grid, first_channel = [], 0
        for feature_map in outputs:
            map_channels = np.arange(first_channel, first_channel + feature_map.shape[-1])
            first_channel += len(map_channels)
            kept = np.arange(len(map_channels)) if subset is None else np.flatnonzero(np.isin(map_channels, subset))
            if not len(kept):
                continue
            if pool_size > 1:
                feature_map = keras.layers.AveragePooling2D(pool_size, 1, "same")(feature_map)
            if len(kept) < len(map_channels):
                feature_map = ops.take(feature_map, kept, axis=-1)
            if tuple(feature_map.shape[1:3]) != self.grid:
                feature_map = ops.image.resize(feature_map, self.grid, interpolation=interpolation)
            on_grid.append(ops.cast(feature_map, "float32"))
        joined = ops.concatenate(on_grid, axis=-1) if len(on_grid) > 1 else on_grid[0]
        self.depth = int(joined.shape[-1])
        network = keras.Model(backbone.model.inputs, joined)
        shape = tf.TensorSpec((1, *frame.size, 3), tf.float32)
        self._run = tf.function(lambda image: network(image, training=False), input_signature=[shape])

    def __call__(
        self, images: NDArray[np.float32], masks: NDArray[np.bool_], flips: NDArray[np.bool_] | None = None
    ) -> Features:
        """Compute features.

        Pixels outside the part are set to ImageNet's mean colour. The images are processed one at a time, so that an
        image gives the same bits whatever the other images are.

        Args:
            images: (n, H, W, C).
            masks: The pixels of the part on each image, (n, H, W).
            flips: Whether each image is mirrored left to right, and top to bottom, (n, 2); None: no image.

        Returns:
            (n, h, w, D).
        """
        features = np.empty((len(images), *self.grid, self.depth), np.float32)
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            rgb = to_rgb(image, self._channels, mask)
            if flips is not None:
                left_right, top_bottom = flips[index]
                rgb = rgb[:: -1 if top_bottom else 1, :: -1 if left_right else 1]
                rgb = np.where(mask[..., None], rgb, IMAGENET_MEAN)
            seen = self.frame.to_network(rgb)
            features[index] = self._run(tf.constant(self._prepare(seen[None])))[0]
        return features

    def part_cells(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The cells of the grid, (h, w), that touch the part, and their neighbours.

        A map on the part is interpolated from the values in these cells.
        """
        seen = self.frame.to_network(mask.astype(np.float32))
        share = cv2.resize(seen, self.grid[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.dilate((share > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
