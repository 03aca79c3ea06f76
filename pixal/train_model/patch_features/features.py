"""Patch features: the outputs of a frozen network in each cell of grids over the image."""

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
from pixal.train_model.patch_features.levels import Level

Features = NDArray[np.float32]
"""Features of n images at one level: (n, h, w, D) on its grid, or (n, p, D) in p cells of it."""


class PatchFeatures:
    """Computes the features of images: the feature maps of a backbone, joined on one grid per level.

    Attributes:
        frame: What the network sees of an image.
        levels: The levels.
        grids: (h, w) of the grid of each level, cells.
        depths: The number of features per cell of each level.
    """

    def __init__(
        self,
        backbone: Backbone,
        frame: Frame,
        channels: Sequence[str],
        levels: Sequence[Level],
        *,
        count: int | None = None,
        seed: int = 0,
        pool_size: int = 1,
        interpolation: str = "nearest",
        unit_length: bool = False,
    ) -> None:
        """Build the network.

        Args:
            backbone: A backbone that was built for ``frame.size``.
            frame: What the network sees of an image.
            channels: The names of the channels of the images.
            levels: Which of the backbone's feature maps are joined, and on which grid.
            count: How many channels of each level are kept, drawn at random; None: all.
            seed: Seed of the channels that are kept.
            pool_size: Each map is first averaged over a square of this many cells per side.
            interpolation: How coarser maps are resized to the grid: ``nearest`` or ``bilinear``. Finer maps are
                averaged over the cells of the grid.
            unit_length: Whether the features of each cell are divided by their Euclidean norm.
        """
        self.frame, self._channels, self._prepare = frame, tuple(channels), backbone.prepare
        self.levels = list(levels)
        generator = np.random.default_rng(seed)
        outputs = []
        for level in levels:
            maps = [backbone.model.outputs[index] for index in level.maps]
            depth = sum(int(feature_map.shape[-1]) for feature_map in maps)
            kept = np.sort(generator.choice(depth, min(count, depth), replace=False)) if count else None
            height, width = backbone.model.outputs[level.grid].shape[1:3]
            joined = _join(maps, (int(height), int(width)), kept, pool_size, interpolation)
            outputs.append(ops.normalize(joined, axis=-1) if unit_length else joined)
        self.grids = [(int(output.shape[1]), int(output.shape[2])) for output in outputs]
        self.depths = [int(output.shape[-1]) for output in outputs]
        network = keras.Model(backbone.model.inputs, outputs)
        shape = tf.TensorSpec((1, *frame.size, 3), tf.float32)
        self._run = tf.function(
            lambda image: keras.tree.flatten(network(image, training=False)), input_signature=[shape]
        )

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
            for of_level, values in zip(features, self._run(tf.constant(self._prepare(seen[None]))), strict=True):
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


def _join(
    maps: Sequence[keras.KerasTensor],
    grid: tuple[int, int],
    kept: NDArray[np.intp] | None,
    pool_size: int,
    interpolation: str,
) -> keras.KerasTensor:
    """Join feature maps on a grid; keep the channels ``kept``, ascending indices, or all."""
    on_grid, first_channel = [], 0
    for feature_map in maps:
        depth = int(feature_map.shape[-1])
        own = np.arange(depth) if kept is None else kept[(kept >= first_channel) & (kept < first_channel + depth)]
        own = own - (0 if kept is None else first_channel)
        first_channel += depth
        if not len(own):
            continue
        if pool_size > 1:
            feature_map = keras.layers.AveragePooling2D(pool_size, 1, "same")(feature_map)
        if len(own) < depth:
            feature_map = ops.take(feature_map, own, axis=-1)
        if (cells := round(feature_map.shape[1] / grid[0])) > 1:
            feature_map = keras.layers.AveragePooling2D(cells, cells, "same")(feature_map)
        if tuple(feature_map.shape[1:3]) != grid:
            feature_map = ops.image.resize(feature_map, grid, interpolation=interpolation)
        on_grid.append(ops.cast(feature_map, "float32"))
    return ops.concatenate(on_grid, axis=-1) if len(on_grid) > 1 else on_grid[0]
