"""Training on tiles: the data, the loss and the accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pixal.inputs import InputSet, evenly_spaced
from pixal.io.arrays import release_pages
from pixal.train_model.conv_autoencoder.means import Means
from pixal.train_model.conv_autoencoder.options import ConvSpecification
from pixal.train_model.conv_autoencoder.tiles import Grid
from pixal.train_model.family import Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.accuracy import ACCURACY_TOLERANCE, Accuracy
from pixal.train_model.keras_training.data import Data
from pixal.train_model.keras_training.losses import gaussian_nll, pointwise_loss

Images = NDArray[np.float32]

_MEASURED_TILES = 8  # tiles whose accuracy is measured after each epoch


class TileData(Data):
    """Tiles of deviations from mean images as training data, read batch by batch; 0 outside the part.

    Inputs are (n, h, w, C). Targets are equal to the inputs; with weights they are (n, h, w, 2 C), the values followed
    by their weights.
    """

    def __init__(
        self,
        inputs: InputSet,
        rows: Rows,
        type_indices: Rows,
        means: Means,
        grid: Grid,
        *,
        weights: Images | None,
        random: bool,
        seed: int,
    ) -> None:
        """Choose the tiles.

        Args:
            inputs: All parts.
            rows: The rows whose tiles are used.
            type_indices: The index of the type of each row of ``inputs``, (N,).
            means: The mean images.
            grid: The tiles of an image.
            weights: The weight of each value in the loss, (T, D); None: all equal.
            random: If true, each epoch has new tiles at random positions, each around a pixel of the part. Their number
                is the area of the part divided by that of a tile. If false, the tiles of the grid that contain a pixel
                of the part.
            seed: Seed of the random positions.
        """
        self._inputs, self._means, self._seed = inputs, means, seed
        self._weights = None if weights is None else weights.reshape(-1, *inputs.shape)
        self._tile_shape = grid.tile_shape
        self._part_pixels = [np.flatnonzero(mask) for mask in means.masks] if random else []  # per type
        corners_on_grid = [
            [
                (row_range.start, columns.start)
                for row_range, columns in grid.windows()
                if mask[row_range, columns].any()
            ]
            for mask in means.masks
        ]
        tiles: list[tuple[int, int, int, int]] = []
        for row in rows:
            type_index = int(type_indices[row])
            corners = corners_on_grid[type_index]
            if random:
                count = -(-len(self._part_pixels[type_index]) // int(np.prod(self._tile_shape)))
                corners = [(0, 0)] * max(1, count)
            tiles += [(int(row), type_index, *corner) for corner in corners]
        # One tile per line: the row of its image, the index of the type, its first row and its first column.
        self._tiles = np.array(tiles, np.intp).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self._tiles)

    def start(self, epoch: int) -> None:
        """Draw the positions of an epoch; see ``Data``."""
        if not self._part_pixels:
            return
        generator = np.random.default_rng([self._seed, epoch])
        height, width = self._means.masks.shape[1:]
        last_corner = height - self._tile_shape[0], width - self._tile_shape[1]
        for tile in self._tiles:
            pixels = self._part_pixels[tile[1]]
            pixel = pixels[generator.integers(len(pixels))] if len(pixels) else 0
            centre = np.divmod(pixel, width)
            tile[2:] = [
                min(max(0, position - size // 2), last)
                for position, size, last in zip(centre, self._tile_shape, last_corner, strict=True)
            ]

    def batch(self, rows: Rows) -> tuple[Images, Images]:
        """See ``Data``."""
        height, width, channels = self._inputs.shape
        depth = channels * (1 if self._weights is None else 2)
        targets = np.empty((len(rows), *self._tile_shape, depth), np.float32)
        for target, (row, type_index, top, left) in zip(targets, self._tiles[rows], strict=True):
            window = np.s_[top : top + self._tile_shape[0], left : left + self._tile_shape[1]]
            image = self._inputs.data[row].reshape(height, width, channels)
            target[..., :channels] = self._means.deviation(image[window], type_index, window)
            if self._weights is not None:
                target[..., channels:] = self._weights[type_index][window]
        release_pages(self._inputs.data)
        return np.ascontiguousarray(targets[..., :channels]), targets


class TileLoss(keras.losses.Loss):
    """The weighted mean of a pointwise loss over the values of a tile, as ``ImageLoss`` is over those of an image.

    The unit is the loss of a residual that equals the ``spread`` of its channel (``Means``). So 1 is the loss of the
    mean image alone, and channels with small and large variations have equal importance. The Gaussian loss has no unit.

    ``y_true`` is (n, h, w, C), or with weights (n, h, w, 2 C): the values followed by their weights. ``y_pred`` is
    (n, h, w, C), or for the Gaussian loss (n, h, w, 2 C): the means followed by the log-variances.
    """

    def __init__(self, spec: ConvSpecification, *, gaussian: bool, weighted: bool) -> None:
        """Create the loss.

        Args:
            spec: The specification, with the ``spread``.
            gaussian: Whether the loss is the negative log-likelihood.
            weighted: Whether ``y_true`` contains weights.
        """
        super().__init__(name="tile_loss")
        self._weighted, self._gaussian = weighted, gaussian
        self._pointwise = pointwise_loss(spec.loss_function, spec.huber_delta)
        self._scale = 1 / np.asarray(self._pointwise(np.array(spec.spread, np.float32)), np.float32)

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """The loss of each tile, (n,)."""
        values, weights = ops.split(y_true, 2, axis=-1) if self._weighted else (y_true, None)
        if self._gaussian:
            mean, log_variance = ops.split(y_pred, 2, axis=-1)
            losses = gaussian_nll(values - mean, log_variance)
        else:
            losses = self._pointwise(values - y_pred) * self._scale
        return ops.mean(losses if weights is None else losses * weights, axis=(1, 2, 3))


class TileAccuracy(Accuracy):
    """The share of values that are reconstructed within ``ACCURACY_TOLERANCE``, on some tiles."""

    def __init__(
        self, predict: Callable[[Images], Any], training: Data, validation: Data | None, channels: int
    ) -> None:
        """Set what is measured.

        Args:
            predict: The network: a TensorFlow function of tiles (n, h, w, C).
            training: The training tiles.
            validation: The validation tiles; None if there are none.
            channels: C.
        """
        self._predict, self._channels = predict, channels
        self._training, self._validation = training, validation

    def measure_epoch(self, history: History) -> None:
        """Add the accuracy of the current epoch to ``history``."""
        history.accuracy.append(self._share(self._training))
        if self._validation is not None:
            history.validation_accuracy.append(self._share(self._validation))

    def _share(self, data: Data) -> float:
        shares = []
        for row in evenly_spaced(np.arange(len(data)), _MEASURED_TILES):
            tile, _ = data.batch(row[None])
            is_accurate = np.abs(self._predict(tile).numpy()[..., : self._channels] - tile) <= ACCURACY_TOLERANCE
            shares.append(float(is_accurate.mean()))
        return float(np.mean(shares))
