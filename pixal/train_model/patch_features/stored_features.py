"""Patch features from a stored network, which ONNX Runtime runs: TensorFlow is not needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.errors import ModelError
from pixal.train_model.inference.session import OnnxNetwork
from pixal.train_model.patch_features.extractor import FeatureExtractor, Features
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.levels import Level
from pixal.train_model.patch_features.preparation import PREPARATIONS
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from pixal.train_model.patch_features.features import PatchFeatures

_log = logging.getLogger(__name__)


class _StoredLevel(BaseModel):
    """A ``Level`` with the shape (h, w, D) of its output."""

    model_config = ConfigDict(extra="forbid")

    maps: tuple[int, ...]
    grid: int
    smoothing: float
    shape: tuple[int, int, int]


class _Notes(BaseModel):
    """What is stored with the network: the name of the preparation of images, their size (h, w), and the levels."""

    model_config = ConfigDict(extra="forbid")

    prepare: str
    size: tuple[int, int]
    levels: tuple[_StoredLevel, ...]


class StoredFeatures(FeatureExtractor):
    """Computes features with ONNX Runtime."""

    def __init__(self, path: Path, frame: Frame, settings: ModelSpecification) -> None:
        """Load the network.

        Args:
            path: The file that ``write_features`` wrote.
            frame: What the network sees of an image.
            settings: The specification of the model.

        Raises:
            ModelError: The file is damaged, or is that of another model.
        """
        self._network = OnnxNetwork(path, settings)
        try:
            notes = _Notes.model_validate(self._network.notes)
            prepare = PREPARATIONS[notes.prepare]
        except (ValidationError, KeyError) as error:
            raise ModelError(f"{path} is not a network of patch features; run train again") from error
        if notes.size != frame.size:
            raise ModelError(f"{path} is for images of {notes.size} instead of {frame.size}; run train again")
        levels = [Level(level.maps, level.grid, level.smoothing) for level in notes.levels]
        shapes = [level.shape for level in notes.levels]
        super().__init__(
            frame, settings.channels, levels, [shape[:2] for shape in shapes], [shape[2] for shape in shapes], prepare
        )

    def _run(self, image: NDArray[np.float32]) -> Sequence[Features]:
        return self._network(image)


def write_features(features: PatchFeatures, path: Path) -> bool:
    """Write the network of features for ``StoredFeatures``.

    Returns:
        Whether the file was written; see ``write_network``.
    """
    from pixal.train_model.inference.graph import write_network

    name = next((name for name, prepare in PREPARATIONS.items() if prepare is features.prepare), None)
    if name is None:
        _log.info("validation of this model needs TensorFlow: its backbone prepares images in its own way")
        return False
    levels = tuple(
        _StoredLevel(maps=level.maps, grid=level.grid, smoothing=level.smoothing, shape=(*grid, depth))
        for level, grid, depth in zip(features.levels, features.grids, features.depths, strict=True)
    )
    notes = _Notes(prepare=name, size=features.frame.size, levels=levels)
    return write_network(features.network, path, notes.model_dump(mode="json"))
