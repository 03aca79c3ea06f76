"""PatchCore: how far a patch is from the nearest of a memory of good ones, wherever they are (Roth et al. 2022)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.random_projection import SparseRandomProjection

from pixal.train_model.family import Rows
from pixal.train_model.patch_features.backbones import Backbone
from pixal.train_model.patch_features.features import Features, FeatureStore, PatchFeatures
from pixal.train_model.patch_features.patch_model import Arrays, PatchModel, PatchOptions

_NEIGHBOURHOOD = 3  # places, squared, that a patch feature is the mean of
_PROJECTED = 128  # dimensions in which the coreset is chosen


class PatchcoreOptions(PatchOptions):
    """What ``model_training.model_options`` may hold. coreset: the share of all good patches that are remembered."""

    coreset: Annotated[float, Field(gt=0, le=1)] = 1.0


class Patchcore(PatchModel):
    """The model family "patchcore"; see ``pixal.train_model.family.ModelFamily``.

    Learned of a type: its ``memory`` (m, D) float32 of patch features.
    """

    Options: ClassVar[type[BaseModel]] = PatchcoreOptions
    _saves_memory = "set a smaller model_options.resize, or train on fewer images"

    def _features(self, backbone: Backbone) -> PatchFeatures:
        first = 0 if self._options["layers"] else 1  # the paper's layer2 and layer3
        return PatchFeatures(
            backbone,
            self._frame,
            self.params["channels"],
            maps=slice(first, None),
            pool=_NEIGHBOURHOOD,
            interpolation="bilinear",
        )

    def _learn(self, store: FeatureStore, rows: Rows, places: Rows) -> Arrays:
        depth, count = self._ready().depth, len(rows) * len(places)
        size = 4.0 * count * (depth + 2 * min(_PROJECTED, depth))
        self._fits(f"{count} patches of {len(rows)} images", size)
        patches = store.at(rows, places).reshape(-1, depth)
        kept = coreset(patches, max(1, round(self._options["coreset"] * count)), int(self.params["seed"]))
        return {"memory": patches[kept]}

    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        flat = features.reshape(-1, features.shape[2])
        return nearest_distances(flat, learned["memory"]).reshape(features.shape[:2])


def nearest_distances(patches: NDArray[np.float32], memory: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distance (n,) of each of ``patches`` (n, D) from its nearest neighbour in ``memory`` (m, D)."""
    if not len(patches):
        return np.zeros(0, np.float32)
    return np.asarray(pairwise_distances_argmin_min(patches, memory)[1], np.float32)


def coreset(patches: NDArray[np.float32], count: int, seed: int) -> Rows:
    """The numbers of ``count`` patches (N, D) that leave none far from the nearest of them; in the order of choice.

    Greedy k-centre (Sener and Savarese 2018): each next one is that which is farthest from those chosen; the first is
    that which is farthest from the mean. Distances are of a sparse random projection (Li, Hastie and Church 2006).
    """
    if count >= len(patches):
        return np.arange(len(patches))
    if patches.shape[1] > _PROJECTED:
        projection = SparseRandomProjection(_PROJECTED, random_state=seed)
        patches = np.asarray(projection.fit_transform(patches), np.float32)
    return farthest_first(patches, count)


def farthest_first(points: NDArray[np.float32], count: int) -> Rows:
    """The numbers (count,) of ``points`` (N, d), each farthest from those before it, the first from the mean."""
    points = points - points.mean(0)
    squares = np.einsum("nd,nd->n", points, points)
    chosen = np.empty(count, np.intp)
    nearest = squares
    for number in range(count):
        latest = chosen[number] = int(nearest.argmax())
        distances = points @ (-2 * points[latest])
        distances += squares
        distances += squares[latest]
        nearest = np.minimum(nearest, distances) if number else distances
        nearest[latest] = -1  # of points that are all alike, none is taken twice
    return chosen
