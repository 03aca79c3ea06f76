"""The Gaussian model: mean and covariance of the channels at each pixel, in closed form, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.calibration.spread import error_variance
from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.train_model.family import NOT_FITTED, History, ModelFamily, Rows, type_numbers

Planes = NDArray[np.float32]

_NEIGHBOURS = 4.0  # sigma, input pixels, of the neighbourhood whose covariance stands in for a pixel's
_CELLS = 8  # latent: mean deviations in this many by as many cells
_STRIP = 32  # lines of pixels whose matrices are worked on at a time


class Gaussian(ModelFamily):
    """The model family "gaussian"; see ``pixal.train_model.family.ModelFamily``.

    One mean and covariance a pixel and type. ``mean`` (T, H, W, C) float32; ``whitening`` (T, H, W, C, C) float32: what
    a deviation from the mean is multiplied by, 0 beside the part.
    """

    folds_are_cheap = True

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = dict(params)
        self.mean: NDArray[np.float32] | None = None
        self.whitening: NDArray[np.float32] | None = None

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], **_: Any) -> History:
        """Learn good parts in one pass over ``inputs[rows]``; see ``ModelFamily.fit``. There are no epochs."""
        of_row = type_numbers(inputs, self.params)
        found = []
        for index, mask in enumerate(masks):
            own = rows[of_row[rows] == index]
            mean, covariance = moments(inputs, own)
            found.append((mean.transpose(1, 2, 0), whitening(covariance, mask, len(own))))
        self.mean, self.whitening = (np.ascontiguousarray(np.stack(part)) for part in zip(*found, strict=True))
        return History()

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Deviations from the mean, (n, H, W, C), without what goes together in good parts: see ``whitening``."""
        _, matrices = self._fitted()
        found = self._deviations(inputs, rows)
        for part, index in zip(found, type_numbers(inputs, self.params)[rows], strict=True):
            part[...] = np.matmul(matrices[index], part[..., None])[..., 0]
        return found

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Mean deviations of each channel in 8x8 cells of the image, (n, 64 C): light, pose and large defects."""
        _, matrices = self._fitted()
        cells = []
        for row in np.arange(len(inputs))[rows]:
            deviation = self._deviations(inputs, np.array([row]))[0]
            deviation *= matrices[type_numbers(inputs, self.params)[row], ..., :1, 0] != 0  # beside the part
            cells.append(cv2.resize(deviation, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel())
        return np.array(cells, np.float32).reshape(-1, _CELLS * _CELLS * inputs.shape[2])

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.weights.npz``; the same model gives the same bytes."""
        mean, matrices = self._fitted()
        save_arrays(self._file(folder, self.params), mean=mean, whitening=matrices)
        return [self._file(folder, self.params)]

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Gaussian:
        """Rebuild a saved model. Raises ModelError when its file is missing, damaged or does not match."""
        found, path = cls(params), cls._file(folder, params)
        try:
            arrays = load_arrays(path)
            found.mean, found.whitening = arrays["mean"], arrays["whitening"]
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run train again") from error
        types, shape = max(1, len(params["types"])), tuple(params["shape"])
        if found.mean.shape != (types, *shape) or found.whitening.shape != (types, *shape, shape[-1]):
            raise ModelError(f"{path} does not match this model: it is of shape {found.mean.shape}; run train again")
        return found

    @staticmethod
    def _file(folder: Path, params: Mapping[str, Any]) -> Path:
        return folder / f"{params['model_name']}.weights.npz"

    def _fitted(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.mean is None or self.whitening is None:
            raise ModelError(NOT_FITTED)
        return self.mean, self.whitening

    def _deviations(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        mean, _ = self._fitted()
        found = inputs.images(rows)
        for part, index in zip(found, type_numbers(inputs, self.params)[rows], strict=True):
            part -= mean[index]
        return found


def moments(inputs: InputSet, rows: Rows) -> tuple[Planes, Planes]:
    """Mean (C, H, W), and covariance (C (C + 1) / 2, H, W) of the channels, at each pixel of ``inputs[rows]``.

    The pairs of channels are in the order of ``numpy.triu_indices``. One pass, an image in memory at a time (Welford
    1962). Of a single image the covariance is 0.
    """
    height, width, channels = inputs.shape
    first, second = np.triu_indices(channels)
    mean = np.zeros((channels, height, width), np.float32)
    products = np.zeros((len(first), height, width), np.float32)
    for seen, row in enumerate(rows):
        deviation = np.ascontiguousarray(inputs.images(np.array([row]))[0].transpose(2, 0, 1)) - mean
        mean += deviation * np.float32(1 / (seen + 1))
        scaled = deviation * np.float32(seen / (seen + 1))
        for pair in range(len(first)):
            products[pair] += scaled[first[pair]] * deviation[second[pair]]
    return mean, products / np.float32(max(1, len(rows) - 1))


def whitening(covariance: Planes, mask: NDArray[np.bool_], count: int) -> NDArray[np.float32]:
    """The matrix (H, W, C, C) that takes from a deviation what the channels have in common; 0 beside the part.

    S^(1/2) R^(-1/2) S^(-1/2), R being the channels' correlation and S their variances: ZCA-cor whitening (Kessy, Lewin
    and Strimmer 2018), of all the one whose values stay nearest to their channels, brought back to the channels' units.
    Over the calibrated spread of its channels the sum of squares is the squared Mahalanobis distance.

    ``covariance``: of ``count`` images, as from ``moments``. S is the largest near the pixel, as in the calibration.
    """
    near = np.stack([_neighbours(plane, mask) for plane in covariance])
    packed = shrunk_correlation(_correlation(covariance), _correlation(near), mask, count)
    first, second = _pairs(covariance)
    spread = np.sqrt(error_variance(np.moveaxis(covariance[first == second], 0, -1), mask))
    channels = spread.shape[-1]
    found = np.zeros((*mask.shape, channels, channels), np.float32)
    for start in range(0, len(mask), _STRIP):
        lines = np.s_[start : start + _STRIP]
        full = np.empty((*mask[lines].shape, channels, channels), np.float32)
        full[..., first, second] = full[..., second, first] = np.moveaxis(packed[:, lines], 0, -1)
        values, vectors = np.linalg.eigh(full)
        root = np.matmul(vectors * values[..., None, :] ** -0.5, np.swapaxes(vectors, -1, -2))
        in_units = root * spread[lines, :, :, None] / spread[lines, :, None, :]
        found[lines] = in_units * mask[lines][..., None, None]
    return found


def shrunk_correlation(own: Planes, near: Planes, mask: NDArray[np.bool_], count: int) -> Planes:
    """A pixel's correlations between its ``own`` of ``count`` images and those ``near`` it, (C (C + 1) / 2, H, W).

    As near to the latter as chance alone would scatter the former around them: the optimal intensity of Ledoit and
    Wolf (2003), with (1 - r²)² / (count - 1), the variance of a sample correlation, for the chance, and both of its
    sums taken over the neighbourhood. Then by 1 / ``count`` towards none: of one image there is none to be known.
    """
    first, second = _pairs(own)
    off = first != second
    chance = np.sum((1 - near[off] ** 2) ** 2, axis=0) / max(1, count - 1)
    apart = np.sum((own[off] - near[off]) ** 2, axis=0)
    share = np.clip(_neighbours(chance, mask) / np.maximum(_neighbours(apart, mask), 1e-12), 0, 1)
    found = (own + share * (near - own)) * np.float32(1 - 1 / count)
    found[~off] = 1
    return np.asarray(found, np.float32)


def _pairs(planes: Planes) -> tuple[Rows, Rows]:
    """The channels of each plane of a packed matrix."""
    return np.triu_indices(int((np.sqrt(8 * len(planes) + 1) - 1) / 2))


def _correlation(covariance: Planes) -> Planes:
    """Correlations of the channels in the place of their covariances; 0 where one does not vary."""
    first, second = _pairs(covariance)
    spread = np.sqrt(covariance[first == second])
    product = spread[first] * spread[second]
    found = np.divide(covariance, product, out=np.zeros_like(covariance), where=product > 1e-12)
    return np.asarray(np.clip(found, -1, 1), np.float32)


def _neighbours(plane: Planes, mask: NDArray[np.bool_]) -> Planes:
    """The mean of (H, W) over a Gaussian neighbourhood, of the part's pixels alone."""
    inside = mask.astype(np.float32)
    return np.asarray(_blur(plane * inside) / np.maximum(_blur(inside), 1e-6), np.float32)


def _blur(plane: Planes) -> Planes:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), _NEIGHBOURS, borderType=cv2.BORDER_CONSTANT), np.float32)
