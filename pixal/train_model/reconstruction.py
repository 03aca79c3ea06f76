"""The base class of models that reconstruct their input, whatever computes the reconstruction."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.family import Rows, type_indices
from pixal.train_model.prediction import Predictor


class Reconstructor(Predictor):
    """A model that reconstructs its input. A class defines ``residual`` and ``encode``."""

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, H, W, C), in chunks of rows."""
        indices = np.arange(len(inputs))[rows]
        labels = self._labels(inputs)
        errors = np.empty((len(indices), *inputs.shape), np.float32)
        start = 0
        for chunk in inputs.iterate_chunks(indices):
            residual = self.residual(inputs.rows(chunk), labels[chunk])
            errors[start : start + len(chunk)] = residual.reshape(-1, *inputs.shape)
            start += len(chunk)
        return errors

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The output of the encoder, (n, L), in chunks of rows."""
        indices = np.arange(len(inputs))[rows]
        labels = self._labels(inputs)
        chunks = list(inputs.iterate_chunks(indices)) or [indices]  # without rows the result is (0, L)
        return np.concatenate([self.encode(inputs.rows(chunk), labels[chunk]) for chunk in chunks])

    @abstractmethod
    def residual(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The ``error`` of images (n, D) with labels (n, T): (n, D)."""

    @abstractmethod
    def encode(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The ``latent`` of images (n, D) with labels (n, T): (n, L)."""

    @property
    def _type_count(self) -> int:
        return max(1, len(self.spec.types)) if self.spec.one_hot_encoding else 1

    def _labels(self, inputs: InputSet) -> NDArray[np.float32]:
        """One-hot labels of all parts, (N, T). Raise ModelError if the types are not those of the model."""
        return np.eye(self._type_count, dtype=np.float32)[type_indices(inputs, self.spec.types)]
