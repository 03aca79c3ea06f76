"""The base class of the model families that compare patch features of a frozen backbone."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
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
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, AnomalyModel, FitControl, Rows, check_weights, type_indices
from pixal.train_model.history import History
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.keras_training.saving import save_weights
from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.backbones import Backbone, build_backbone
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.features import Features, PatchFeatures
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.options import PatchOptions, PatchSpecification
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[np.float32]]
"""What a family learned from the good parts of one type: arrays by name."""

_CHUNK_ROWS = 4  # parts whose features are in memory at a time


class PatchModel(AnomalyModel):
    """Base class of the families of patch features; see ``pixal.train_model.family.ModelFamily``.

    A family defines which features it uses (``_select_features``), what it learns from them (``_learn``), and the
    distance of new features from that (``_distances``).
    """

    Options: ClassVar[type[PatchOptions]] = PatchOptions
    Specification = PatchSpecification
    gives_distance = True
    folds_are_cheap = True
    spec: PatchSpecification
    options: PatchOptions
    _memory_advice: ClassVar[str] = "set a smaller model_options.resize"

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self._frame = Frame(self.spec.shape, self.options.resize, self.options.cropsize)
        self._backbone: Backbone | None = None
        self._features: PatchFeatures | None = None
        self._masks: NDArray[np.bool_] | None = None
        self._learned: list[Arrays] = []  # one per type
        self._stores: list[FeatureStore] = []
        self._has_logged_memory = False

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow with the settings; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts, without epochs; see ``ModelFamily.fit``."""
        if self._features is None:
            options, size = self.options, self._frame.size
            backbone, source = load_backbone(options.backbone, size, options.layers, options.weights, self.spec.seed)
            self.spec = self.spec.model_copy(update={"backbone_weights": source})
            self._set_backbone(backbone)
        features, types = self._built_features(), type_indices(inputs, self.spec.types)
        stores = self._stores_of(inputs, masks, types)
        self._masks, self._learned = stores[0].masks, []
        for type_index, mask in enumerate(masks):
            type_rows = rows[types[rows] == type_index]
            cells = np.flatnonzero(features.part_cells(mask))
            if not len(cells):
                raise ModelError(
                    f"{self.spec.model}: no pixel of the part is inside the crop; set a larger "
                    "model_training.model_options.cropsize"
                )
            self._learned.append(self._learn(stores[-1], type_rows, cells))
        return History()

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The distance from good parts at each pixel, (n, H, W, 1); 0 outside the part and outside the crop."""
        masks, features = self._fitted_masks(), self._built_features()
        indices, types = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        errors = np.zeros((len(indices), *inputs.shape[:2], 1), np.float32)
        for type_index, mask in enumerate(masks):
            positions = np.flatnonzero(types[indices] == type_index)
            cells = np.flatnonzero(features.part_cells(mask))
            for start in range(0, len(positions), _CHUNK_ROWS):
                chunk = positions[start : start + _CHUNK_ROWS]
                chunk_features = self._features_of_rows(inputs, indices[chunk], type_index, cells)
                distances = self._distances(self._learned[type_index], chunk_features)
                for position, values in zip(chunk, distances, strict=True):
                    grid = np.zeros(features.grid, np.float32)
                    grid.reshape(-1)[cells] = values
                    errors[position, ..., 0] = self._smooth_map(grid) * mask
        return errors

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The mean feature vector over the part, (n, D)."""
        masks, features = self._fitted_masks(), self._built_features()
        indices, types = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        vectors = np.zeros((len(indices), features.depth), np.float32)
        for position, row in enumerate(indices):
            cells = np.flatnonzero(features.part_cells(masks[types[row]]))
            if len(cells):
                vectors[position] = self._features_of_rows(inputs, np.array([row]), types[row], cells)[0].mean(0)
        return vectors

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.weights.npz`` and ``MODEL.backbone.weights.h5``. The model needs no other file."""
        self._fitted_masks()
        learned_file, backbone_file = self._files(folder)
        arrays: dict[str, NDArray[Any]] = {
            f"{name}_{type_index}": values
            for type_index, learned in enumerate(self._learned)
            for name, values in learned.items()
        }
        save_arrays(learned_file, masks=np.asarray(self._masks), **arrays)
        assert self._backbone is not None
        save_weights(self._backbone.model, backbone_file)
        return [learned_file, backbone_file]

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model; see ``ModelFamily.load``."""
        model = cls(specification)
        learned_file, backbone_file = model._files(folder)
        backbone = build_backbone(model.options.backbone, model._frame.size, model.options.layers)
        try:
            with warnings.catch_warnings():
                # Otherwise Keras keeps random weights for layers that the file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                backbone.model.load_weights(backbone_file)
            model._set_backbone(backbone)
            arrays = load_arrays(learned_file)
            masks = np.asarray(arrays.pop("masks"), np.bool_)
            check_weights(learned_file, arrays.values())
            model._masks = masks
            model._learned = [_arrays_of_type(arrays, type_index) for type_index in range(len(masks))]
            model._check_arrays(masks)
        except FileNotFoundError as error:
            raise ModelError(f"{error.filename or backbone_file} does not exist; run train") from error
        except (OSError, ValueError, KeyError, UserWarning) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"{learned_file} or {backbone_file.name} is damaged ({reason}); run train again"
            ) from error
        return model

    @abstractmethod
    def _select_features(self, backbone: Backbone) -> PatchFeatures:
        """Choose the features that the family uses from the backbone's feature maps."""

    @abstractmethod
    def _learn(self, store: FeatureStore, rows: Rows, cells: Rows) -> Arrays:
        """Learn from the features of good parts of one type, ``store.read(rows, cells)``."""

    @abstractmethod
    def _distances(self, learned: Arrays, features: Features) -> NDArray[np.float32]:
        """The distance of features (n, p, D) from what was learned, (n, p), at least 0."""

    def _check_memory(self, name: str, size: float) -> None:
        """Check that an array fits in memory with the arrays of earlier types, and log its size once.

        Args:
            name: What the array holds, for the messages.
            size: Bytes.

        Raises:
            ModelError: The arrays need more than ``memory_limit``.
        """
        limit = self.spec.memory_limit
        size += sum(values.nbytes for learned in self._learned for values in learned.values())
        if not self._has_logged_memory:  # not for every fold
            _log.info("%s: %s will need %.2f GB (memory_limit: %g GB)", self.spec.model, name, size / 1e9, limit)
        self._has_logged_memory = True
        if size > limit * 1e9:
            raise ModelError(
                f"{self.spec.model}: {name} would need {size / 1e9:.1f} GB, more than execution.memory_limit "
                f"({limit:g} GB); {self._memory_advice}, or raise the limit"
            )

    def _set_backbone(self, backbone: Backbone) -> None:
        self._backbone, self._features = backbone, self._select_features(backbone)

    def _built_features(self) -> PatchFeatures:
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
        if not all(self._learned):
            raise ValueError("the arrays of a type are missing")

    def _stores_of(self, inputs: InputSet, masks: NDArray[np.bool_], types: Rows) -> list[FeatureStore]:
        """The features of the unchanged rows and, last, those to fit. Both are one store unless images are mirrored."""
        stored = self._stores[0] if self._stores else None
        if stored is None or stored.inputs is not inputs or not np.array_equal(stored.masks, masks):
            probabilities = [self.options.flip_horizontal, self.options.flip_vertical]
            flips = np.random.default_rng(self.spec.seed).random((len(inputs), 2)) < probabilities
            self._stores = [
                FeatureStore(
                    self._built_features(), inputs, masks, types, flips=chosen, memory_limit=self.spec.memory_limit
                )
                for chosen in ([None, flips] if any(probabilities) else [None])
            ]
        return self._stores

    def _features_of_rows(self, inputs: InputSet, rows: Rows, type_index: int, cells: Rows) -> Features:
        """Features (n, p, D) of rows of one type; from the store if it belongs to these inputs."""
        if self._stores and self._stores[0].inputs is inputs and self._masks is self._stores[0].masks:
            return self._stores[0].read(rows, cells)
        features = self._built_features()
        masks = np.broadcast_to(self._fitted_masks()[type_index], (len(rows), *inputs.shape[:2]))
        on_grid = features(inputs.images(rows), masks)
        return np.ascontiguousarray(on_grid.reshape(len(rows), -1, features.depth)[:, cells])

    def _smooth_map(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resize a map of the grid to the input's pixels, (H, W), and smooth it."""
        resized, sigma = self._frame.to_image(grid), self.options.smoothing
        if sigma:
            return np.asarray(cv2.GaussianBlur(resized, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.float32)
        return resized

    def _files(self, folder: Path) -> tuple[Path, Path]:
        """The files of the learned arrays and of the backbone's weights."""
        name = self.spec.model_name
        return folder / f"{name}.weights.npz", folder / f"{name}.backbone.weights.h5"


def _arrays_of_type(arrays: Mapping[str, NDArray[Any]], type_index: int) -> Arrays:
    """The arrays of one type from those of all types, whose names end in the type's index."""
    ending = f"_{type_index}"
    return {name.removesuffix(ending): values for name, values in arrays.items() if name.endswith(ending)}
