"""The Gaussian model: mean and covariance of the channels at each pixel, in closed form, without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.train_model.family import (
    NO_CONTROL,
    NOT_FITTED,
    AnomalyModel,
    FitControl,
    Rows,
    check_finite,
    check_weights,
    type_indices,
)
from pixal.train_model.gaussian.whitening import moments, whitening
from pixal.train_model.history import History
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self

_OPENCV_CHANNELS = 4  # ``cv2.resize`` takes no more at a time
_LATENT_CELLS = 8  # the latent vector holds mean deviations in a grid of this many cells per side


class Gaussian(AnomalyModel):
    """The model family "gaussian": one mean and one covariance per pixel and type.

    See ``pixal.train_model.family.ModelFamily``.

    Attributes:
        mean: (T, H, W, C) float32; None before a fit.
        whitening: (T, H, W, C, C) float32, the matrix that multiplies a deviation from the mean; 0 outside the part;
            None before a fit.
    """

    folds_are_cheap = True

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; see ``ModelFamily``."""
        super().__init__(specification)
        self.mean: NDArray[np.float32] | None = None
        self.whitening: NDArray[np.float32] | None = None

    @property
    def rows_are_independent(self) -> bool:
        """Yes: they are multiplied one by one."""
        return True

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts in one pass, without epochs; see ``ModelFamily.fit``."""
        types = type_indices(inputs, self.spec.types)
        means, matrices = [], []
        for type_index, mask in enumerate(masks):
            type_rows = rows[types[rows] == type_index]
            mean, covariance = moments(inputs, type_rows)
            means.append(mean.transpose(1, 2, 0))
            matrices.append(whitening(covariance, mask, len(type_rows)))
        self.mean = np.ascontiguousarray(np.stack(means))
        self.whitening = np.ascontiguousarray(np.stack(matrices))
        return History()

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Deviations from the mean, (n, H, W, C), multiplied by ``whitening``."""
        _, matrices = self._fitted()
        deviations = self._deviations(inputs, rows)
        for deviation, type_index in zip(deviations, type_indices(inputs, self.spec.types)[rows], strict=True):
            deviation[...] = np.matmul(matrices[type_index], deviation[..., None])[..., 0]
        return deviations

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Mean deviations of each channel in 8x8 cells of the image, (n, 64 C).

        They show differences in light and pose, and large defects.
        """
        _, matrices = self._fitted()
        types = type_indices(inputs, self.spec.types)
        vectors = []
        for row in np.arange(len(inputs))[rows]:
            deviation = self._deviations(inputs, np.array([row]))[0]
            deviation *= matrices[types[row], ..., :1, 0] != 0  # set to 0 outside the part
            vectors.append(_mean_cells(deviation).ravel())
        return np.array(vectors, np.float32).reshape(-1, _LATENT_CELLS * _LATENT_CELLS * inputs.shape[2])

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.weights.npz``. The same model gives the same bytes."""
        mean, matrices = self._fitted()
        save_arrays(self._weights_file(folder), mean=mean, whitening=matrices)
        return [self._weights_file(folder)]

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model; see ``ModelFamily.load``."""
        model = cls(specification)
        path = model._weights_file(folder)
        try:
            arrays = load_arrays(path)
            model.mean, model.whitening = arrays["mean"], arrays["whitening"]
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run train again") from error
        types, shape = max(1, len(model.spec.types)), model.spec.shape
        if model.mean.shape != (types, *shape) or model.whitening.shape != (types, *shape, shape[-1]):
            raise ModelError(f"{path} does not match this model: its shape is {model.mean.shape}; run train again")
        check_weights(path, [model.whitening])
        check_finite(path, model.mean)  # 0 for black parts
        return model

    def _weights_file(self, folder: Path) -> Path:
        return folder / f"{self.spec.model_name}.weights.npz"

    def _fitted(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``mean`` and ``whitening``. Raises ModelError before a fit."""
        if self.mean is None or self.whitening is None:
            raise ModelError(NOT_FITTED)
        return self.mean, self.whitening

    def _deviations(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Image minus mean, (n, H, W, C)."""
        mean, _ = self._fitted()
        images = inputs.images(rows)
        for image, type_index in zip(images, type_indices(inputs, self.spec.types)[rows], strict=True):
            image -= mean[type_index]
        return images


def _mean_cells(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each channel of an image (H, W, C) in 8x8 cells, (8, 8, C)."""
    size = (_LATENT_CELLS, _LATENT_CELLS)
    groups = [image[..., first : first + _OPENCV_CHANNELS] for first in range(0, image.shape[2], _OPENCV_CHANNELS)]
    cells = [cv2.resize(group, size, interpolation=cv2.INTER_AREA).reshape(*size, -1) for group in groups]
    return np.concatenate(cells, axis=-1)
