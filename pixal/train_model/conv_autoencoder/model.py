"""The convolutional autoencoder: residual blocks and a narrow bottleneck, on whole images or overlapping tiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pixal.errors import ConfigError, ModelError
from pixal.inputs import InputSet
from pixal.train_model.conv_autoencoder.means import Means
from pixal.train_model.conv_autoencoder.network import conv_autoencoder, step_bytes
from pixal.train_model.conv_autoencoder.options import ConvAutoencoderOptions, ConvSpecification
from pixal.train_model.conv_autoencoder.tile_training import TileAccuracy, TileData, TileLoss
from pixal.train_model.conv_autoencoder.tiles import Grid
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, FitControl, Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.keras_family import KerasAnomalyModel
from pixal.train_model.keras_training.losses import bounded_log_variance, check_gaussian
from pixal.train_model.keras_training.replicas import distribution_strategy
from pixal.train_model.specification import ModelSpecification

_log = logging.getLogger(__name__)

Images = NDArray[np.float32]
Network = Callable[[Images], tf.Tensor]
"""A compiled network of tiles (n, h, w, C)."""

_LATENT_CELLS = 8  # the latent vector holds means of the bottleneck in a grid of this many cells per side
_STEP_MEMORY_SHARE = 0.5  # of the memory limit, for a training step


class ConvAutoencoder(KerasAnomalyModel):
    """The model family "conv_autoencoder"; see ``pixal.train_model.family.ModelFamily``.

    The network sees the deviation of an image from the mean of the good parts of its type. One network serves all
    types, without a label. Its input and its error are 0 outside the part.
    """

    Options = ConvAutoencoderOptions
    Specification = ConvSpecification
    spec: ConvSpecification
    options: ConvAutoencoderOptions

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self._means: Means | None = None
        self._encoder: Network | None = None
        self._predict: Network | None = None

    @property
    def loss_name(self) -> str:
        """See ``ModelFamily.loss_name``."""
        return super().loss_name if self._is_gaussian else f"{super().loss_name} relative to the mean image"

    @property
    def grid(self) -> Grid:
        """The tiles of an image."""
        height, width, _ = self.spec.shape
        return Grid(height, width, self.options.tile, self.options.overlap)

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``. The tiles of validation rows are always those of the grid."""
        types, weights = self._labels(inputs).argmax(1), self._value_weights(masks)
        self._means = Means.measure(inputs, rows, types, masks[: self._type_count])
        self.spec = self.spec.model_copy(update={"spread": tuple(self._means.spread.tolist())})
        tiles = partial(
            TileData,
            inputs,
            type_indices=types,
            means=self._means,
            grid=self.grid,
            weights=weights,
            seed=self.spec.seed,
        )
        training = tiles(rows, random=self.options.tile_places == "random")
        validation = None if control.validation_rows is None else tiles(control.validation_rows, random=False)
        trained = self._build_trained(inputs.data.shape[1], weights is not None)
        accuracy = None
        if self.spec.metric_accuracy:
            assert self._predict is not None
            accuracy = TileAccuracy(self._predict, tiles(rows, random=False), validation, inputs.shape[2])
        batch_size = self._batch_size()
        return self._run(trained, training, validation, control, accuracy=accuracy, batch_size=batch_size)

    def residual(self, images: Images, labels: Images) -> Images:
        """Input minus reconstruction, (n, D); 0 outside the part.

        With ``output: gaussian``, each value is divided by its standard deviation and multiplied by the typical one of
        its channel.
        """
        return self._residual(images, labels, in_sigmas=self._is_gaussian)

    def difference(self, inputs: InputSet, rows: slice | Rows) -> Images:
        """See ``ModelFamily.difference``."""
        residual = self._residual(inputs.rows(rows), self._labels(inputs)[rows], in_sigmas=False)
        return residual.reshape(-1, *inputs.shape)

    def encode(self, images: Images, labels: Images) -> Images:
        """Means of the B bottleneck channels in 8x8 cells of the image, (n, 64 B).

        A cell without a bottleneck pixel, as in small images, is 0.
        """
        cells = [
            self._cell_means(self._apply_to_tiles(deviation, self._encoder))
            for _, deviation in self._deviations(images, labels)
        ]
        length = _LATENT_CELLS * _LATENT_CELLS * self.options.bottleneck
        return np.array(cells, np.float32).reshape(-1, length)

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras``, ``MODEL.weights.h5`` and the mean images. The same model gives the same bytes."""
        self._fitted.save(self._means_file(folder))
        return [*super().save(folder), self._means_file(folder)]

    def _load_other_files(self, folder: Path) -> None:
        self._means = Means.load(self._means_file(folder), (self._type_count, *self.spec.shape))

    @property
    def _is_gaussian(self) -> bool:
        return self.options.output == "gaussian"

    def _build(self, input_dim: int) -> keras.Model:
        if self._is_gaussian:
            check_gaussian(self.spec)
        if self.spec.output_activation != "linear":
            raise ConfigError(
                f"model_training.output_activation: conv_autoencoder reconstructs deviations from a mean, which have "
                f"both signs; set linear instead of {self.spec.output_activation}"
            )
        model, encoder = conv_autoencoder(*self.grid.tile_shape, self.spec, self.options)
        self._predict = tf.function(lambda tiles: model(tiles, training=False), reduce_retracing=True)
        self._encoder = tf.function(lambda tiles: encoder(tiles, training=False), reduce_retracing=True)
        return model

    def _build_trained(self, input_dim: int, weighted: bool) -> keras.Model:
        """Build and compile the Keras model to train. It shares its layers with ``model``, which is never compiled."""
        keras.utils.set_random_seed(self.spec.seed)
        loss = TileLoss(self.spec, gaussian=self._is_gaussian, weighted=weighted)
        replicas = distribution_strategy(self.spec.gpus)
        with replicas.scope():
            self.build_model(input_dim)
            return self._compile(self.model, loss, replicated=replicas.num_replicas_in_sync > 1)

    def _batch_size(self) -> int:
        """The number of tiles per training step: ``batchsize``, or fewer if half of the memory limit holds fewer.

        Raises:
            ConfigError: The memory limit is too low for a single tile.
        """
        spec = self.spec
        tile_bytes = step_bytes(*self.grid.tile_shape, self.options.size)
        most = int(_STEP_MEMORY_SHARE * spec.memory_limit * 2**30 / tile_bytes)
        if not most:
            size = "x".join(map(str, self.grid.tile_shape))
            raise ConfigError(
                f"model_training.model_options.tile: a training step of a {size} image "
                f"needs about {tile_bytes / _STEP_MEMORY_SHARE / 2**30:.1f} GB, more than execution.memory_limit "
                f"({spec.memory_limit}); set tile (256 is a good size), or raise the limit"
            )
        if most < spec.batchsize:
            _log.info("%d tiles per step instead of batchsize %d, because of memory_limit", most, spec.batchsize)
        return min(most, spec.batchsize)

    def _residual(self, images: Images, labels: Images, *, in_sigmas: bool) -> Images:
        """Input minus reconstruction, (n, D), of images (n, D) with labels (n, T); see ``residual``."""
        channels = self.spec.shape[2]
        residuals = []
        for type_index, deviation in self._deviations(images, labels):
            output = self.grid.blend(self._apply_to_tiles(deviation, self._predict))
            residual = deviation - output[..., :channels]
            mask = self._fitted.masks[type_index]
            if in_sigmas:
                residual *= _relative_precision(output[..., channels:], mask)
            residual[~mask] = 0
            residuals.append(residual.ravel())
        return np.array(residuals, np.float32).reshape(images.shape)

    def _deviations(self, images: Images, labels: Images) -> Iterator[tuple[int, Images]]:
        """Type index, and deviation from the mean (H, W, C), of each of the images (n, D) with labels (n, T)."""
        for image, type_index in zip(images.reshape(-1, *self.spec.shape), labels.argmax(1), strict=True):
            yield type_index, self._fitted.deviation(image, type_index)

    def _apply_to_tiles(self, image: Images, network: Network | None) -> Iterator[Images]:
        """Apply a network to each tile of an image (H, W, C), a few tiles at a time.

        Raises:
            ModelError: The network is not built.
        """
        if network is None:
            raise ModelError(NOT_FITTED)
        windows = self.grid.windows()
        # 0.5 GB as for a training step. Prediction needs about a tenth of that, because it keeps no gradients.
        chunk_size = max(1, int(_STEP_MEMORY_SHARE * 2**30 / step_bytes(*self.grid.tile_shape, self.options.size)))
        for start in range(0, len(windows), chunk_size):
            tiles = np.stack([image[window] for window in windows[start : start + chunk_size]])
            yield from network(tiles).numpy().astype(np.float32, copy=False)

    def _cell_means(self, tiles: Iterator[Images]) -> Images:
        """Average bottleneck outputs (h, w, B) of the tiles in cells of the image: (cells, cells, B)."""
        grid, side = self.grid, _LATENT_CELLS
        total, count = np.zeros((side, side, self.options.bottleneck)), np.zeros((side, side, 1))
        for (rows, columns), values in zip(grid.windows(), tiles, strict=True):
            cells = np.ix_(
                _cell_indices(rows, values.shape[0], grid.height), _cell_indices(columns, values.shape[1], grid.width)
            )
            np.add.at(total, cells, values)
            np.add.at(count, cells, 1)
        return np.asarray(total / np.maximum(count, 1), np.float32)

    @property
    def _fitted(self) -> Means:
        """The mean images. Raises ModelError if the model is neither trained nor loaded."""
        if self._means is None or self._predict is None:
            raise ModelError(NOT_FITTED)
        return self._means

    def _means_file(self, folder: Path) -> Path:
        return folder / f"{self.spec.model_name}.weights.means.npz"


def _cell_indices(window: slice, count: int, size: int) -> NDArray[np.intp]:
    """The latent cell of each of ``count`` bottleneck pixels along a side of a tile.

    Args:
        window: The pixels of the tile, in the image.
        count: The number of bottleneck pixels along the tile.
        size: The length of the side of the image, pixels.
    """
    centres = window.start + (np.arange(count) + 0.5) * (window.stop - window.start) / count
    return np.asarray(centres * _LATENT_CELLS // size).astype(np.intp)


def _relative_precision(log_variance: Images, mask: NDArray[np.bool_]) -> Images:
    """The root mean square standard deviation of a channel over the part, divided by that of each value, (H, W, C)."""
    variance = np.exp(np.asarray(bounded_log_variance(log_variance), np.float32))
    typical = variance[mask].mean(0) if mask.any() else variance.mean((0, 1))
    return np.asarray(np.sqrt(typical / variance), np.float32)
