"""PaDiM: at each place the mean and covariance of patch features of good parts (Defard et al. 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pixal.errors import ConfigError
from pixal.train_model.family import Rows
from pixal.train_model.padim.distribution import distribution, mahalanobis
from pixal.train_model.padim.options import PadimOptions
from pixal.train_model.patch_features.backbones import Backbone, canonical
from pixal.train_model.patch_features.features import Features, FeatureStore, PatchFeatures
from pixal.train_model.patch_features.patch_model import Arrays, PatchModel

# How many channels the paper keeps of each backbone's (its section III and table II).
_FEATURES = {"wide_resnet50_2": 550, "EfficientNetB5": 200}
_FEW = 100
_PLACES = 256  # of the grid, that are worked on at a time


class Padim(PatchModel):
    """The model family "padim"; see ``pixal.train_model.family.ModelFamily``.

    Learned of a type is the ``distribution`` at its places, float32.
    """

    Options = PadimOptions
    options: PadimOptions
    _saves_memory = "set fewer model_options.features, or a smaller resize"

    def _features(self, backbone: Backbone) -> PatchFeatures:
        total = sum(int(one.shape[-1]) for one in backbone.model.outputs)
        wanted = self.options.features
        if wanted is not None and wanted > total:
            raise ConfigError(
                f"model_training.model_options.features: {wanted} are wanted, but the maps have {total} channels"
            )
        kept = min(wanted or _FEATURES.get(canonical(backbone.name), _FEW), total)
        drawn = np.random.default_rng(self.spec.seed).choice(total, kept, replace=False)
        return PatchFeatures(backbone, self._frame, self.spec.channels, subset=np.sort(drawn))

    def _learn(self, store: FeatureStore, rows: Rows, places: Rows) -> Arrays:
        depth = self._ready().depth
        rank = min(len(rows), depth)
        numbers = depth * (1 + rank) + (rank * rank if rank < depth else 0)
        self._fits(f"the distribution at {len(places)} places", 4.0 * len(places) * numbers)
        # A block of places after the other: memory does not grow with the images.
        blocks = [places[start : start + _PLACES] for start in range(0, len(places), _PLACES)] or [places]
        found: Arrays = {}
        store.prepare(rows)
        with _one_thread():
            for number, block in enumerate(blocks):
                for name, values in distribution(store.at(rows, block), self.options.regularisation).items():
                    if name not in found:
                        found[name] = np.empty((len(places), *values.shape[1:]), np.float32)
                    found[name][number * _PLACES : number * _PLACES + len(block)] = values
        return found

    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        found = np.empty(features.shape[:2], np.float32)
        with _one_thread():
            for start in range(0, features.shape[1], _PLACES):
                part = slice(start, start + _PLACES)
                block = {name: values[part] for name, values in learned.items()}
                found[:, part] = mahalanobis(features[:, part], block, self.options.regularisation)
        return found

    def _check(self, masks: NDArray[np.bool_]) -> None:
        super()._check(masks)
        for mask, learned in zip(masks, self._learned, strict=True):
            places, depth = int(self._ready().cells(mask).sum()), self._ready().depth
            if learned["mean"].shape != (places, depth) or learned["factor"].shape[::2] != (places, depth):
                raise ValueError(f"a mean of shape {learned['mean'].shape} where {(places, depth)} is expected")


def _one_thread() -> Any:
    """Many small products on one thread each: BLAS's threads wait for one another longer than they work."""
    return threadpool_limits(1, user_api="blas")
