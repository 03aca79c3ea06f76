"""The maps of a combined model, made from those of its members, whatever computes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.train_model.combined.scale import Scale
from pixal.train_model.family import NOT_FITTED, Rows, type_indices
from pixal.train_model.patch_features.colours import has_colours
from pixal.train_model.patch_features.levels import LEVEL_NAMES
from pixal.train_model.patch_features.options import PatchSpecification
from pixal.train_model.patch_features.preparation import LITE0
from pixal.train_model.prediction import Predictor
from pixal.train_model.specification import ModelSpecification


class CombinedMaps(Predictor):
    """Joins the maps of an autoencoder and of patch features; see ``Combined``."""

    gives_distance = True
    gives_reconstruction = True
    is_calibrated = True
    spec: PatchSpecification
    _pixel: Predictor
    _patch: Predictor
    _patch_options: ClassVar[Mapping[str, Any]] = {"backbone": LITE0}

    @property
    def rows_are_independent(self) -> bool:
        """Whether they are for all members."""
        return all(member.rows_are_independent for member in self._compared)

    def error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The mean of the maps of the compared members, (n, H, W, 1); 0 outside the part."""
        indices, types = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        errors = np.zeros((len(indices), *inputs.shape[:2], 1), np.float32)
        for chunk in inputs.iterate_chunks(np.arange(len(indices))):
            members = [member.error(inputs, indices[chunk]) for member in self._compared]
            for position, *of_part in zip(chunk, *members, strict=True):
                index = types[indices[position]]
                errors[position, ..., 0] = np.mean(
                    [self._map(which, index, error) for which, error in enumerate(of_part)], axis=0
                )
        return errors

    def difference(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """Input minus the autoencoder's reconstruction, (n, H, W, C)."""
        return self._pixel.difference(inputs, rows)

    def latent(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The output of the autoencoder's encoder, (n, L)."""
        return self._pixel.latent(inputs, rows)

    def _start_scales(self) -> None:
        self._masks: NDArray[np.bool_] | None = None
        self._scales: list[list[Scale]] = []  # by type, of each compared member

    @property
    def _pixel_specification(self) -> ModelSpecification:
        changes = {"model": "autoencoder", "model_options": {}, "gives_distance": False}
        return ModelSpecification.read(self.spec.model_dump() | changes)

    @property
    def _patch_specification(self) -> PatchSpecification:
        levels = [LEVEL_NAMES[0] if self.spec.aligned else LEVEL_NAMES[-1]]
        options = {"levels": levels, **self._patch_options}
        changes = {"model": "padim", "model_options": options, "gives_distance": True}
        return PatchSpecification.read(self.spec.model_dump() | changes)

    @property
    def _compares_pixels(self) -> bool:
        """Whether the autoencoder's map is part of the error."""
        return self.spec.aligned or not self._compares_patches

    @property
    def _compares_patches(self) -> bool:
        """Whether the map of the patch features is part of the error."""
        return has_colours(self.spec.channels)

    @property
    def _compared(self) -> list[Predictor]:
        """The members whose maps are part of the error."""
        return [self._pixel] * self._compares_pixels + [self._patch] * self._compares_patches

    def _map(self, which: int, type_index: int, error: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map (H, W) of the error (H, W, C) of the compared member ``which``."""
        if self._masks is None:
            raise ModelError(NOT_FITTED)
        scale, weights = self._scales[type_index][which], error_weights(self._compared[which])
        anomaly_map: NDArray[np.float32] = scale.maps(error[None], self._masks[type_index], weights)[0]
        return anomaly_map

    def _load_scales(self, folder: Path) -> None:
        """Load the scales; the members are loaded.

        Raises:
            ModelError: The file is missing or damaged.
        """
        path, (height, width, _) = self._scales_file(folder), self.spec.shape
        try:
            arrays = load_arrays(path)
            masks = np.asarray(arrays.pop("masks"), np.bool_)
            if masks.shape != (max(1, len(self.spec.types)), height, width):
                raise ValueError(f"the masks have the shape {masks.shape}")
            for index in range(len(masks)):
                scales = [
                    Scale.from_stored(_ending_in(arrays, f"_{which}_{index}"), (height, width, len(weights)))
                    for which, weights in enumerate(map(error_weights, self._compared))
                ]
                self._scales.append(scales)
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run train again") from error
        self._masks = masks

    def _scales_file(self, folder: Path) -> Path:
        return folder / f"{self.spec.model_name}.scales.weights.npz"


def error_weights(member: Predictor) -> NDArray[np.float32]:
    """The weight of each channel of a member's error, (C,)."""
    return np.array(list(member.spec.error_weights.values()), np.float32)


def _ending_in(arrays: Mapping[str, NDArray[Any]], ending: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names have this ending, by name without it."""
    return {name.removesuffix(ending): values for name, values in arrays.items() if name.endswith(ending)}
