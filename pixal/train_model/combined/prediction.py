"""Apply a trained combined model without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixal.train_model.autoencoder.prediction import load_predictor as load_autoencoder
from pixal.train_model.combined.members import CombinedMaps
from pixal.train_model.padim import Padim
from pixal.train_model.patch_features.options import PatchSpecification
from pixal.train_model.prediction import Predictor
from pixal.train_model.specification import ModelSpecification


class CombinedPredictor(CombinedMaps):
    """A combined model of two members that were loaded to be applied."""

    def __init__(self, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Load the members and their scales.

        Raises:
            ModelError: A file is missing, damaged, or does not match the specification.
        """
        self.spec = PatchSpecification.read(specification)
        self._start_scales()
        self._pixel = load_autoencoder(folder, self._pixel_specification)
        if self._compares_patches:
            self._patch = Padim.load_predictor(folder, self._patch_specification)
        self._load_scales(folder)


def load_predictor(folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Predictor:
    """Load a trained combined model to apply it: without TensorFlow where training wrote the files for it."""
    return CombinedPredictor(folder, specification)
