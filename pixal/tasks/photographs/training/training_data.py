"""What a training run is given: good parts of one type or of all, and what preprocessing has learned of each type."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.io.files import file_hash
from pixal.io.records import read_record
from pixal.tasks.photographs.preprocessing.conditions import Conditions
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD, STATE_FILE
from pixal.tasks.photographs.preprocessing.input_step import on_canvas
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.train_model.training import TrainingSet

_log = logging.getLogger(__name__)

_ADVISED = 8  # good images of a type


class TrainingData:
    """Good parts to train on.

    inputs: of all types the model is to serve. states: the preprocessing of each, by its name. sha256: of the inputs'
    file.
    """

    def __init__(self, owner: str | None, path: Path) -> None:
        """Read the ``out.npz`` at ``path``; ``owner``: the type it is of, or None for all types together.

        Raises InputError for what cannot be trained on.
        """
        self._owner, self._path, self._folder = owner, path, path.parent
        self.inputs = InputSet.load(path)
        if (owner is None) != bool(self.inputs.types):
            made = "one-hot labels" if self.inputs.types else "no labels"
            raise InputError(
                f"{path} holds {made}, but one_hot_encoding is {owner is None}; "
                "run make_input again, or change the setting"
            )
        self._record = read_record(self._folder / "metadata" / PREPROCESSING_RECORD)
        self.sha256 = file_hash(path)
        self.states = {name: PreprocessingState.load(self.state_file(name)) for name in self._record["types"]}
        if self._record["sha256"] != self.sha256:
            raise InputError(f"{path} is not what make_input recorded beside it; run make_input again")
        for index, (name, state) in enumerate(self.states.items()):
            count = len(self.inputs.rows_of_type(index))
            if not count:
                raise InputError(f"{name}: {path} holds no good image of it; run make_input again")
            _warn_of_few(name, count)
            if tuple(state.shape[2:]) != self.inputs.shape[2:]:
                raise InputError(
                    f"{path} holds {self.inputs.shape[2]} channels, its preprocessing {state.shape[2]}; "
                    "run make_input again"
                )

    def state_file(self, name: str) -> Path:
        """Where the preprocessing of a type left what it learned."""
        folder = self._folder / name if self._owner is None else self._folder
        return folder / "metadata" / STATE_FILE

    def training_set(self, component: str) -> TrainingSet:
        """The data of this model, as ``train_models`` takes it."""
        owner = self._owner
        return TrainingSet(
            owner,
            owner or component,
            self._path,
            self.sha256,
            self.inputs,
            tuple(self.states),
            self.masks,
            tuple(self.channel_weights),
            {"preprocessing": [file_hash(self.state_file(name)) for name in self.states]},
        )

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Where each type's part is, in the model's frame: (T, H, W)."""
        frame = (*self.inputs.shape[:2], 1)
        return np.stack([on_canvas(state.mask[..., None], frame)[..., 0] for state in self.states.values()])

    @property
    def channel_weights(self) -> list[float]:
        """How much each channel counts."""
        settings = next(iter(self.states.values())).settings.preprocessor
        return [float(weight) for weight in settings.weights or [1.0] * self.inputs.shape[2]]

    @property
    def conditions(self) -> list[Conditions]:
        """How the photographs of each type were taken, as far as make_input has noted it."""
        tried, made = self._record.get("photographs", {}), self._record.get("made", ())
        rows: dict[str, list[Any]] = {
            name: [row for one in made for row in one["images"].get(name, ())] for name in self.states
        }
        return [Conditions.of(rows[name], tried.get(name, 0)) for name in self.states]


def find_sources(input_path: str | Path | None, config: PhotographConfig) -> list[tuple[str | None, Path]]:
    """The ``out.npz`` files to train on, each with the type it is of (None: all types together)."""
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
        what = missing[0] if missing else root / "TYPE" / name
        raise InputError(f"{what} does not exist; run preprocess first")
    return [(None if one_hot else path.resolve().parent.name, path) for path in files]


def _warn_of_few(name: str, count: int) -> None:
    if count == 1:
        _log.warning(
            "%s: only 1 good image, so nothing can be held out: spread and threshold are guesses from the image's own "
            "texture, which only large faults exceed (%d or more images are advised)",
            name,
            _ADVISED,
        )
    elif count < _ADVISED:
        _log.warning(
            "%s: only %d good images; verdicts rest on a fitted tail and miss more (%d or more are advised)",
            name,
            count,
            _ADVISED,
        )
