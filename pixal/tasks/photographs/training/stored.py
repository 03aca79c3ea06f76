"""Save and load what is stored with a model of photographs: calibration, preprocessing, latent vectors, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pixal.calibration.calibration import Calibration
from pixal.config import Config
from pixal.config.section import Positive
from pixal.errors import ModelError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.names import shorten_stem
from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions
from pixal.tasks.photographs.preprocessing.input_step import common_shape
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.train_model.specification import ModelRecord
from pixal.train_model.stored_model import StoredModel, load_stored

_CALIBRATION = "calibration.npz"
_LATENTS = "latents.npz"
_CONDITIONS = "conditions.npz"
_DAMAGED = (FileNotFoundError, ValueError, KeyError, TypeError)  # what reading a file raises if it is not whole


class StoredThreshold(BaseModel):
    """The threshold that training chose for a type.

    Attributes:
        threshold: The score above which a part fails.
        method: How the threshold was chosen.
        false_alarm_rate: The rate of good parts that may fail.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    threshold: Positive
    method: str
    false_alarm_rate: float


class PhotographModelRecord(ModelRecord):
    """The record of a model of photographs.

    Attributes:
        map_smoothing: Sigma of the Gaussian that smooths the anomaly map, in input pixels.
        calibration: The threshold of each type.
    """

    map_smoothing: Annotated[float, Field(ge=0)]
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
        file: The model file that it was unpacked from; None for the component's own.
    """

    record: PhotographModelRecord
    states: dict[str, PreprocessingState]
    calibrations: dict[str, Calibration]
    latents: dict[str, NDArray[np.float32]]
    conditions: dict[str, Conditions]
    file: str | None = None


def load_trained(config: Config, owner: str | None) -> TrainedModel:
    """Load a trained model.

    Args:
        config: The configuration.
        owner: The type that the model is for; None for one model of all types.

    Raises:
        ModelError: The model is missing, one of its files is not the one that training wrote, or it was replaced
            meanwhile.
    """
    return trained_model(load_stored(config, owner))


def trained_model(stored: StoredModel) -> TrainedModel:
    """Load what validation needs besides a stored model.

    Raises:
        ModelError: A file is missing or damaged, or does not fit the others.
    """
    record = PhotographModelRecord.read(stored.record)
    folder, types = stored.folder, record.types
    states = {name: PreprocessingState.load(state_file(folder, name)) for name in types}
    _check_input(folder, record, states)
    model = TrainedModel(
        stored.owner,
        record,
        folder,
        stored.record_file,
        stored.record_sha256,
        states,
        _load_calibrations(folder, record),
        _load_latents(folder, types),
        _load_conditions(folder, types),
    )
    model.check_unchanged()
    return model


def state_file(folder: Path, type_name: str) -> Path:
    """Return the path of the preprocessing of a type in the folder of a model."""
    return folder / "preprocessing" / f"{shorten_stem(type_name)}.npz"


def save_calibrations(folder: Path, calibrations: dict[str, Calibration]) -> Path:
    """Write the calibration of each type, in the order of the types; return the file."""
    arrays: dict[str, NDArray[Any]] = {}
    for index, calibration in enumerate(calibrations.values()):
        arrays[f"variance_{index}"] = calibration.variance
        arrays[f"scores_{index}"] = calibration.scores
        arrays[f"losses_{index}"] = calibration.losses
        arrays[f"stand_ins_{index}"] = np.array(calibration.stand_ins)
        if len(calibration.selected):
            arrays[f"selected_{index}"] = calibration.selected
            arrays[f"selected_scores_{index}"] = calibration.selected_scores
        if calibration.center is not None:
            arrays[f"center_{index}"] = calibration.center
        if calibration.gain is not None:
            arrays[f"gain_{index}"] = calibration.gain
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


def _check_input(folder: Path, record: PhotographModelRecord, states: dict[str, PreprocessingState]) -> None:
    """Raise ModelError if the record describes another input than the stored preprocessing makes."""
    if not states:
        raise ModelError(f"the model in {folder} has no types; run train again")
    made = common_shape(states.values())
    if record.shape != made:
        raise ModelError(
            f"the model in {folder} is for inputs of shape {record.shape}, but its preprocessing makes {made}; "
            "run train again"
        )
    for name, state in states.items():
        if state.type_name != name or record.channels != tuple(state.settings.preprocessor.channels):
            raise ModelError(f"{state_file(folder, name)} is the preprocessing of another model; run train again")


def _load_calibrations(folder: Path, record: PhotographModelRecord) -> dict[str, Calibration]:
    height, width, _ = record.shape
    calibrations = {}
    try:
        file = load_arrays(folder / _CALIBRATION)
        for i, name in enumerate(record.types):
            calibrations[name] = Calibration(
                file[f"variance_{i}"],
                file[f"scores_{i}"],
                bool(file[f"stand_ins_{i}"]),
                file.get(f"center_{i}"),
                file[f"losses_{i}"],
                file.get(f"selected_{i}", np.zeros(0, np.intp)),
                file.get(f"selected_scores_{i}", np.zeros(0)),
                file.get(f"gain_{i}"),
            )
            calibrations[name].check((height, width, len(record.error_weights)))
    except _DAMAGED as error:
        raise _damaged(folder / _CALIBRATION, error) from error
    return calibrations


def _load_latents(folder: Path, types: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    try:
        file = load_arrays(folder / _LATENTS)
        latents = {name: file[f"latent_{i}"] for i, name in enumerate(types)}
        for values in latents.values():
            if values.ndim != 2 or not np.isfinite(values).all():
                raise ValueError(f"latent vectors of shape {values.shape}, or not finite")
    except _DAMAGED as error:
        raise _damaged(folder / _LATENTS, error) from error
    return latents


def _load_conditions(folder: Path, types: Sequence[str]) -> dict[str, Conditions]:
    try:
        file = load_arrays(folder / _CONDITIONS)
        conditions = {name: Conditions(file[f"values_{i}"], int(file[f"tried_{i}"])) for i, name in enumerate(types)}
        for of_type in conditions.values():
            if of_type.values.dtype.kind != "f" or of_type.values.shape[1:] != (len(CONDITIONS),):
                raise ValueError(f"conditions of shape {of_type.values.shape}")
    except _DAMAGED as error:
        raise _damaged(folder / _CONDITIONS, error) from error
    return conditions


def _damaged(path: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())
    return ModelError(f"{path} is missing or damaged ({reason}); run train again")
