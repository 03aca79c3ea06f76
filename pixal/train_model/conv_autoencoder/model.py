"""The convolutional autoencoder: residual blocks around a narrow bottleneck, on whole images or overlapping tiles."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
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
from pixal.train_model.conv_autoencoder.tile_training import TileAccuracy, TileLoss, Tiles
from pixal.train_model.conv_autoencoder.tiles import Grid
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, FitControl, Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.keras_family import KerasAnomalyModel
from pixal.train_model.keras_training.losses import bounded_log_variance, check_gaussian
from pixal.train_model.keras_training.replicas import distribution_strategy
from pixal.train_model.specification import ModelSpecification

_log = logging.getLogger(__name__)

Images = NDArray[np.float32]

_CELLS = 8  # latent: means of the bottleneck in this many by as many cells
_SHARE = 0.5  # of the memory limit, for a training step


class ConvAutoencoder(KerasAnomalyModel):
    """The model family "conv_autoencoder"; see ``pixal.train_model.family.ModelFamily``.

    The network sees how far an image is from the mean of its type's good parts. One serves all types, and is not told
    which it sees. What is beside the part is 0 to it, and so is its error there.
    """

    Options = ConvAutoencoderOptions
    Specification = ConvSpecification
    spec: ConvSpecification
    options: ConvAutoencoderOptions

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Nothing is built yet."""
        super().__init__(specification)
        self._means: Means | None = None
        self._encoder: Any = None
        self._predict: Any = None

    @property
    def loss_name(self) -> str:
        """See ``ModelFamily.loss_name``."""
        return super().loss_name if self._is_gaussian else f"{super().loss_name}; 1: of the mean image"

    @property
    def grid(self) -> Grid:
        """Where the tiles are."""
        height, width, _ = self.spec.shape
        return Grid(height, width, self.options.tile, self.options.overlap)

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``. Tiles of ``validation_rows`` are those of the grid."""
        validation_rows = control.validation_rows
        kinds, weights = self._labels(inputs).argmax(1), self._value_weights(masks)
        self._means = Means.of(inputs, rows, kinds, masks[: self._type_count])
        self.spec = self.spec.model_copy(update={"spread": tuple(self._means.spread.tolist())})
        spec = self.spec
        random = self.options.tile_places == "random"
        given: dict[str, Any] = {"kinds": kinds, "means": self._means, "grid": self.grid, "weights": weights}
        training = Tiles(inputs, rows, **given, random=random, seed=spec.seed)
        validation = None
        if validation_rows is not None:
            validation = Tiles(inputs, validation_rows, **given, random=False, seed=spec.seed)
        trained = self._untrained(inputs.data.shape[1], weights is not None)
        accuracy = None
        if spec.metric_accuracy:
            seen = Tiles(inputs, rows, **given, random=False, seed=spec.seed)
            accuracy = TileAccuracy(self._predict, seen, validation, inputs.shape[2])
        batch_size = self._batch_size()
        return self._run(trained, training, validation, control, accuracy=accuracy, batch_size=batch_size)

    def residual(self, images: Images, labels: Images) -> Images:
        """Input minus reconstruction, (n, D), 0 beside the part; with ``output: gaussian`` in its own sigmas."""
        return self._residual(images, labels, in_sigmas=self._is_gaussian)

    def difference(self, inputs: InputSet, rows: slice | Rows) -> Images:
        """See ``ModelFamily.difference``."""
        found = self._residual(inputs.rows(rows), self._labels(inputs)[rows], in_sigmas=False)
        return found.reshape(-1, *inputs.shape)

    def encode(self, images: Images, labels: Images) -> Images:
        """The bottleneck's means in 8x8 cells of the image, (n, 64 B); 0 in a cell that it is too coarse for."""
        tiles = (self._tiles_of(deviation, self._encoder) for _, deviation in self._deviations(images, labels))
        latents = [self._cells(part) for part in tiles]
        length = _CELLS * _CELLS * self.options.bottleneck
        return np.array(latents, np.float32).reshape(-1, length)

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras``, ``MODEL.weights.h5`` and the means; the same model gives the same bytes."""
        self._fitted.save(self._means_file(folder))
        return [*super().save(folder), self._means_file(folder)]

    def _load_other_files(self, folder: Path) -> None:
        self._means = Means.load(self._means_file(folder), (self._type_count, *self.spec.shape))

    @property
    def _is_gaussian(self) -> bool:
        return self.options.output == "gaussian"

    def _build(self, input_dim: int) -> Any:
        if self._is_gaussian:
            check_gaussian(self.spec)
        if self.spec.output_activation != "linear":
            raise ConfigError(
                f"model_training.output_activation: conv_autoencoder reconstructs deviations from a mean, of either "
                f"sign; set linear in place of {self.spec.output_activation}"
            )
        model, encoder = conv_autoencoder(*self.grid.frame, self.spec, self.options)
        self._predict = tf.function(lambda tiles: model(tiles, training=False), reduce_retracing=True)
        self._encoder = tf.function(lambda tiles: encoder(tiles, training=False), reduce_retracing=True)
        return model

    def _untrained(self, input_dim: int, weighted: bool) -> Any:
        """The compiled Keras model to train; it shares its layers with ``model``, which is never compiled."""
        keras.utils.set_random_seed(self.spec.seed)
        loss = TileLoss(self.spec, gaussian=self._is_gaussian, weighted=weighted)
        replicas = distribution_strategy(self.spec.gpus)
        with replicas.scope():
            self.build_model(input_dim)
            return self._compile(self.model, loss, replicated=replicas.num_replicas_in_sync > 1)

    def _batch_size(self) -> int:
        """Tiles a training step: those of ``batchsize``, or as many as half the memory limit holds."""
        spec = self.spec
        one = step_bytes(*self.grid.frame, self.options.size)
        held = int(_SHARE * spec.memory_limit * 2**30 / one)
        if not held:
            raise ConfigError(
                f"model_training.model_options.tile: a training step of a {'x'.join(map(str, self.grid.frame))} image "
                f"takes some {one / _SHARE / 2**30:.1f} GB, execution.memory_limit is {spec.memory_limit}; "
                "set tile (256 is a good size), or a higher limit"
            )
        if held < spec.batchsize:
            _log.info("%d tiles a step in place of batchsize %d: execution.memory_limit", held, spec.batchsize)
        return min(held, spec.batchsize)

    def _residual(self, images: Images, labels: Images, *, in_sigmas: bool) -> Images:
        channels = self.spec.shape[2]
        found = []
        for kind, deviation in self._deviations(images, labels):
            output = self.grid.blend(self._tiles_of(deviation, self._predict))
            error = deviation - output[..., :channels]
            mask = self._fitted.masks[kind]
            if in_sigmas:
                error *= _relative_precision(output[..., channels:], mask)
            error[~mask] = 0
            found.append(error.ravel())
        return np.array(found, np.float32).reshape(images.shape)

    def _deviations(self, images: Images, labels: Images) -> Iterator[tuple[int, Images]]:
        """Number of the type, and deviation (H, W, C) from its mean, of each image of (n, D) with labels (n, T)."""
        for image, kind in zip(images.reshape(-1, *self.spec.shape), labels.argmax(1), strict=True):
            yield kind, self._fitted.deviation(image, kind)

    def _tiles_of(self, image: Images, network: Any) -> Iterator[Images]:
        """What a network makes of each tile of an image (H, W, C), a few at a time."""
        places = self.grid.places()
        # Without gradients few values are kept at a time, a tenth of what a step keeps.
        several = max(1, int(_SHARE * 2**30 / step_bytes(*self.grid.frame, self.options.size)))
        for start in range(0, len(places), several):
            tiles = np.stack([image[place] for place in places[start : start + several]])
            yield from network(tiles).numpy().astype(np.float32, copy=False)

    def _cells(self, tiles: Iterator[Images]) -> Images:
        """The means of the tiles' bottlenecks (h, w, B) in cells of the image, (cells, cells, B)."""
        grid = self.grid
        bottleneck = self.options.bottleneck
        total, count = np.zeros((_CELLS, _CELLS, bottleneck)), np.zeros((_CELLS, _CELLS, 1))
        for place, values in zip(grid.places(), tiles, strict=True):
            cells = np.ix_(
                *(
                    (side.start + (np.arange(number) + 0.5) * (side.stop - side.start) / number) * _CELLS // size
                    for side, number, size in zip(place, values.shape[:2], (grid.height, grid.width), strict=True)
                )
            )
            where = tuple(cell.astype(np.intp) for cell in cells)
            np.add.at(total, where, values)
            np.add.at(count, where, 1)
        return np.asarray(total / np.maximum(count, 1), np.float32)

    @property
    def _fitted(self) -> Means:
        if self._means is None or self._predict is None:
            raise ModelError(NOT_FITTED)
        return self._means

    def _means_file(self, folder: Path) -> Path:
        return folder / f"{self.spec.model_name}.weights.means.npz"


def _relative_precision(log_variance: Images, mask: NDArray[np.bool_]) -> Images:
    """A channel's root mean square sigma over the part, over the sigma of each value, (H, W, C)."""
    variance = np.exp(np.asarray(bounded_log_variance(log_variance), np.float32))
    typical = variance[mask].mean(0) if mask.any() else variance.mean((0, 1))
    return np.asarray(np.sqrt(typical / variance), np.float32)
