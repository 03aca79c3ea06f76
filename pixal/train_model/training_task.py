"""The interface between training and the tasks that train models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.family import Rows
from pixal.train_model.folds import Fitted
from pixal.train_model.specification import ModelSpecification


@dataclass(frozen=True)
class TrainingSet:
    """The training set of one model.

    Attributes:
        owner: The type that the model is for; None for one model of all types.
        label: The name of the model in messages.
        path: The file of the inputs.
        sha256: The SHA-256 of that file.
        inputs: The good parts.
        types: The names of the T types.
        masks: The consensus mask of each type, (T, H, W) bool.
        channel_weights: The weight of each of the C channels in the loss and in the score.
        aligned: Whether a pixel is the same place on all parts.
        depends_on: What else the model depends on, by the names that messages use.
    """

    owner: str | None
    label: str
    path: Path
    sha256: str
    inputs: InputSet
    types: tuple[str, ...]
    masks: NDArray[np.bool_]
    channel_weights: tuple[float, ...]
    aligned: bool = True
    depends_on: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FinishedFit:
    """A fitted model before it is stored.

    Attributes:
        training_set: What it was trained on.
        fitted: The model and the histories of its fits.
        folds: The rows held out in each fit.
        errors: The errors of the n held-out rows in the order of the rows, (n, H, W, C).
        specification: What the model was built from.
    """

    training_set: TrainingSet
    fitted: Fitted
    folds: Sequence[Rows]
    errors: NDArray[np.float32]
    specification: ModelSpecification


@dataclass(frozen=True)
class Finished:
    """The files, figures and metadata that a task adds to a fitted model.

    Attributes:
        figures: Figure files, to be tracked.
        record: Entries for the model's record, as YAML values by key.
    """

    figures: list[Path]
    record: dict[str, Any]

    def save(self, folder: Path) -> list[Path]:
        """Write the task's files into the model's folder; return them. They are verified when the model is loaded."""
        return []


class TrainingTask(ABC):
    """The interface of a task that trains models. It is sent to the workers of a cluster."""

    def __getstate__(self) -> dict[str, Any]:
        """Without the data that were read: a worker reads them itself."""
        cached = {name for name in self.__dict__ if isinstance(getattr(type(self), name, None), cached_property)}
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    @property
    def holds_out(self) -> bool:
        """Whether good parts are held out in turn to measure their errors. This needs an ``AnomalyModel``."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """The task's settings that a stored model depends on, by the names that messages use."""
        return {}

    @abstractmethod
    def training_sets(self) -> list[TrainingSet]:
        """Collect the data of each model to train.

        Raises:
            InputError: There are no data.
        """

    def check_unchanged(self) -> None:
        """Check, once the folders of the models are locked, that the data are still those of ``training_sets``.

        Raises:
            InputError: They have changed meanwhile.
        """
        return

    def check_held_out(self, count: int) -> None:
        """Check that ``count`` held-out parts are enough for the settings.

        Raises:
            ConfigError: They are too few.
        """
        return

    def finish(self, fit: FinishedFit) -> Finished:
        """Calibrate the model, draw figures, or do whatever else the task needs before the model is stored."""
        return Finished([], {})
