"""From tiles to the errors of a convolutional autoencoder, whatever computes the network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.train_model.conv_autoencoder.means import Means
from pixal.train_model.conv_autoencoder.options import ConvAutoencoderOptions, ConvSpecification, step_bytes
from pixal.train_model.conv_autoencoder.tiles import Grid
from pixal.train_model.family import NOT_FITTED, Rows
from pixal.train_model.inference.activations import bounded_log_variance
from pixal.train_model.inference.session import NETWORK_ENDING
from pixal.train_model.reconstruction import Reconstructor
from pixal.train_model.specification import ModelSpecification

Images = NDArray[np.float32]
Network = Callable[[Images], Images]
"""A network of tiles (n, h, w, C)."""

STEP_MEMORY_SHARE = 0.5  # of the memory limit, for a training step
_LATENT_CELLS = 8  # the latent vector holds means of the bottleneck in a grid of this many cells per side


class TileReconstructor(Reconstructor):
    """A convolutional autoencoder that is applied to tiles. A class defines the networks of tiles."""

    spec: ConvSpecification
    options: ConvAutoencoderOptions
    _means: Means | None

    @property
    def grid(self) -> Grid:
        """The tiles of an image."""
        height, width, _ = self.spec.shape
        return Grid(height, width, self.options.tile, self.options.overlap)

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
            self._cell_means(self._apply_to_tiles(deviation, self._encode_tiles))
            for _, deviation in self._deviations(images, labels)
        ]
        length = _LATENT_CELLS * _LATENT_CELLS * self.options.bottleneck
        return np.array(cells, np.float32).reshape(-1, length)

    @abstractmethod
    def _reconstruct_tiles(self, tiles: Images) -> Images:
        """The output of the network for tiles (n, h, w, C)."""

    @abstractmethod
    def _encode_tiles(self, tiles: Images) -> Images:
        """The output of the bottleneck for tiles (n, h, w, C)."""

    @property
    def _is_gaussian(self) -> bool:
        return self.options.output == "gaussian"

    def _bounded_log_variance(self, log_variance: Any) -> Any:
        """Limit a log-variance, see ``bounded_log_variance``."""
        return bounded_log_variance(log_variance)

    def _residual(self, images: Images, labels: Images, *, in_sigmas: bool) -> Images:
        """Input minus reconstruction, (n, D), of images (n, D) with labels (n, T); see ``residual``."""
        channels = self.spec.shape[2]
        residuals = []
        for type_index, deviation in self._deviations(images, labels):
            output = self.grid.blend(self._apply_to_tiles(deviation, self._reconstruct_tiles))
            residual = deviation - output[..., :channels]
            mask = self._fitted.masks[type_index]
            if in_sigmas:
                residual *= self._relative_precision(output[..., channels:], mask)
            residual[~mask] = 0
            residuals.append(residual.ravel())
        return np.array(residuals, np.float32).reshape(images.shape)

    def _deviations(self, images: Images, labels: Images) -> Iterator[tuple[int, Images]]:
        """Type index, and deviation from the mean (H, W, C), of each of the images (n, D) with labels (n, T)."""
        for image, type_index in zip(images.reshape(-1, *self.spec.shape), labels.argmax(1), strict=True):
            yield type_index, self._fitted.deviation(image, type_index)

    def _apply_to_tiles(self, image: Images, network: Network) -> Iterator[Images]:
        """Apply a network to each tile of an image (H, W, C), a few tiles at a time."""
        windows = self.grid.windows()
        # 0.5 GB as for a training step. Prediction needs about a tenth of that, because it keeps no gradients.
        chunk_size = max(1, int(STEP_MEMORY_SHARE * 2**30 / step_bytes(*self.grid.tile_shape, self.options.size)))
        for start in range(0, len(windows), chunk_size):
            tiles = np.stack([image[window] for window in windows[start : start + chunk_size]])
            yield from network(tiles)

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

    def _relative_precision(self, log_variance: Images, mask: NDArray[np.bool_]) -> Images:
        """Root mean square standard deviation of a channel over the part, divided by that of each value, (H, W, C)."""
        variance = np.exp(np.asarray(self._bounded_log_variance(log_variance), np.float32))
        typical = variance[mask].mean(0) if mask.any() else variance.mean((0, 1))
        return np.asarray(np.sqrt(typical / variance), np.float32)

    @property
    def _fitted(self) -> Means:
        """The mean images. Raises ModelError if the model is neither trained nor loaded."""
        if self._means is None:
            raise ModelError(NOT_FITTED)
        return self._means

    def _means_file(self, folder: Path) -> Path:
        return folder / f"{self.spec.model_name}.weights.means.npz"


def network_files(folder: Path, spec: ModelSpecification) -> list[Path]:
    """The files of the network and of its encoder."""
    return [folder / f"{spec.model_name}{part}{NETWORK_ENDING}" for part in ("", ".encoder")]


def _cell_indices(window: slice, count: int, size: int) -> NDArray[np.intp]:
    """The latent cell of each of ``count`` bottleneck pixels along a side of a tile.

    Args:
        window: The pixels of the tile, in the image.
        count: The number of bottleneck pixels along the tile.
        size: The length of the side of the image, pixels.
    """
    centres = window.start + (np.arange(count) + 0.5) * (window.stop - window.start) / count
    return np.asarray(centres * _LATENT_CELLS // size).astype(np.intp)
