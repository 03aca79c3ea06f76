"""Patch features: the outputs of a frozen network, which Keras runs, in each cell of grids over the image."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray

from pixal.train_model.patch_features.backbones import Backbone
from pixal.train_model.patch_features.extractor import FeatureExtractor, Features
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.levels import Level


class PatchFeatures(FeatureExtractor):
    """Computes features with Keras.

    Attributes:
        network: The Keras model from prepared images to the outputs of all levels.
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
        generator = np.random.default_rng(seed)
        outputs = []
        for level in levels:
            maps = [backbone.model.outputs[index] for index in level.maps]
            depth = sum(int(feature_map.shape[-1]) for feature_map in maps)
            kept = np.sort(generator.choice(depth, min(count, depth), replace=False)) if count else None
            height, width = backbone.model.outputs[level.grid].shape[1:3]
            joined = _join(maps, (int(height), int(width)), kept, pool_size, interpolation)
            outputs.append(ops.normalize(joined, axis=-1) if unit_length else joined)
        grids = [(int(output.shape[1]), int(output.shape[2])) for output in outputs]
        depths = [int(output.shape[-1]) for output in outputs]
        super().__init__(frame, channels, levels, grids, depths, backbone.prepare)
        self.network = keras.Model(backbone.model.inputs, outputs)
        shape = tf.TensorSpec((1, *frame.size, 3), tf.float32)
        self._function = tf.function(
            lambda image: keras.tree.flatten(self.network(image, training=False)), input_signature=[shape]
        )

    def _run(self, image: NDArray[np.float32]) -> Sequence[Features]:
        outputs: Sequence[Features] = self._function(tf.constant(image))
        return outputs


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
