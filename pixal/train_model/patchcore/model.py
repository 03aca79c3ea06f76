"""PatchCore: how far a patch is from the nearest of a memory of good ones, wherever they are (Roth et al. 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixal.train_model.family import Rows
from pixal.train_model.patch_features.backbones import Backbone
from pixal.train_model.patch_features.features import Features, FeatureStore, PatchFeatures
from pixal.train_model.patch_features.patch_model import Arrays, PatchModel
from pixal.train_model.patchcore.memory import PROJECTED, coreset, nearest_distances
from pixal.train_model.patchcore.options import PatchcoreOptions

_NEIGHBOURHOOD = 3  # places, squared, that a patch feature is the mean of


class Patchcore(PatchModel):
    """The model family "patchcore"; see ``pixal.train_model.family.ModelFamily``.

    Learned of a type: its ``memory`` (m, D) float32 of patch features.
    """

    Options = PatchcoreOptions
    options: PatchcoreOptions
    _saves_memory = "set a smaller model_options.resize, or train on fewer images"

    def _features(self, backbone: Backbone) -> PatchFeatures:
        first = 0 if self.options.layers else 1  # the paper's layer2 and layer3
        return PatchFeatures(
            backbone,
            self._frame,
            self.spec.channels,
            maps=slice(first, None),
            pool=_NEIGHBOURHOOD,
            interpolation="bilinear",
        )

    def _learn(self, store: FeatureStore, rows: Rows, places: Rows) -> Arrays:
        depth, count = self._ready().depth, len(rows) * len(places)
        size = 4.0 * count * (depth + 2 * min(PROJECTED, depth))
        self._fits(f"{count} patches of {len(rows)} images", size)
        patches = store.at(rows, places).reshape(-1, depth)
        kept = coreset(patches, max(1, round(self.options.coreset * count)), self.spec.seed)
        return {"memory": patches[kept]}

    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        flat = features.reshape(-1, features.shape[2])
        return nearest_distances(flat, learned["memory"]).reshape(features.shape[:2])
