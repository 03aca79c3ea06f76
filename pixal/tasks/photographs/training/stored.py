"""Save and load what is stored with a model of photographs: calibration, preprocessing, latent vectors, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from pixal.calibration.calibration import Calibration
from pixal.config import Config
from pixal.errors import ModelError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.tasks.photographs.preprocessing.conditions import Conditions
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.train_model.specification import ModelRecord
from pixal.train_model.stored_model import StoredModel, load_stored

_CALIBRATION = "calibration.npz"
_LATENTS = "latents.npz"
_CONDITIONS = "conditions.npz"


class StoredThreshold(BaseModel):
    """The threshold that training chose for a type.

    Attributes:
        threshold: The score above which a part fails.
        method: How the threshold was chosen.
        false_alarm_rate: The rate of good parts that may fail.
    """

    threshold: float
    method: str
    false_alarm_rate: float


class PhotographModelRecord(ModelRecord):
    """The record of a model of photographs.

    Attributes:
        map_smoothing: Sigma of the Gaussian that smooths the anomaly map, in input pixels.
        calibration: The threshold of each type.
    """

    map_smoothing: float
    calibration: dict[str, StoredThreshold]


@dataclass(frozen=True)
class TrainedModel(StoredModel):
    """A trained model with everything that validation needs.

    Attributes:
        record: What training stored about the model.
        states: The preprocessing of each type.
        calibrations: The calibration of each type.
        latents: The latent vectors of good parts of each type, (N, L).
        conditions: How the good photographs of each type were taken.
    """

    record: PhotographModelRecord
    states: dict[str, PreprocessingState]
    calibrations: dict[str, Calibration]
    latents: dict[str, NDArray[np.float32]]
    conditions: dict[str, Conditions]


def load_trained(config: Config, owner: str | None) -> TrainedModel:
    """Load a trained model.

    Args:
        config: The configuration.
        owner: The type that the model is for; None for one model of all types.

    Raises:
        ModelError: The model is missing, or one of its files is not the one that training wrote.
    """
    stored = load_stored(config, owner)
    record = PhotographModelRecord.read(stored.record)
    folder, types = stored.folder, record.types
    return TrainedModel(
        stored.owner,
        record,
        folder,
        {name: PreprocessingState.load(state_file(folder, name)) for name in types},
        _load_calibrations(folder, types),
        _load_latents(folder, types),
        _load_conditions(folder, types),
    )


def state_file(folder: Path, type_name: str) -> Path:
    """Return the path of the preprocessing of a type in the folder of a model."""
    return folder / "preprocessing" / f"{type_name}.npz"


def save_calibrations(folder: Path, calibrations: dict[str, Calibration]) -> Path:
    """Write the calibration of each type, in the order of the types; return the file."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, calibration in enumerate(calibrations.values()):
        arrays[f"variance_{index}"] = calibration.variance
        arrays[f"scores_{index}"] = calibration.scores
        arrays[f"stand_ins_{index}"] = np.array(calibration.stand_ins)
        if calibration.center is not None:
            arrays[f"center_{index}"] = calibration.center
    save_arrays(folder / _CALIBRATION, **arrays)
    return folder / _CALIBRATION


def save_latents(folder: Path, latents: Sequence[NDArray[np.float32]]) -> Path:
    """Write the latent vectors (N, L) of the good parts of each type, in the order of the types; return the file."""
    save_arrays(folder / _LATENTS, **{f"latent_{index}": values for index, values in enumerate(latents)})
    return folder / _LATENTS


def save_conditions(folder: Path, conditions: Sequence[Conditions]) -> Path:
    """Write the conditions of the good photographs of each type, in the order of the types; return the file."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, condition in enumerate(conditions):
        arrays |= {f"values_{index}": condition.values, f"tried_{index}": np.array(condition.tried)}
    save_arrays(folder / _CONDITIONS, **arrays)
    return folder / _CONDITIONS


def _load_calibrations(folder: Path, types: Sequence[str]) -> dict[str, Calibration]:
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


def _load_latents(folder: Path, types: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    try:
        file = load_arrays(folder / _LATENTS)
        return {name: file[f"latent_{i}"] for i, name in enumerate(types)}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / _LATENTS} is missing or damaged ({error}); run train again") from error


def _load_conditions(folder: Path, types: Sequence[str]) -> dict[str, Conditions]:
    try:
        file = load_arrays(folder / _CONDITIONS)
        return {name: Conditions(file[f"values_{i}"], int(file[f"tried_{i}"])) for i, name in enumerate(types)}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / _CONDITIONS} is missing or damaged ({error}); run train again") from error
