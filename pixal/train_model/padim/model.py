"""PaDiM: mean and covariance of patch features of good parts in each cell of the grid (Defard et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pixal.errors import ConfigError
from pixal.train_model.family import Rows
from pixal.train_model.padim.distribution import distribution, left_out_distances, mahalanobis
from pixal.train_model.padim.options import PadimOptions
from pixal.train_model.patch_features.extractor import Features
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.levels import LEVEL_NAMES, Arrays, Distances, Level, default_levels
from pixal.train_model.patch_features.patch_model import PatchModel

if TYPE_CHECKING:
    from pixal.train_model.patch_features.backbones import Backbone
    from pixal.train_model.patch_features.features import PatchFeatures

_MIN_VARIANCE = 1e-6  # added where good parts do not differ at all
_CHUNK_CELLS = 256  # cells of the grid that are processed together


class Padim(PatchModel):
    """The model family "padim"; see ``pixal.train_model.family.ModelFamily``.

    The learned arrays of a level are the ``distribution`` in its cells.
    """

    Options = PadimOptions
    options: PadimOptions
    _memory_advice = "set fewer model_options.features, or a smaller resize"

    def _layers(self) -> list[str] | None:
        from pixal.train_model.patch_features.backbones import transformer

        architecture = transformer(self.options.backbone)
        return [architecture.middle_layer] if architecture and not self.options.layers else self.options.layers

    def _select_features(self, backbone: Backbone) -> PatchFeatures:
        from pixal.train_model.patch_features.features import PatchFeatures

        options, count = self.options, len(backbone.model.outputs)
        if backbone.transformer and options.levels:
            raise ConfigError(
                f"model_training.model_options.levels: {backbone.name} has one level; remove levels, or set layers"
            )
        levels = default_levels(count)
        if options.layers:
            levels = [Level(tuple(range(count)), 0)]
        elif options.levels:
            levels = [level for name, level in zip(LEVEL_NAMES, levels, strict=False) if name in options.levels]
        patches = PatchFeatures(
            backbone, self._frame, self.spec.channels, levels, count=options.features, seed=self.spec.seed
        )
        if options.features is not None and options.features > max(patches.depths):
            raise ConfigError(
                f"model_training.model_options.features: {options.features} requested, but the feature maps have only "
                f"{max(patches.depths)} channels"
            )
        return patches

    def _learn(self, store: FeatureStore, rows: Rows, cells: Rows, level: int) -> Arrays:
        depth = self._built_features().depths[level]
        rank = min(len(rows), depth)
        values_per_cell = depth * (1 + rank) + (rank * rank if rank < depth else 0)
        self._check_memory(f"the distribution in {len(cells)} grid cells", 4.0 * len(cells) * values_per_cell)
        added = self._added_variance(store, rows, cells, level)
        learned: Arrays = {}
        with _single_blas_thread():
            for chunk in _chunks(len(cells)):
                for name, values in distribution(store.read(rows, cells[chunk], level), added[chunk]).items():
                    if name not in learned:
                        learned[name] = np.empty((len(cells), *values.shape[1:]), np.float32)
                    learned[name][chunk] = values
        return learned

    def _left_out(self, store: FeatureStore, rows: Rows, cells: Rows, level: int, learned: Arrays) -> Distances:
        distances = np.empty((len(rows), len(cells)), np.float32)
        with _single_blas_thread():
            for chunk in _chunks(len(cells)):
                distances[:, chunk] = left_out_distances(store.read(rows, cells[chunk], level), learned["added"][chunk])
        return distances

    def _distances(self, learned: Arrays, features: Features) -> Distances:
        distances = np.empty(features.shape[:2], np.float32)
        with _single_blas_thread():
            for chunk in _chunks(features.shape[1]):
                chunk_arrays = {name: values[chunk] for name, values in learned.items()}
                distances[:, chunk] = mahalanobis(features[:, chunk], chunk_arrays)
        return distances

    def _added_variance(self, store: FeatureStore, rows: Rows, cells: Rows, level: int) -> NDArray[np.float32]:
        """What is added to each variance of a cell, (p,): a fraction of the cell's variance, or of the mean over cells.

        The larger of the two, so that where good parts differ (a serial number), a character that no other part has is
        not as far from them as a defect elsewhere. Of a single image, the variance over its cells stands for that over
        parts.
        """
        if len(rows) == 1:
            variances = np.full(len(cells), store.read(rows, cells, level)[0].var(0, dtype=np.float64).mean())
        else:
            chunks = (store.read(rows, cells[chunk], level) for chunk in _chunks(len(cells)))
            variances = np.concatenate([features.var(0, dtype=np.float64, ddof=1).mean(1) for features in chunks])
        variances = np.maximum(variances, variances.mean())
        added = self.options.shrinkage * variances + self.options.regularisation
        return np.asarray(np.maximum(added, _MIN_VARIANCE), np.float32)

    def _check_arrays(self, masks: NDArray[np.bool_]) -> None:
        super()._check_arrays(masks)
        features = self._built_features()
        for mask, learned in zip(masks, self._learned, strict=True):
            for level, arrays in enumerate(of_level.arrays for of_level in learned):
                expected = (int(features.part_cells(mask, level).sum()), features.depths[level])
                if arrays["mean"].shape != expected or arrays["factor"].shape[::2] != expected:
                    raise ValueError(f"the mean has the shape {arrays['mean'].shape} instead of {expected}")
                if arrays["added"].shape != expected[:1] or not (arrays["added"] > 0).all():
                    raise ValueError("the added variance is not positive")


def _chunks(cells: int) -> Iterator[slice]:
    """Slices of a number of cells, so that memory does not grow with the number of images."""
    for start in range(0, cells, _CHUNK_CELLS):
        yield slice(start, start + _CHUNK_CELLS)


def _single_blas_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread. For many small products, its threads wait for each other longer than they compute."""
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
