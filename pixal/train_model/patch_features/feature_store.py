"""Stores the patch features of an ``InputSet``, so that several fits compute them only once."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.io.arrays import release_pages
from pixal.io.files import reporting_storage, reserve_file
from pixal.train_model.family import Rows
from pixal.train_model.patch_features.extractor import FeatureExtractor, Features

_log = logging.getLogger(__name__)

_MEMORY_SHARE = 0.25  # of the memory limit; a larger store is a file


class FeatureStore:
    """The features of the rows of an ``InputSet``. Each row is computed when it is first requested, and kept.

    Attributes:
        inputs: The inputs.
        masks: The consensus mask of each type, (T, H, W).
    """

    def __init__(
        self,
        features: FeatureExtractor,
        inputs: InputSet,
        masks: NDArray[np.bool_],
        type_indices: Rows,
        *,
        flips: NDArray[np.bool_] | None,
        memory_limit: float,
    ) -> None:
        """Allocate memory, or a temporary file if the features take more than a share of ``memory_limit``.

        Args:
            features: Computes the features.
            inputs: All parts.
            masks: The consensus mask of each type, (T, H, W).
            type_indices: The index of the type of each row, (N,).
            flips: Which rows are mirrored, (N, 2); see ``FeatureExtractor``.
            memory_limit: GB.
        """
        self.inputs, self.masks = inputs, masks
        self._features, self._type_indices, self._flips = features, type_indices, flips
        self._depths = features.depths
        sizes = [height * width * depth for (height, width), depth in zip(features.grids, self._depths, strict=True)]
        self._ends = np.cumsum(sizes)
        shape = (len(inputs), int(self._ends[-1]))
        size = 4 * int(np.prod(shape))
        self._is_computed = np.zeros(len(inputs), bool)
        self._data: NDArray[np.float32]
        in_memory = size <= _MEMORY_SHARE * memory_limit * 1e9
        location = "in memory" if in_memory else f"in a temporary file in {tempfile.gettempdir()}"
        level = logging.DEBUG if in_memory else logging.INFO
        _log.log(level, "features of %d images: %.2f GB %s", len(inputs), size / 1e9, location)
        if in_memory:
            self._data = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile() as file:  # the memory map keeps the file open, and deletes it at its end
                with reporting_storage(Path(tempfile.gettempdir())):
                    reserve_file(file, size)
                self._data = np.memmap(file, np.float32, "r+", shape=shape)

    def prepare(self, rows: Rows) -> None:
        """Compute the features of those ``rows`` that are not computed yet."""
        for row in rows[~self._is_computed[rows]]:
            index = np.array([row])
            flips = None if self._flips is None else self._flips[index]
            features = self._features(self.inputs.images(index), self.masks[self._type_indices[index]], flips)
            self._data[row] = np.concatenate([of_level.ravel() for of_level in features])
            self._is_computed[row] = True
            release_pages(self._data)

    def read(self, rows: Rows, cells: Rows, level: int = 0) -> Features:
        """Return the features (n, p, D) of ``rows`` in ``cells``, which are flat indices into the grid of a level."""
        self.prepare(rows)
        depth, end = self._depths[level], int(self._ends[level])
        start = int(self._ends[level - 1]) if level else 0
        features = np.empty((len(rows), len(cells), depth), np.float32)
        for index, row in enumerate(rows):
            features[index] = self._data[row, start:end].reshape(-1, depth)[cells]
        release_pages(self._data)
        return features
