"""PaDiM: mean and covariance of patch features of good parts in each cell of the grid (Defard et al. 2020)."""

from __future__ import annotations

from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pixal.errors import ConfigError
from pixal.train_model.family import Rows
from pixal.train_model.padim.distribution import distribution, mahalanobis
from pixal.train_model.padim.options import PadimOptions
from pixal.train_model.patch_features.backbones import Backbone, canonical_name
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.features import Features, PatchFeatures
from pixal.train_model.patch_features.patch_model import Arrays, PatchModel

# How many feature channels the paper keeps for each backbone (its section III and table II).
_FEATURE_COUNTS = {"wide_resnet50_2": 550, "EfficientNetB5": 200}
_DEFAULT_FEATURE_COUNT = 100
_CHUNK_CELLS = 256  # cells of the grid that are processed together


class Padim(PatchModel):
    """The model family "padim"; see ``pixal.train_model.family.ModelFamily``.

    The learned arrays of a type are the ``distribution`` in its cells.
    """

    Options = PadimOptions
    options: PadimOptions
    _memory_advice = "set fewer model_options.features, or a smaller resize"

    def _select_features(self, backbone: Backbone) -> PatchFeatures:
        total = sum(int(output.shape[-1]) for output in backbone.model.outputs)
        requested = self.options.features
        if requested is not None and requested > total:
            raise ConfigError(
                f"model_training.model_options.features: {requested} requested, but the feature maps have only "
                f"{total} channels"
            )
        count = min(requested or _FEATURE_COUNTS.get(canonical_name(backbone.name), _DEFAULT_FEATURE_COUNT), total)
        subset = np.random.default_rng(self.spec.seed).choice(total, count, replace=False)
        return PatchFeatures(backbone, self._frame, self.spec.channels, subset=np.sort(subset))

    def _learn(self, store: FeatureStore, rows: Rows, cells: Rows) -> Arrays:
        depth = self._built_features().depth
        rank = min(len(rows), depth)
        values_per_cell = depth * (1 + rank) + (rank * rank if rank < depth else 0)
        self._check_memory(f"the distribution in {len(cells)} grid cells", 4.0 * len(cells) * values_per_cell)
        # One chunk of cells after another, so that memory does not grow with the number of images.
        starts = range(0, len(cells), _CHUNK_CELLS)
        learned: Arrays = {}
        store.prepare(rows)
        with _single_blas_thread():
            for start in starts:
                chunk = cells[start : start + _CHUNK_CELLS]
                for name, values in distribution(store.read(rows, chunk), self.options.regularisation).items():
                    if name not in learned:
                        learned[name] = np.empty((len(cells), *values.shape[1:]), np.float32)
                    learned[name][start : start + len(chunk)] = values
        return learned

    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        distances = np.empty(features.shape[:2], np.float32)
        with _single_blas_thread():
            for start in range(0, features.shape[1], _CHUNK_CELLS):
                chunk = slice(start, start + _CHUNK_CELLS)
                chunk_arrays = {name: values[chunk] for name, values in learned.items()}
                distances[:, chunk] = mahalanobis(features[:, chunk], chunk_arrays, self.options.regularisation)
        return distances

    def _check_arrays(self, masks: NDArray[np.bool_]) -> None:
        super()._check_arrays(masks)
        depth = self._built_features().depth
        for mask, learned in zip(masks, self._learned, strict=True):
            expected = (int(self._built_features().part_cells(mask).sum()), depth)
            if learned["mean"].shape != expected or learned["factor"].shape[::2] != expected:
                raise ValueError(f"the mean has the shape {learned['mean'].shape} instead of {expected}")


def _single_blas_thread() -> AbstractContextManager[object]:
    """Limit BLAS to one thread. For many small products, its threads wait for each other longer than they compute."""
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits
