"""PaDiM: at each place the mean and covariance of patch features of good parts (Defard et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from threadpoolctl import threadpool_limits

from pixal.config.section import Count, Positive
from pixal.errors import ConfigError
from pixal.train_model.family import Rows
from pixal.train_model.patch_features.backbones import Backbone, canonical
from pixal.train_model.patch_features.features import Features, FeatureStore, PatchFeatures
from pixal.train_model.patch_features.patch_model import Arrays, PatchModel, PatchOptions

# How many channels the paper keeps of each backbone's (its section III and table II).
_FEATURES = {"wide_resnet50_2": 550, "EfficientNetB5": 200}
_FEW = 100
_PLACES = 256  # of the grid, that are worked on at a time


class PadimOptions(PatchOptions):
    """What ``model_training.model_options`` may hold.

    features: how many of the maps' channels are kept, drawn by ``seed``; None: the paper's number for the backbone, 100
    for others. regularisation: what is added to each variance.
    """

    features: Count | None = None
    regularisation: Positive = 0.01


class Padim(PatchModel):
    """The model family "padim"; see ``pixal.train_model.family.ModelFamily``.

    Learned of a type is the ``distribution`` at its places, float32.
    """

    Options: ClassVar[type[BaseModel]] = PadimOptions
    _saves_memory = "set fewer model_options.features, or a smaller resize"

    def _features(self, backbone: Backbone) -> PatchFeatures:
        total = sum(int(one.shape[-1]) for one in backbone.model.outputs)
        wanted = self._options["features"]
        if wanted is not None and wanted > total:
            raise ConfigError(
                f"model_training.model_options.features: {wanted} are wanted, but the maps have {total} channels"
            )
        kept = min(wanted or _FEATURES.get(canonical(backbone.name), _FEW), total)
        drawn = np.random.default_rng(self.params["seed"]).choice(total, kept, replace=False)
        return PatchFeatures(backbone, self._frame, self.params["channels"], subset=np.sort(drawn))

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
                for name, values in distribution(store.at(rows, block), self._options["regularisation"]).items():
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
                found[:, part] = mahalanobis(features[:, part], block, self._options["regularisation"])
        return found

    def _check(self, masks: NDArray[np.bool_]) -> None:
        super()._check(masks)
        for mask, learned in zip(masks, self._learned, strict=True):
            places, depth = int(self._ready().cells(mask).sum()), self._ready().depth
            if learned["mean"].shape != (places, depth) or learned["factor"].shape[::2] != (places, depth):
                raise ValueError(f"a mean of shape {learned['mean'].shape} where {(places, depth)} is expected")


def distribution(features: Features, regularisation: float) -> Arrays:
    """The ``mean`` (p, D) and factors of the inverse covariance of features (n, p, D) at each of p places.

    The covariance is S = X^T X / (n - 1) + e I, X being the n deviations from the mean, e the ``regularisation``
    (Defard et al. 2020, equation 1). With no fewer images than features, ``factor`` (p, D, D) is L^-1, L L^T = S. With
    fewer, ``factor`` (p, n, D) is F = M^-1 X, M M^T = X X^T + (n - 1) e I, and ``remainder`` (p, n, n) is M^-T times
    sqrt((n - 1) e): S^-1 = (I - F^T F) / e by Woodbury's identity, in less memory and no less exact.
    """
    count, _, depth = features.shape
    deviations = np.ascontiguousarray(features.transpose(1, 0, 2), np.float64)
    mean = deviations.mean(1)
    deviations -= mean[:, None]
    freedom = max(1, count - 1)
    found: Arrays = {"mean": mean.astype(np.float32)}
    if count < depth:
        inverse = _inverse_factor(deviations @ deviations.swapaxes(1, 2), freedom * regularisation)
        found["factor"] = np.asarray(inverse @ deviations, np.float32)
        found["remainder"] = np.asarray(inverse.swapaxes(1, 2) * np.sqrt(freedom * regularisation), np.float32)
    else:
        covariance = deviations.swapaxes(1, 2) @ deviations / freedom
        found["factor"] = _inverse_factor(covariance, regularisation).astype(np.float32)
    return found


def mahalanobis(features: Features, found: Arrays, regularisation: float) -> NDArray[np.float32]:
    """Mahalanobis distances (n, p) of features (n, p, D) from the ``distribution``.

    sqrt(x^T S^-1 x) for a deviation x from the mean (Defard et al. 2020, equation 2).
    """
    deviations = np.ascontiguousarray((features - found["mean"]).transpose(1, 0, 2))
    projected = deviations @ found["factor"].swapaxes(1, 2)
    if "remainder" in found:
        # e x^T S^-1 x = |y|² + |M^-T F x|² (n - 1) e with y = x - F^T F x: a sum, whereas in x^T x - |F x|² all digits
        # may cancel.
        beyond = deviations - projected @ found["factor"]
        squares = np.square(beyond).sum(2) + np.square(projected @ found["remainder"].swapaxes(1, 2)).sum(2)
        squares /= np.float32(regularisation)
    else:
        squares = np.square(projected).sum(2)
    return np.asarray(np.sqrt(squares).T, np.float32)


def _inverse_factor(products: NDArray[np.float64], added: float) -> NDArray[np.float64]:
    """L^-1 of symmetric matrices (p, k, k), L L^T being what they are with ``added`` on the diagonal."""
    diagonal = np.arange(products.shape[1])
    products[:, diagonal, diagonal] += added
    return np.asarray(np.linalg.inv(np.linalg.cholesky(products)), np.float64)


def _one_thread() -> Any:
    """Many small products on one thread each: BLAS's threads wait for one another longer than they work."""
    return threadpool_limits(1, user_api="blas")
