"""Read the training data: the good parts of one type or of all types, and the preprocessing of each type."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.recurrence import Places
from pixal.config import Paths
from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.io.files import file_hash, has_hash
from pixal.tasks.photographs.learning.accepted import AcceptedPart, AcceptedParts
from pixal.tasks.photographs.learning.known_places import missed_defects, places_of
from pixal.tasks.photographs.preprocessing.conditions import Conditions
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD, STATE_FILE, check_is_current
from pixal.tasks.photographs.preprocessing.input_step import on_canvas
from pixal.tasks.photographs.preprocessing.records import (
    InputRecord,
    InputStep,
    TypeRecord,
    read_step,
    step_hash,
)
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.train_model.stored_model import trained_types
from pixal.train_model.training_task import TrainingSet

_log = logging.getLogger(__name__)

RECOMMENDED = 8
"""Good images per type."""


class TrainingData:
    """Good parts to train one model on.

    Attributes:
        owner: The type that the model is for; None for one model of all types.
        inputs: The good parts of all types that the model is for.
        states: The preprocessing of each type.
        sha256: The SHA-256 of the file of the inputs.
    """

    def __init__(self, owner: str | None, path: Path) -> None:
        """Read the data.

        Args:
            owner: The type that the model is for; None for one model of all types.
            path: The ``out.npz`` of the inputs.

        Raises:
            InputError: The file cannot be used for training.
        """
        self.owner, self._path, self._folder = owner, path, path.parent
        self.inputs = InputSet.load(path)
        if (owner is None) != bool(self.inputs.types):
            labels = "one-hot labels" if self.inputs.types else "no labels"
            raise InputError(
                f"{path} holds {labels}, but one_hot_encoding is {owner is None}; "
                "run make_input again, or change the setting"
            )
        check_is_current(self._folder / "metadata", is_type=owner is not None)
        self._record_file = self._folder / "metadata" / PREPROCESSING_RECORD
        self._record_sha256 = step_hash(self._record_file, "make_input")
        self._record = read_step(self._record_file, InputStep, "make_input")
        self.sha256 = file_hash(path)
        if self._record.sha256 != self.sha256:
            raise InputError(f"{path} is not the file that make_input recorded; run make_input again")
        self.states = {name: self._load_state(name, record) for name, record in self._record.types.items()}
        if not self.states or (self.inputs.types and self.inputs.types != tuple(self.states)):
            raise InputError(f"{path} does not hold the types that make_input recorded; run make_input again")
        for index, (name, state) in enumerate(self.states.items()):
            count = len(self.inputs.rows_of_type(index))
            if not count:
                raise InputError(f"{name}: {path} holds no good image of this type; run make_input again")
            if tuple(state.shape[2:]) != self.inputs.shape[2:]:
                raise InputError(
                    f"{path} holds {self.inputs.shape[2]} channels, but its preprocessing makes {state.shape[2]}; "
                    "run make_input again"
                )

    def warn_if_few(self) -> None:
        """Log a warning for each type with few good images."""
        for index, name in enumerate(self.states):
            _warn_if_few(name, len(self.inputs.rows_of_type(index)))

    def check_unchanged(self) -> None:
        """Raise InputError if preprocessing has run since the data were read. It removes its record at its start."""
        if not has_hash(self._record_file, self._record_sha256):
            raise InputError(f"{self._path} has changed since train was started; run train again")

    def state_file(self, name: str) -> Path:
        """Return the path of the preprocessing of a type."""
        folder = self._folder / name if self.owner is None else self._folder
        return folder / "metadata" / STATE_FILE

    def _load_state(self, name: str, record: TypeRecord) -> PreprocessingState:
        """Load the preprocessing of a type. Raise InputError if it is missing, or not what make_input recorded."""
        path = self.state_file(name)
        if not has_hash(path, record.state_sha256):
            raise InputError(f"{path} is missing, or is not the file that make_input recorded; run make_input again")
        return PreprocessingState.load(path)

    def training_set(self, component: str) -> TrainingSet:
        """Return the data in the form that ``train_models`` takes."""
        owner = self.owner
        return TrainingSet(
            owner,
            owner or component,
            self._path,
            self.sha256,
            self.inputs,
            tuple(self.states),
            self.masks,
            tuple(self.channel_weights),
            self.aligned,
            {"preprocessing": [file_hash(self.state_file(name)) for name in self.states]},
        )

    def known_places(self, paths: Paths) -> dict[str, Places]:
        """Where the known defects of each type recur, (H, W) each; types without such places are left out."""
        masks = dict(zip(self.states, self.masks, strict=True))
        found = {
            name: places_of(missed_defects(paths, name, state), masks[name]) for name, state in self.states.items()
        }
        return {name: places for name, places in found.items() if places.any()}

    def is_selected(self, type_name: str, paths: Paths) -> NDArray[np.bool_]:
        """Which rows of the inputs are accepted parts of a type that were chosen for their scores, (N,)."""
        return self._is_accepted(type_name, paths, lambda part: not part.sampled)

    def is_false_alarm(self, type_name: str, paths: Paths) -> NDArray[np.bool_]:
        """Which rows of the inputs are accepted parts of a type that were false alarms, (N,)."""
        return self._is_accepted(type_name, paths, lambda part: part.mark == "false alarm")

    def is_accepted(self, type_name: str, paths: Paths) -> NDArray[np.bool_]:
        """Which rows of the inputs are accepted parts of a type, (N,)."""
        return self._is_accepted(type_name, paths, lambda part: True)

    def _is_accepted(
        self, type_name: str, paths: Paths, condition: Callable[[AcceptedPart], bool]
    ) -> NDArray[np.bool_]:
        prefix = f"{type_name}/" if self.owner is None else ""
        accepted = AcceptedParts.read(paths, type_name).of("good_parts")
        names = {f"{prefix}{part.file}" for part in accepted if condition(part)}
        return np.array([name in names for name in self.inputs.names])

    def records(self, type_name: str) -> list[InputRecord]:
        """The records of the preparation of the photographs of a type."""
        return self._record.images(type_name)

    @property
    def record(self) -> InputStep:
        """How the inputs were made."""
        return self._record

    @property
    def path(self) -> Path:
        """The file of the inputs."""
        return self._path

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The pixels of the part of each of T types in the model's frame, (T, H, W)."""
        frame = (*self.inputs.shape[:2], 1)
        return np.stack([on_canvas(state.mask[..., None], frame)[..., 0] for state in self.states.values()])

    @property
    def aligned(self) -> bool:
        """Whether a pixel is the same place on all parts: not if one of the types is a texture."""
        return all(state.settings.alignment.apply_alignment != "texture" for state in self.states.values())

    @property
    def channel_weights(self) -> list[float]:
        """The weight of each channel."""
        settings = next(iter(self.states.values())).settings.preprocessor
        return [float(weight) for weight in settings.weights or [1.0] * self.inputs.shape[2]]

    @property
    def conditions(self) -> list[Conditions]:
        """The conditions (light, focus, alignment) of each type that ``make_input`` recorded."""
        record = self._record
        return [Conditions.from_records(record.images(name), record.photographs.get(name, 0)) for name in self.states]

    def accepted(self, paths: Paths) -> dict[str, dict[str, Any]]:
        """The accepted parts of each type when the model is trained, for its record; types without any are left out.

        ``good_parts`` are those among the inputs; ``known_defects`` are never trained on.
        """
        found = {}
        for name in self._record.types:
            parts = AcceptedParts.read(paths, name)
            used = parts.used_in(image.image for image in self._record.images(name) if image.is_ok)
            known = parts.in_words("known_defects")
            if used or known:
                found[name] = {"good_parts": used, "known_defects": known}
        return found


def find_training_data(input_path: str | Path | None, config: PhotographConfig) -> list[TrainingData]:
    """Read the ``out.npz`` files to train on: one file per type, or one file for all types.

    Args:
        input_path: A file, or a folder with such files; None for those of the component.
        config: The configuration.

    Raises:
        InputError: A file is missing, or cannot be used for training.
    """
    trained_types(config)  # completes a change of a model that was interrupted
    name = config.preprocessing.preprocessor.file_name
    root = Path(input_path) if input_path is not None else config.paths.resolve("component_model_path")
    one_hot = config.model_training.one_hot_encoding
    if root.is_file() or root.suffix == ".npz":
        files = [root]
    elif one_hot or ((root / name).is_file() and input_path is not None):
        files = [root / name]
    else:
        files = sorted(root.glob(f"*/{name}"))
    missing = [path for path in files if not path.is_file()]
    if not files or missing:
        path = missing[0] if missing else root / "TYPE" / name
        raise InputError(f"{path} does not exist; run preprocess first")
    return [TrainingData(None if one_hot else path.resolve().parent.name, path) for path in files]


def _warn_if_few(name: str, count: int) -> None:
    if count == 1:
        _log.warning(
            "%s: only 1 good image, so none can be held out; spread and threshold are estimated from shifted copies of "
            "the image, and only large defects are found (%d or more images recommended)",
            name,
            RECOMMENDED,
        )
    elif count < RECOMMENDED:
        _log.warning(
            "%s: only %d good images; the threshold comes from a fitted tail, and more defects are missed "
            "(%d or more images recommended)",
            name,
            count,
            RECOMMENDED,
        )
