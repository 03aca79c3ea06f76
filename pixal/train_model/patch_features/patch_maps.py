"""The maps of models of patch features, from features and from what was learned."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.train_model.family import NOT_FITTED, Rows, check_weights, type_indices
from pixal.train_model.patch_features.extractor import FeatureExtractor, Features
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.levels import Arrays, Distances, LearnedLevel, smooth_cells, spread_out
from pixal.train_model.patch_features.options import PatchOptions, PatchSpecification
from pixal.train_model.patch_features.stored_features import StoredFeatures
from pixal.train_model.prediction import Predictor

_CHUNK_ROWS = 4  # parts whose features are in memory at a time


class PatchMaps(Predictor):
    """The largest of the distances of patch features at all levels, each in units of its ``Scale``.

    A family defines the distance of features from what was learned (``_distances``).
    """

    gives_distance = True
    is_calibrated = True
    spec: PatchSpecification
    options: PatchOptions
    _frame: Frame
    _features: FeatureExtractor | None
    _masks: NDArray[np.bool_] | None
    _learned: list[list[LearnedLevel]]  # by type and level

    @property
    def rows_are_independent(self) -> bool:
        """Whether the network is the stored one: then they are computed one by one."""
        return isinstance(self._features, StoredFeatures)

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The distance from good parts at each pixel, (n, H, W, 1); 0 outside the part and outside the crop."""
        features = self._built_features()

        def distances_of(indices: Rows, type_index: int, grids: Sequence[NDArray[np.bool_]]) -> list[Distances]:
            cells = [np.flatnonzero(grid) for grid in grids]
            distances = []
            for level, of_level in enumerate(self._features_of_rows(inputs, indices, type_index, cells)):
                learned = self._learned[type_index][level]
                values = self._distances(learned.arrays, of_level)
                distances.append(
                    learned.scale.apply(smooth_cells(values, grids[level], features.levels[level].smoothing))
                )
            return distances

        return self._maps(inputs, rows, distances_of)

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The mean feature vector over the part, of all levels, (n, D)."""
        masks, features = self._fitted_masks(), self._built_features()
        indices, types = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        vectors = np.zeros((len(indices), sum(features.depths)), np.float32)
        for position, row in enumerate(indices):
            cells = [np.flatnonzero(grid) for grid in self._grids(masks[types[row]])]
            of_levels = self._features_of_rows(inputs, np.array([row]), types[row], cells)
            if all(values.size for values in of_levels):
                vectors[position] = np.concatenate([values[0].mean(0) for values in of_levels])
        return vectors

    @abstractmethod
    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        """The distance of features (n, p, D) from what was learned, (n, p), at least 0."""

    def _load_learned(self, path: Path) -> None:
        """Load what ``fit`` learned from the features; they are known."""
        arrays = load_arrays(path)
        masks = np.asarray(arrays.pop("masks"), np.bool_)
        check_weights(path, arrays.values())
        self._masks = masks
        self._learned = [
            [
                LearnedLevel.from_stored(_arrays_of(arrays, f"_{level}_{type_index}"))
                for level in range(len(self._built_features().levels))
            ]
            for type_index in range(len(masks))
        ]
        self._check_arrays(masks)

    def _built_features(self) -> FeatureExtractor:
        """Raises ModelError if there is no backbone yet."""
        if self._features is None:
            raise ModelError(NOT_FITTED)
        return self._features

    def _fitted_masks(self) -> NDArray[np.bool_]:
        """Raises ModelError before a fit."""
        if self._masks is None:
            raise ModelError(NOT_FITTED)
        return self._masks

    def _check_arrays(self, masks: NDArray[np.bool_]) -> None:
        """Raises ValueError if the loaded arrays do not fit the specification."""
        expected = (max(1, len(self.spec.types)), *self.spec.shape[:2])
        if masks.shape != expected:
            raise ValueError(f"the masks have the shape {masks.shape} instead of {expected}")
        for mask, levels in zip(masks, self._learned, strict=True):
            for grid, learned in zip(self._grids(mask), levels, strict=True):
                scale, shape = learned.scale, (int(grid.sum()),)
                if not learned.arrays or scale.center.shape != shape or scale.spread.shape != shape:
                    raise ValueError("the arrays of a type are missing, or have another shape")
                if not (scale.unit > 0 and (scale.spread > 0).all()):
                    raise ValueError("the scale of the distances is not positive")

    def _maps(
        self,
        inputs: InputSet,
        rows: slice | Rows,
        distances_of: Callable[[Rows, int, Sequence[NDArray[np.bool_]]], list[Distances]],
    ) -> NDArray[np.float32]:
        """The largest of the distances at all levels at each pixel, (n, H, W, 1); 0 outside the part.

        Args:
            inputs: The parts.
            rows: The rows of the parts.
            distances_of: Computes the distances at each level from row indices, their type, and the cells of each grid.
        """
        masks = self._fitted_masks()
        indices, types = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        errors = np.zeros((len(indices), *inputs.shape[:2], 1), np.float32)
        for type_index, mask in enumerate(masks):
            positions, grids = np.flatnonzero(types[indices] == type_index), self._grids(mask)
            size = 1 if self.rows_are_independent else _CHUNK_ROWS
            for start in range(0, len(positions), size):
                chunk = positions[start : start + size]
                for grid, distances in zip(grids, distances_of(indices[chunk], type_index, grids), strict=True):
                    for position, values in zip(chunk, distances, strict=True):
                        image = self._smooth_map(spread_out(values, grid)) * mask
                        np.maximum(errors[position, ..., 0], image, out=errors[position, ..., 0])
        return errors

    def _grids(self, mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """The cells of each level's grid that touch the part."""
        features = self._built_features()
        return [features.part_cells(mask, level) for level in range(len(features.levels))]

    def _features_of_rows(self, inputs: InputSet, rows: Rows, type_index: int, cells: Sequence[Rows]) -> list[Features]:
        """Features (n, p, D) of rows of one type at each level."""
        features = self._built_features()
        masks = np.broadcast_to(self._fitted_masks()[type_index], (len(rows), *inputs.shape[:2]))
        return [
            np.ascontiguousarray(on_grid.reshape(len(rows), -1, on_grid.shape[-1])[:, of_level])
            for on_grid, of_level in zip(features(inputs.images(rows), masks), cells, strict=True)
        ]

    def _smooth_map(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize a map of the grid to the input's pixels, (H, W), and smooth it."""
        resized, sigma = self._frame.to_image(grid), self.options.smoothing
        if sigma:
            return np.asarray(cv2.GaussianBlur(resized, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)
        return resized


def _arrays_of(arrays: Mapping[str, NDArray[Any]], ending: str) -> Arrays:
    """The arrays whose names have this ending, by name without it."""
    return {name.removesuffix(ending): values for name, values in arrays.items() if name.endswith(ending)}
