"""The convolutional autoencoder: residual blocks and a narrow bottleneck, on whole images or overlapping tiles."""

from __future__ import annotations

import logging
from collections.abc import Mapping
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
from pixal.train_model.conv_autoencoder.network import conv_autoencoder
from pixal.train_model.conv_autoencoder.options import ConvAutoencoderOptions, ConvSpecification, step_bytes
from pixal.train_model.conv_autoencoder.reconstruction import (
    STEP_MEMORY_SHARE,
    Images,
    TileReconstructor,
    network_files,
)
from pixal.train_model.conv_autoencoder.tile_training import TileAccuracy, TileData, TileLoss
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, FitControl, Rows
from pixal.train_model.history import History
from pixal.train_model.inference.graph import write_network
from pixal.train_model.keras_training.keras_family import KerasAnomalyModel
from pixal.train_model.keras_training.losses import bounded_log_variance, check_gaussian
from pixal.train_model.keras_training.replicas import distribution_strategy
from pixal.train_model.specification import ModelSpecification

_log = logging.getLogger(__name__)


class ConvAutoencoder(TileReconstructor, KerasAnomalyModel):
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
        self._encoder: Any = None
        self._predict: Any = None

    @property
    def loss_name(self) -> str:
        """See ``ModelFamily.loss_name``."""
        return super().loss_name if self._is_gaussian else f"{super().loss_name} relative to the mean image"

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``. The tiles of validation rows are always those of the grid."""
        inputs, rows = self._with_copies(inputs, rows)
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

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras``, ``MODEL.weights.h5``, the mean images, and the networks for ``TilePredictor``."""
        self._fitted.save(self._means_file(folder))
        files = [*super().save(folder), self._means_file(folder)]
        networks = zip(network_files(folder, self.spec), (self.model, self._encoder_model), strict=True)
        if not self.spec.mixed_precision and all(write_network(model, path, {}) for path, model in networks):
            files += network_files(folder, self.spec)
        return files

    def _load_other_files(self, folder: Path) -> None:
        self._means = Means.load(self._means_file(folder), (self._type_count, *self.spec.shape))

    def _reconstruct_tiles(self, tiles: Images) -> Images:
        return self._applied(self._predict, tiles)

    def _encode_tiles(self, tiles: Images) -> Images:
        return self._applied(self._encoder, tiles)

    @staticmethod
    def _applied(network: Any, tiles: Images) -> Images:
        """The output of a network. Raise ModelError if it is not built."""
        if network is None:
            raise ModelError(NOT_FITTED)
        return np.asarray(network(tiles).numpy().astype(np.float32, copy=False))

    def _bounded_log_variance(self, log_variance: Any) -> Any:
        return bounded_log_variance(log_variance)  # of Keras, as in the loss

    def _build(self, input_dim: int) -> keras.Model:
        if self._is_gaussian:
            check_gaussian(self.spec)
        if self.spec.output_activation != "linear":
            raise ConfigError(
                f"model_training.output_activation: conv_autoencoder reconstructs deviations from a mean, which have "
                f"both signs; set linear instead of {self.spec.output_activation}"
            )
        model, encoder = conv_autoencoder(*self.grid.tile_shape, self.spec, self.options)
        self._encoder_model = encoder
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
        most = int(STEP_MEMORY_SHARE * spec.memory_limit * 2**30 / tile_bytes)
        if not most:
            size = "x".join(map(str, self.grid.tile_shape))
            raise ConfigError(
                f"model_training.model_options.tile: a training step of a {size} image "
                f"needs about {tile_bytes / STEP_MEMORY_SHARE / 2**30:.1f} GB, more than execution.memory_limit "
                f"({spec.memory_limit}); set tile (256 is a good size), or raise the limit"
            )
        if most < spec.batchsize:
            _log.info("%d tiles per step instead of batchsize %d, because of memory_limit", most, spec.batchsize)
        return min(most, spec.batchsize)
