"""What the families have in common that judge patch features of a frozen backbone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, AnomalyModel, FitControl, Rows, type_indices
from pixal.train_model.history import History
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.keras_training.saving import save_weights
from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.backbones import Backbone, build_backbone
from pixal.train_model.patch_features.features import Features, FeatureStore, Frame, PatchFeatures
from pixal.train_model.patch_features.options import PatchOptions, PatchSpecification
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]

_ROWS = 4  # parts whose features are in memory at a time


class PatchModel(AnomalyModel):
    """Base of such families; see ``pixal.train_model.family.ModelFamily``.

    What was learned is a few arrays a type. A family says which features it takes (``_features``), what it learns of
    them (``_learn``) and how far off others are (``_distances``).
    """

    Options: ClassVar[type[PatchOptions]] = PatchOptions
    Specification = PatchSpecification
    gives_distance = True
    folds_are_cheap = True
    spec: PatchSpecification
    options: PatchOptions
    _saves_memory: ClassVar[str] = "set a smaller model_options.resize"

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Nothing is built yet."""
        super().__init__(specification)
        self._frame = Frame(self.spec.shape, self.options.resize, self.options.cropsize)
        self._backbone: Backbone | None = None
        self._patches: PatchFeatures | None = None
        self._masks: NDArray[np.bool_] | None = None
        self._learned: list[Arrays] = []
        self._stores: list[FeatureStore] = []
        self._has_said = False

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow as the settings say; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``. There are no epochs."""
        if self._patches is None:
            options, size = self.options, self._frame.size
            backbone, source = load_backbone(options.backbone, size, options.layers, options.weights, self.spec.seed)
            self.spec = self.spec.model_copy(update={"backbone_weights": source})
            self._use(backbone)
        patches, of_row = self._ready(), type_indices(inputs, self.spec.types)
        stores = self._stores_of(inputs, masks, of_row)
        self._masks, self._learned = stores[0].masks, []
        for index, mask in enumerate(masks):
            own, places = rows[of_row[rows] == index], np.flatnonzero(patches.cells(mask))
            if not len(places):
                raise ModelError(f"{self.spec.model}: cropsize leaves nothing of the part; set a larger one")
            self._learned.append(self._learn(stores[-1], own, places))
        return History()

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The distance of each place from what is good there, (n, H, W, 1); 0 beside the part and beside the crop."""
        masks, patches = self._fitted(), self._ready()
        index, of_row = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        found = np.zeros((len(index), *inputs.shape[:2], 1), np.float32)
        for kind, mask in enumerate(masks):
            own = np.flatnonzero(of_row[index] == kind)
            places = np.flatnonzero(patches.cells(mask))
            for start in range(0, len(own), _ROWS):
                part = own[start : start + _ROWS]
                distances = self._distances(self._learned[kind], self._features_of(inputs, index[part], kind, places))
                for number, values in zip(part, distances, strict=True):
                    grid = np.zeros(patches.grid, np.float32)
                    grid.reshape(-1)[places] = values
                    found[number, ..., 0] = self._map(grid) * mask
        return found

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The mean feature vector over the part, (n, D)."""
        masks, patches = self._fitted(), self._ready()
        index, of_row = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        found = np.zeros((len(index), patches.depth), np.float32)
        for number, row in enumerate(index):
            places = np.flatnonzero(patches.cells(masks[of_row[row]]))
            if len(places):
                found[number] = self._features_of(inputs, np.array([row]), of_row[row], places)[0].mean(0)
        return found

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.weights.npz`` and ``MODEL.backbone.weights.h5``: no other file is needed to use the model."""
        self._fitted()
        learned, backbone = self._files(folder)
        arrays = {f"{key}_{kind}": value for kind, one in enumerate(self._learned) for key, value in one.items()}
        save_arrays(learned, masks=np.asarray(self._masks), **arrays)
        assert self._backbone is not None
        save_weights(self._backbone.model, backbone)
        return [learned, backbone]

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model. Raises ModelError when a file is missing, damaged or does not match."""
        found = cls(specification)
        learned, weights = found._files(folder)
        backbone = build_backbone(found.options.backbone, found._frame.size, found.options.layers)
        try:
            with warnings.catch_warnings():
                # Keras would go on with new weights for what a file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                backbone.model.load_weights(weights)
            found._use(backbone)
            arrays = load_arrays(learned)
            masks = np.asarray(arrays.pop("masks"), np.bool_)
            found._masks = masks
            found._learned = [
                {key.rsplit("_", 1)[0]: value for key, value in arrays.items() if key.rsplit("_", 1)[1] == str(kind)}
                for kind in range(len(masks))
            ]
            found._check(masks)
        except FileNotFoundError as error:
            raise ModelError(f"{error.filename or weights} does not exist; run train") from error
        except (OSError, ValueError, KeyError, UserWarning) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{learned} or {weights.name} is damaged ({reason}); run train again") from error
        return found

    def _features(self, backbone: Backbone) -> PatchFeatures:
        """The features that the family takes of the backbone's maps."""
        raise NotImplementedError

    def _learn(self, store: FeatureStore, rows: Rows, places: Rows) -> Arrays:
        """What is kept of the features of good parts of one type, ``store.at(rows, places)``."""
        raise NotImplementedError

    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        """How far off features (n, p, D) are from what was learned, (n, p), at least 0."""
        raise NotImplementedError

    def _fits(self, what: str, size: float) -> None:
        """Say how much memory something takes, bytes, and the types before it.

        Raises ModelError where that is more than ``memory_limit``.
        """
        limit = self.spec.memory_limit
        size += sum(values.nbytes for learned in self._learned for values in learned.values())
        if not self._has_said:  # once, not for each fold
            _log.info("%s: %s will take %.2f GB (memory_limit %g)", self.spec.model, what, size / 1e9, limit)
        self._has_said = True
        if size > limit * 1e9:
            raise ModelError(
                f"{self.spec.model}: {what} would take {size / 1e9:.1f} GB, more than execution.memory_limit "
                f"{limit:g}; {self._saves_memory}, or raise the limit"
            )

    def _use(self, backbone: Backbone) -> None:
        self._backbone, self._patches = backbone, self._features(backbone)

    def _ready(self) -> PatchFeatures:
        if self._patches is None:
            raise ModelError(NOT_FITTED)
        return self._patches

    def _fitted(self) -> NDArray[np.bool_]:
        if self._masks is None:
            raise ModelError(NOT_FITTED)
        return self._masks

    def _check(self, masks: NDArray[np.bool_]) -> None:
        """Raises ValueError where the arrays are not of this model."""
        shape = (max(1, len(self.spec.types)), *self.spec.shape[:2])
        if masks.shape != shape:
            raise ValueError(f"masks of shape {masks.shape} where {shape} is expected")
        if not all(self._learned):
            raise ValueError("a type's arrays are missing")

    def _stores_of(self, inputs: InputSet, masks: NDArray[np.bool_], of_row: Rows) -> list[FeatureStore]:
        """The features of the rows as they are and, last, as they are fitted: the same, unless images are mirrored."""
        known = self._stores[0] if self._stores else None
        if known is None or known.inputs is not inputs or not np.array_equal(known.masks, masks):
            chances = [self.options.flip_horizontal, self.options.flip_vertical]
            drawn = np.random.default_rng(self.spec.seed).random((len(inputs), 2)) < chances
            self._stores = [
                FeatureStore(self._ready(), inputs, masks, of_row, flips=flips, memory_limit=self.spec.memory_limit)
                for flips in ([None, drawn] if any(chances) else [None])
            ]
        return self._stores

    def _features_of(self, inputs: InputSet, rows: Rows, kind: int, places: Rows) -> Features:
        """Features (n, p, D) of rows of one type, from the store where they are its."""
        if self._stores and self._stores[0].inputs is inputs and self._masks is self._stores[0].masks:
            return self._stores[0].at(rows, places)
        patches = self._ready()
        mask = np.broadcast_to(self._fitted()[kind], (len(rows), *inputs.shape[:2]))
        found = patches(inputs.images(rows), mask)
        return np.ascontiguousarray(found.reshape(len(rows), -1, patches.depth)[:, places])

    def _map(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map of the grid, on the input's pixels and smoothed."""
        found, sigma = self._frame.back(grid), self.options.smoothing
        if sigma:
            return np.asarray(cv2.GaussianBlur(found, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)
        return found

    def _files(self, folder: Path) -> tuple[Path, Path]:
        name = self.spec.model_name
        return folder / f"{name}.weights.npz", folder / f"{name}.backbone.weights.h5"
