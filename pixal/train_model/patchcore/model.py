"""PatchCore: distance of a patch from the nearest good patch, at any position (Roth et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pixal.errors import ModelError
from pixal.train_model.family import Rows
from pixal.train_model.patch_features.extractor import Features
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.levels import Arrays, Distances, Level
from pixal.train_model.patch_features.patch_model import PatchModel
from pixal.train_model.patchcore.memory import PROJECTED_DIMENSIONS, coreset, nearest_distances
from pixal.train_model.patchcore.options import PatchcoreOptions
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from pixal.train_model.patch_features.backbones import Backbone
    from pixal.train_model.patch_features.features import PatchFeatures

_POOL_SIZE = 3  # a patch feature is the mean over a square of this many cells per side


class Patchcore(PatchModel):
    """The model family "patchcore"; see ``pixal.train_model.family.ModelFamily``.

    The learned array of a type is its ``memory`` of patch features, (m, D) float32.
    """

    Options = PatchcoreOptions
    options: PatchcoreOptions
    _memory_advice = "set a smaller model_options.resize, or train on fewer images"

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self._owners: Rows = np.zeros(0, np.intp)  # the position, in the last fit, of the image of each stored patch

    def _select_features(self, backbone: Backbone) -> PatchFeatures:
        from pixal.train_model.patch_features.features import PatchFeatures

        count = len(backbone.model.outputs)
        if backbone.transformer:  # AnomalyDINO (Damm et al. 2025): tokens know their neighbourhood; cosine distance
            levels = [Level(tuple(range(count)), 0)]
            return PatchFeatures(backbone, self._frame, self.spec.channels, levels, unit_length=True)
        # The paper, too, leaves out the first and the last stage. On the coarser grid of the two, a search takes a
        # quarter of the time.
        maps, grid = (tuple(range(count)), 0) if self.options.layers else _inner_maps(count)
        return PatchFeatures(
            backbone,
            self._frame,
            self.spec.channels,
            [Level(maps, grid)],
            pool_size=_POOL_SIZE,
            interpolation="bilinear",
        )

    def _learn(self, store: FeatureStore, rows: Rows, cells: Rows, level: int) -> Arrays:
        depth, count = self._built_features().depths[level], len(rows) * len(cells)
        size = 4.0 * count * (depth + 2 * min(PROJECTED_DIMENSIONS, depth))
        self._check_memory(f"{count} patches of {len(rows)} images", size)
        patches = store.read(rows, cells, level).reshape(-1, depth)
        if self.options.coreset < 1:
            chosen = coreset(patches, max(1, round(self.options.coreset * count)), self.spec.seed)
        elif count > self.options.patches:
            chosen = np.random.default_rng(self.spec.seed).choice(count, self.options.patches, replace=False)
        else:
            chosen = np.arange(count)
        self._owners = chosen // len(cells)
        return {"memory": patches[chosen]}

    def _left_out(self, store: FeatureStore, rows: Rows, cells: Rows, level: int, learned: Arrays) -> Distances:
        distances = np.empty((len(rows), len(cells)), np.float32)
        for position, row in enumerate(rows):
            others = learned["memory"][self._owners != position]
            if not len(others):
                raise ModelError(
                    "patchcore: all stored patches are of one image; set a larger model_training.model_options.coreset"
                )
            distances[position] = nearest_distances(store.read(np.array([row]), cells, level)[0], others)
        return distances

    def _distances(self, learned: Arrays, features: Features) -> Distances:
        patches = features.reshape(-1, features.shape[2])
        return nearest_distances(patches, learned["memory"]).reshape(features.shape[:2])


def _inner_maps(count: int) -> tuple[tuple[int, ...], int]:
    """The second and third of ``count`` feature maps, as far as there are, and the last of these."""
    maps = tuple(range(count))[1:3] or (0,)
    return maps, maps[-1]
