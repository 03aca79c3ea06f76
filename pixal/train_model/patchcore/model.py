"""PatchCore: distance of a patch from the nearest good patch, at any position (Roth et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.train_model.family import Rows
from pixal.train_model.patch_features.backbones import Backbone
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.features import Features, PatchFeatures
from pixal.train_model.patch_features.patch_model import Arrays, PatchModel
from pixal.train_model.patchcore.memory import PROJECTED_DIMENSIONS, coreset, nearest_distances
from pixal.train_model.patchcore.options import PatchcoreOptions

_POOL_SIZE = 3  # a patch feature is the mean over a square of this many cells per side


class Patchcore(PatchModel):
    """The model family "patchcore"; see ``pixal.train_model.family.ModelFamily``.

    The learned array of a type is its ``memory`` of patch features, (m, D) float32.
    """

    Options = PatchcoreOptions
    options: PatchcoreOptions
    _memory_advice = "set a smaller model_options.resize, or train on fewer images"

    def _select_features(self, backbone: Backbone) -> PatchFeatures:
        first_map = 0 if self.options.layers else 1  # the paper uses layer2 and layer3
        return PatchFeatures(
            backbone,
            self._frame,
            self.spec.channels,
            maps=slice(first_map, None),
            pool_size=_POOL_SIZE,
            interpolation="bilinear",
        )

    def _learn(self, store: FeatureStore, rows: Rows, cells: Rows) -> Arrays:
        depth, count = self._built_features().depth, len(rows) * len(cells)
        size = 4.0 * count * (depth + 2 * min(PROJECTED_DIMENSIONS, depth))
        self._check_memory(f"{count} patches of {len(rows)} images", size)
        patches = store.read(rows, cells).reshape(-1, depth)
        chosen = coreset(patches, max(1, round(self.options.coreset * count)), self.spec.seed)
        return {"memory": patches[chosen]}

    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        patches = features.reshape(-1, features.shape[2])
        return nearest_distances(patches, learned["memory"]).reshape(features.shape[:2])
