"""What a fit on tiles is fed and measured by: the tiles as data, their loss, and its accuracy."""

from __future__ import annotations

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

_MEASURED = 8  # tiles whose accuracy is measured an epoch


class Tiles(Data):
    """Tiles of deviations from the mean of good parts as training data, read batch by batch; 0 beside the part.

    Inputs are (n, h, w, C). Targets are the same; with weights (n, h, w, 2 C), the values first and then their weights.
    """

    def __init__(
        self,
        inputs: InputSet,
        rows: Rows,
        kinds: Rows,
        means: Means,
        grid: Grid,
        *,
        weights: Images | None,
        random: bool,
        seed: int,
    ) -> None:
        """``kinds``: number of the type of each row of ``inputs``. ``weights`` (T, D).

        ``random``: in each epoch other places, each around a pixel of the part drawn from ``seed``, and as many as the
        part has room for; else those of the grid that hold a pixel of the part.
        """
        self._inputs, self._means, self._seed = inputs, means, seed
        self._weights = None if weights is None else weights.reshape(-1, *inputs.shape)
        self._frame = grid.frame
        self._of_part = [np.flatnonzero(mask) for mask in means.masks] if random else []
        grids = [[(y.start, x.start) for y, x in grid.places() if mask[y, x].any()] for mask in means.masks]
        found: list[tuple[int, int, int, int]] = []
        for row in rows:
            places = grids[kinds[row]]
            if random:
                count = -(-len(self._of_part[kinds[row]]) // int(np.prod(self._frame)))
                places = [(0, 0)] * max(1, count)
            found += [(int(row), int(kinds[row]), *place) for place in places]
        self._tiles = np.array(found, np.intp).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self._tiles)

    def start(self, epoch: int) -> None:
        """Draw the places of an epoch; see ``Data``."""
        if not self._of_part:
            return
        generator = np.random.default_rng([self._seed, epoch])
        height, width = self._means.masks.shape[1:]
        for tile in self._tiles:
            inside = self._of_part[tile[1]]
            pixel = inside[generator.integers(len(inside))] if len(inside) else 0
            centre, most = np.divmod(pixel, width), (height - self._frame[0], width - self._frame[1])
            tile[2:] = [
                min(max(0, at - size // 2), top) for at, size, top in zip(centre, self._frame, most, strict=True)
            ]

    def batch(self, rows: Rows) -> tuple[Any, Images]:
        """See ``Data``."""
        height, width, channels = self._inputs.shape
        count = channels * (1 if self._weights is None else 2)
        target = np.empty((len(rows), *self._frame, count), np.float32)
        for one, (row, kind, top, left) in zip(target, self._tiles[rows], strict=True):
            place = np.s_[top : top + self._frame[0], left : left + self._frame[1]]
            image = self._inputs.data[row].reshape(height, width, channels)
            one[..., :channels] = self._means.deviation(image[place], kind, place)
            if self._weights is not None:
                one[..., channels:] = self._weights[kind][place]
        release_pages(self._inputs.data)
        return np.ascontiguousarray(target[..., :channels]), target


class TileLoss(keras.losses.Loss):
    """The weighted mean of a pointwise loss over a tile's values, (n,), as ``ImageLoss`` is over an image's.

    In units of the loss of a residual of one ``spread`` of the channel (``Means``): 1 is what the mean alone is worth,
    and a channel that varies little counts as much as another. The Gaussian loss has no unit.
    y_true: (n, h, w, C), or with weights (n, h, w, 2 C), the values first. y_pred: (n, h, w, C), for the Gaussian loss
    (n, h, w, 2 C), the means and then the log-variances.
    """

    def __init__(self, spec: ConvSpecification, *, gaussian: bool, weighted: bool) -> None:
        """``spec`` holds the ``spread`` (C,)."""
        super().__init__(name="tile_loss")
        self._weighted, self._gaussian = weighted, gaussian
        self._pointwise = pointwise_loss(spec.loss_function, spec.huber_delta)
        self._unit = 1 / np.asarray(self._pointwise(np.array(spec.spread, np.float32)), np.float32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each tile, (n,)."""
        values, weights = ops.split(y_true, 2, axis=-1) if self._weighted else (y_true, None)
        if self._gaussian:
            mean, log_variance = ops.split(y_pred, 2, axis=-1)
            losses = gaussian_nll(values - mean, log_variance)
        else:
            losses = self._pointwise(values - y_pred) * self._unit
        return ops.mean(losses if weights is None else losses * weights, axis=(1, 2, 3))


class TileAccuracy(Accuracy):
    """The share of values reconstructed within ``ACCURACY_TOLERANCE``, on some tiles of the grid."""

    def __init__(self, predict: Any, training: Data, validation: Data | None, channels: int) -> None:
        """``predict``: the network, of tiles (n, h, w, C)."""
        self._predict, self._channels = predict, channels
        self._training, self._validation = training, validation

    def measure_epoch(self, history: History) -> None:
        """Add this epoch's accuracy to ``history``."""
        history.accuracy.append(self._share(self._training))
        if self._validation is not None:
            history.validation_accuracy.append(self._share(self._validation))

    def _share(self, data: Data) -> float:
        found = []
        for row in evenly_spaced(np.arange(len(data)), _MEASURED):
            tile, _ = data.batch(row[None])
            close = np.abs(self._predict(tile).numpy()[..., : self._channels] - tile) <= ACCURACY_TOLERANCE
            found.append(float(close.mean()))
        return float(np.mean(found))
