"""The base class of the model families that compare patch features of a frozen backbone."""

from __future__ import annotations

import logging
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import ModelTraining
from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import save_arrays
from pixal.train_model.family import NO_CONTROL, AnomalyModel, FitControl, Rows, type_indices
from pixal.train_model.history import History
from pixal.train_model.inference.session import NETWORK_ENDING
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.keras_training.saving import save_weights
from pixal.train_model.patch_features.extractor import FeatureExtractor, Features
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.levels import (
    Arrays,
    Distances,
    LearnedLevel,
    scale_of,
    smooth_cells,
)
from pixal.train_model.patch_features.options import PatchOptions, PatchSpecification
from pixal.train_model.patch_features.patch_maps import PatchMaps
from pixal.train_model.patch_features.stored_features import StoredFeatures, write_features
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self

    from pixal.train_model.patch_features.backbones import Backbone
    from pixal.train_model.patch_features.features import PatchFeatures

_log = logging.getLogger(__name__)


class PatchModel(PatchMaps, AnomalyModel):
    """Base class of the families of patch features; see ``pixal.train_model.family.ModelFamily``.

    A family defines which features it uses (``_select_features``), what it learns from them at each level
    (``_learn``), the distance of new features from that (``_distances``), and the distance of each good part from what
    the others alone would have taught (``_left_out``). The error is the largest of the distances at all levels, each in
    units of its ``Scale``.
    """

    Options: ClassVar[type[PatchOptions]] = PatchOptions
    Specification = PatchSpecification
    folds_are_cheap = True
    spec: PatchSpecification
    options: PatchOptions
    _memory_advice: ClassVar[str] = "set a smaller model_options.resize"

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self._frame = Frame(self.spec.shape, self.options.resize, self.options.cropsize)
        self._backbone: Backbone | None = None
        self._features: FeatureExtractor | None = None
        self._masks: NDArray[np.bool_] | None = None
        self._learned: list[list[LearnedLevel]] = []  # by type and level
        self._fitted_rows: Rows = np.zeros(0, np.intp)
        self._stores: list[FeatureStore] = []
        self._has_logged_memory = False

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow with the settings; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    @property
    def leaves_one_out(self) -> bool:
        """Whether ``left_out_error`` is known: not if the fitted images are mirrored ones."""
        return not (self.options.flip_horizontal or self.options.flip_vertical)

    def check(self) -> None:
        """Build the backbone and load its weights, so that what is wrong with them is said before any work is done."""
        self._load_backbone()

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts, without epochs; see ``ModelFamily.fit``."""
        if self._features is None:
            self._load_backbone()
        features, types = self._built_features(), type_indices(inputs, self.spec.types)
        store = self._stores_of(inputs, masks, types)[-1]
        self._masks, self._fitted_rows = self._stores[0].masks, rows
        self._learned = []
        for type_index, mask in enumerate(masks):
            type_rows = rows[types[rows] == type_index]
            self._learned.append([])
            for level, grid in enumerate(self._grids(mask)):
                if not grid.any():
                    raise ModelError(
                        f"{self.spec.model}: no pixel of the part is inside the crop; set a larger "
                        "model_training.model_options.cropsize"
                    )
                cells = np.flatnonzero(grid)
                arrays = self._learn(store, type_rows, cells, level)
                if len(type_rows) > 1:
                    distances = self._left_out(store, type_rows, cells, level, arrays)
                else:  # no other part says how far a good part is from what one part taught
                    distances = np.zeros((len(type_rows), len(cells)), np.float32)
                scale, left_out = scale_of(smooth_cells(distances, grid, features.levels[level].smoothing), grid)
                self._learned[-1].append(LearnedLevel(arrays, scale, left_out))
        return History()

    def left_out_error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The error of fitted parts, each from a model without it; see ``AnomalyModel.left_out_error``."""
        types = type_indices(inputs, self.spec.types)

        def distances_of(indices: Rows, type_index: int, grids: Sequence[NDArray[np.bool_]]) -> list[Distances]:
            fitted = self._fitted_rows[types[self._fitted_rows] == type_index]
            positions = np.searchsorted(fitted, indices)
            return [learned.left_out[positions] for learned in self._learned[type_index]]

        return self._maps(inputs, rows, distances_of)

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.weights.npz`` and ``MODEL.backbone.weights.h5``, and for ``load_predictor`` the network."""
        self._fitted_masks()
        learned_file, backbone_file, network_file = self._files(folder)
        arrays: dict[str, NDArray[Any]] = {
            f"{name}_{level}_{type_index}": values
            for type_index, levels in enumerate(self._learned)
            for level, learned in enumerate(levels)
            for name, values in learned.stored().items()
        }
        save_arrays(learned_file, masks=np.asarray(self._masks), **arrays)
        assert self._backbone is not None
        save_weights(self._backbone.model, backbone_file)
        files = [learned_file, backbone_file]
        if not self.spec.mixed_precision and write_features(cast("PatchFeatures", self._features), network_file):
            files.append(network_file)
        return files

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model; see ``ModelFamily.load``."""
        from pixal.train_model.patch_features.backbones import build_backbone

        model = cls(specification)
        learned_file, backbone_file, _ = model._files(folder)
        backbone = build_backbone(model.options.backbone, model._frame.size, model._layers())
        with _reading(learned_file, backbone_file):
            with warnings.catch_warnings():
                # Otherwise Keras keeps random weights for layers that the file lacks.
                warnings.filterwarnings("error", message="Skipping nested container")
                backbone.model.load_weights(backbone_file)
            model._set_backbone(backbone)
            model._load_learned(learned_file)
        return model

    @classmethod
    def load_predictor(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model to apply it: without TensorFlow where the folder holds its network.

        Raises:
            ModelError: A file is missing, damaged, or does not match the specification.
        """
        model = cls(specification)
        learned_file, _, network_file = model._files(folder)
        if not network_file.is_file():
            return cls.load(folder, specification)
        with _reading(learned_file, network_file):
            model._features = StoredFeatures(network_file, model._frame, model.spec)
            model._load_learned(learned_file)
        return model

    def _layers(self) -> list[str] | None:
        """The layers of the backbone that are used; None: its default."""
        return self.options.layers

    @abstractmethod
    def _select_features(self, backbone: Backbone) -> PatchFeatures:
        """Choose the features that the family uses from the backbone's feature maps."""

    @abstractmethod
    def _learn(self, store: FeatureStore, rows: Rows, cells: Rows, level: int) -> Arrays:
        """Learn from the features of good parts of one type, ``store.read(rows, cells, level)``."""

    @abstractmethod
    def _left_out(self, store: FeatureStore, rows: Rows, cells: Rows, level: int, learned: Arrays) -> Distances:
        """The distance of each of at least two fitted parts from what is learned without it, (n, p).

        Called right after ``_learn``, with the same arguments and its result.
        """

    def _check_memory(self, name: str, size: float) -> None:
        """Check that an array fits in memory with the arrays of earlier types, and log its size once.

        Args:
            name: What the array holds, for the messages.
            size: Bytes.

        Raises:
            ModelError: The arrays need more than ``memory_limit``.
        """
        limit = self.spec.memory_limit
        size += sum(values.nbytes for levels in self._learned for level in levels for values in level.arrays.values())
        if not self._has_logged_memory:  # not for every fold
            _log.debug("%s: %s will need %.2f GB (memory_limit: %g GB)", self.spec.model, name, size / 1e9, limit)
        self._has_logged_memory = True
        self._refuse_size(name, size)

    def _refuse_size(self, name: str, size: float) -> None:
        """Raises ModelError if ``size`` bytes are more than ``memory_limit``."""
        limit = self.spec.memory_limit
        if size > limit * 1e9:
            raise ModelError(
                f"{self.spec.model}: {name} would need {size / 1e9:.1f} GB, more than execution.memory_limit "
                f"({limit:g} GB); {self._memory_advice}, or raise the limit"
            )

    def _load_backbone(self) -> None:
        from pixal.train_model.patch_features.backbone_weights import load_backbone
        from pixal.train_model.patch_features.backbones import transformer

        options = self.options
        if architecture := transformer(options.backbone):
            height, width = self._frame.size
            name = f"the attention of {options.backbone} for an image of {height} x {width} pixels"
            self._refuse_size(name, architecture.attention_bytes(self._frame.size))
        backbone, source = load_backbone(
            options.backbone, self._frame.size, self._layers(), options.weights, self.spec.seed
        )
        self.spec = self.spec.model_copy(update={"backbone_weights": source})
        self._set_backbone(backbone)

    def _set_backbone(self, backbone: Backbone) -> None:
        self._backbone, self._features = backbone, self._select_features(backbone)

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

    def _features_of_rows(self, inputs: InputSet, rows: Rows, type_index: int, cells: Sequence[Rows]) -> list[Features]:
        """See ``PatchMaps``; from the store of the fit if it belongs to these inputs."""
        if self._stores and self._stores[0].inputs is inputs and self._masks is self._stores[0].masks:
            return [self._stores[0].read(rows, of_level, level) for level, of_level in enumerate(cells)]
        return super()._features_of_rows(inputs, rows, type_index, cells)

    def _files(self, folder: Path) -> tuple[Path, Path, Path]:
        """The files of the learned arrays, of the backbone's weights, and of the network without TensorFlow."""
        names = ".weights.npz", ".backbone.weights.h5", f".backbone{NETWORK_ENDING}"
        learned, backbone, network = (folder / f"{self.spec.model_name}{name}" for name in names)
        return learned, backbone, network


@contextmanager
def _reading(learned: Path, network: Path) -> Iterator[None]:
    """Turn the errors of reading the files of a model into ``ModelError``."""
    try:
        yield
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or network} does not exist; run train") from error
    except (OSError, ValueError, KeyError, UserWarning) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{learned} or {network.name} is damaged ({reason}); run train again") from error
