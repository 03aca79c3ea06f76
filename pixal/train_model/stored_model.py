"""What lies in a model folder besides the weights: the calibration and the preprocessing the model was trained with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.config import Config
from pixal.errors import ModelError, PixalError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.files import file_hash
from pixal.io.records import read_record
from pixal.tasks.photographs.preprocessing.conditions import Conditions
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.train_model.family import ModelFamily, family_named
from pixal.version import __version__

_log = logging.getLogger(__name__)

MODEL_RECORD = "model_training.yaml"
_CALIBRATION = "calibration.npz"
_LATENTS = "latents.npz"
_CONDITIONS = "conditions.npz"


@dataclass(frozen=True)
class TrainedModel:
    """Everything validation needs of a trained model.

    params: its metadata. The dicts are by type; latents: (n, L) of the good parts; conditions: of their photographs.
    """

    owner: str | None
    params: dict[str, Any]
    states: dict[str, PreprocessingState]
    calibrations: dict[str, Calibration]
    latents: dict[str, NDArray[Any]]
    conditions: dict[str, Conditions]
    folder: Path

    def load_family(self) -> ModelFamily:
        """The model itself, rebuilt from metadata and weights."""
        return family_named(self.params["model"]).load(self.folder, self.params)


def trained_types(config: Config) -> list[str]:
    """The types that have a trained model."""
    root = config.paths.resolve("component_model_path")
    if config.model_training.one_hot_encoding:
        record = root / "metadata" / MODEL_RECORD
        return list(read_record(record)["types"]) if record.is_file() else []
    return sorted(
        path.name
        for path in root.glob("*")
        if (config.paths.resolve("metadata_path", path.name) / MODEL_RECORD).is_file()
    )


def load_trained(config: Config, owner: str | None) -> TrainedModel:
    """The model of type ``owner``, or (None) that of all types.

    Raises ModelError where it is missing, or a file of it is not the one that training wrote.
    """
    folder = config.paths.resolve("model_path", owner)
    try:
        params = read_record(config.paths.resolve("metadata_path", owner) / MODEL_RECORD)
    except PixalError as error:
        raise ModelError(f"{owner or config.paths.component} was never trained ({error}); run train first") from error
    if params.get("pixal_version") != __version__:
        _log.warning(
            "%s was trained by PIXAL %s, this is %s: scores may differ; train again to be sure",
            owner or config.paths.component,
            params.get("pixal_version"),
            __version__,
        )
    for name, digest in params.get("files", {}).items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing; run train again")
        if file_hash(folder / name) != digest:
            raise ModelError(f"{folder / name} is not the file that training wrote; run train again")
    states = {name: PreprocessingState.load(state_file(folder, name)) for name in params["types"]}
    calibrations, latents = _load_calibrations(folder, params["types"]), _load_latents(folder, params["types"])
    return TrainedModel(owner, params, states, calibrations, latents, _load_conditions(folder, params["types"]), folder)


def state_file(folder: Path, type_name: str) -> Path:
    """Where a model keeps the preprocessing of a type."""
    return folder / "preprocessing" / f"{type_name}.npz"


def save_calibrations(folder: Path, calibrations: dict[str, Calibration]) -> Path:
    """Write the calibrations of a model's types, in their order."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, calibration in enumerate(calibrations.values()):
        arrays[f"variance_{index}"] = calibration.variance
        arrays[f"scores_{index}"] = calibration.scores
        arrays[f"stand_ins_{index}"] = np.array(calibration.stand_ins)
        if calibration.center is not None:
            arrays[f"center_{index}"] = calibration.center
    save_arrays(folder / _CALIBRATION, **arrays)
    return folder / _CALIBRATION


def save_latents(folder: Path, latents: Sequence[NDArray[Any]]) -> Path:
    """Write the good parts' latents (n, L) of a model's types, in their order."""
    save_arrays(folder / _LATENTS, **{f"latent_{index}": values for index, values in enumerate(latents)})
    return folder / _LATENTS


def save_conditions(folder: Path, conditions: Sequence[Conditions]) -> Path:
    """Write how the good photographs of a model's types were taken, in their order."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, one in enumerate(conditions):
        arrays |= {f"values_{index}": one.values, f"tried_{index}": np.array(one.tried)}
    save_arrays(folder / _CONDITIONS, **arrays)
    return folder / _CONDITIONS


def _load_calibrations(folder: Path, types: list[str]) -> dict[str, Calibration]:
    try:
        file = load_arrays(folder / _CALIBRATION)
        return {
            name: Calibration(
                file[f"variance_{i}"], file[f"scores_{i}"], bool(file[f"stand_ins_{i}"]), file.get(f"center_{i}")
            )
            for i, name in enumerate(types)
        }
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / _CALIBRATION} is missing or damaged ({error}); run train again") from error


def _load_latents(folder: Path, types: list[str]) -> dict[str, NDArray[Any]]:
    try:
        file = load_arrays(folder / _LATENTS)
        return {name: file[f"latent_{i}"] for i, name in enumerate(types)}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / _LATENTS} is missing or damaged ({error}); run train again") from error


def _load_conditions(folder: Path, types: list[str]) -> dict[str, Conditions]:
    try:
        file = load_arrays(folder / _CONDITIONS)
        return {name: Conditions(file[f"values_{i}"], int(file[f"tried_{i}"])) for i, name in enumerate(types)}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / _CONDITIONS} is missing or damaged ({error}); run train again") from error
