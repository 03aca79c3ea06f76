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
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, AnomalyModel, FitControl, Rows, type_indices
from pixal.train_model.gaussian.whitening import moments, whitening
from pixal.train_model.history import History
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self

_CELLS = 8  # latent: mean deviations in this many by as many cells


class Gaussian(AnomalyModel):
    """The model family "gaussian"; see ``pixal.train_model.family.ModelFamily``.

    One mean and covariance a pixel and type. ``mean`` (T, H, W, C) float32; ``whitening`` (T, H, W, C, C) float32: what
    a deviation from the mean is multiplied by, 0 beside the part.
    """

    folds_are_cheap = True

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        super().__init__(specification)
        self.mean: NDArray[np.float32] | None = None
        self.whitening: NDArray[np.float32] | None = None

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts in one pass over ``inputs[rows]``; see ``ModelFamily.fit``. There are no epochs."""
        of_row = type_indices(inputs, self.spec.types)
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
        for part, index in zip(found, type_indices(inputs, self.spec.types)[rows], strict=True):
            part[...] = np.matmul(matrices[index], part[..., None])[..., 0]
        return found

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Mean deviations of each channel in 8x8 cells of the image, (n, 64 C): light, pose and large defects."""
        _, matrices = self._fitted()
        cells = []
        for row in np.arange(len(inputs))[rows]:
            deviation = self._deviations(inputs, np.array([row]))[0]
            deviation *= matrices[type_indices(inputs, self.spec.types)[row], ..., :1, 0] != 0  # beside the part
            cells.append(cv2.resize(deviation, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA).ravel())
        return np.array(cells, np.float32).reshape(-1, _CELLS * _CELLS * inputs.shape[2])

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.weights.npz``; the same model gives the same bytes."""
        mean, matrices = self._fitted()
        save_arrays(self._file(folder), mean=mean, whitening=matrices)
        return [self._file(folder)]

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model. Raises ModelError when its file is missing, damaged or does not match."""
        found = cls(specification)
        path = found._file(folder)
        try:
            arrays = load_arrays(path)
            found.mean, found.whitening = arrays["mean"], arrays["whitening"]
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run train again") from error
        types, shape = max(1, len(found.spec.types)), found.spec.shape
        if found.mean.shape != (types, *shape) or found.whitening.shape != (types, *shape, shape[-1]):
            raise ModelError(f"{path} does not match this model: it is of shape {found.mean.shape}; run train again")
        return found

    def _file(self, folder: Path) -> Path:
        return folder / f"{self.spec.model_name}.weights.npz"

    def _fitted(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.mean is None or self.whitening is None:
            raise ModelError(NOT_FITTED)
        return self.mean, self.whitening

    def _deviations(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        mean, _ = self._fitted()
        found = inputs.images(rows)
        for part, index in zip(found, type_indices(inputs, self.spec.types)[rows], strict=True):
            part -= mean[index]
        return found
