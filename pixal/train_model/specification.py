"""The specification of a model, and the record that training stores in ``metadata/model_training.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator

from pixal.config.schema import ModelTraining
from pixal.config.section import Count, Positive
from pixal.errors import ModelError
from pixal.io.names import printable

Specification = TypeVar("Specification", bound="ModelSpecification")


class ModelSpecification(ModelTraining):
    """The specification of a model: the settings of ``model_training`` and a description of the input.

    Unknown keys are ignored, because ``metadata/model_training.yaml`` holds more. A setting that was added after a
    model was trained has its default. A family that stores values found by a fit derives a class of its own.

    Attributes:
        model: The name of the model family.
        model_name: The name of the model's files, without extension.
        input_dim: The number of values in an input, H * W * C.
        shape: The shape of an input, (H, W, C).
        channels: The names of the C channels.
        channel_weights: The weight of each of the C channels in the loss and in the score.
        gives_distance: Whether the model's error is a distance, (H, W, 1), instead of a difference, (H, W, C).
        gives_reconstruction: Whether a model that gives a distance also has reconstructions.
        types: The names of the T types, in the order of the one-hot labels.
        aligned: Whether a pixel is the same place on all parts. False for textures.
        memory_limit: The memory that training may use for data, in GB.
    """

    model_config = ConfigDict(extra="ignore")

    # Required here: a stored model cannot be rebuilt from a default.
    model: str
    model_name: str
    one_hot_encoding: bool
    autoencoder_architecture: list[Count]

    input_dim: Count
    shape: tuple[Count, Count, Count]
    channels: tuple[str, ...]
    channel_weights: tuple[Annotated[float, Field(ge=0)], ...]
    gives_distance: bool = False
    gives_reconstruction: bool = False
    types: tuple[str, ...]
    aligned: bool = True
    memory_limit: Positive

    @model_validator(mode="after")
    def _values_match(self) -> ModelSpecification:
        """The values describe the same input. Checked before anything of that size is made."""
        if self.input_dim != prod(self.shape):
            raise ValueError(f"input_dim is {self.input_dim}, but the shape {self.shape} has {prod(self.shape)} values")
        for name, values in (("channels", self.channels), ("channel_weights", self.channel_weights)):
            if len(values) != self.shape[2]:
                raise ValueError(f"{name} holds {len(values)} values, but the shape has {self.shape[2]} channels")
        for name, names in (("channels", self.channels), ("types", self.types)):
            if len(set(names)) != len(names):
                raise ValueError(f"{name} names one of {names} twice")
        if not any(self.channel_weights):
            raise ValueError("channel_weights are all 0")
        return self

    @property
    def error_weights(self) -> dict[str, float]:
        """The channels of the model's error, and the weight of each in the score."""
        if self.gives_distance:
            return {"distance": 1.0}
        return dict(zip(self.channels, self.channel_weights, strict=True))

    @property
    def difference_channels(self) -> tuple[str, ...]:
        """The channels of the difference between input and reconstruction; none for a model without reconstructions."""
        return self.channels if self.gives_reconstruction or not self.gives_distance else ()

    @classmethod
    def read(cls: type[Specification], content: Mapping[str, Any] | ModelSpecification) -> Specification:
        """Check ``content``: a mapping as ``metadata/model_training.yaml`` holds it, or another specification.

        Raises:
            ModelError: A key is missing or has a bad value.
        """
        if type(content) is cls:
            return content
        mapping = content.model_dump() if isinstance(content, ModelSpecification) else dict(content)
        try:
            return cls.model_validate(mapping)
        except ValidationError as error:
            raise ModelError(
                f"the model's metadata {_problem(error)}; run train again, or pass the whole content of "
                "metadata/model_training.yaml"
            ) from error


class ModelRecord(ModelSpecification):
    """The content of ``metadata/model_training.yaml``, which training writes when a model is complete.

    Keys that a family or a task adds are kept.

    Attributes:
        created: When training ended, in ISO 8601.
        pixal_version: The version of PIXAL that trained the model.
        component: The name of the component.
        input: The file of the inputs.
        input_sha256: The SHA-256 of that file.
        fingerprint: A hash of everything that the model depends on.
        n_images: The number of good parts.
        epochs_trained: The number of epochs; 0 for a family without epochs.
        final_loss: The training loss of the last epoch; None for a family without epochs.
        training_seconds: The duration of training, including interrupted runs.
        hardware: The devices, threads and precision in use.
        settings: All parameters of the run.
        files: The SHA-256 of each file that verdicts depend on, by its path in the model's folder.
        checkpoints: The files with the weights of some epochs (``checkpoint_every``).
        extended_to: The number of epochs after ``train --resume --epochs``; None if none were added.
        training_state_sha256: The SHA-256 of the state from which training can continue; None if there is none.
        record_sha256: The SHA-256 of everything else in the record, see ``pixal.io.records.with_hash``.
    """

    model_config = ConfigDict(extra="allow")

    created: str
    pixal_version: str
    component: str
    input: Path
    input_sha256: str
    fingerprint: str
    n_images: int
    epochs_trained: int
    final_loss: float | None
    training_seconds: float
    hardware: dict[str, Any]
    settings: dict[str, Any]
    files: dict[str, str]
    checkpoints: tuple[str, ...] = ()
    extended_to: int | None = None
    training_state_sha256: str | None = None
    record_sha256: str


def _problem(error: ValidationError) -> str:
    """The first problem of ``error`` in words: all missing keys, or one bad value."""
    problems = error.errors()
    missing = [
        str(problem["loc"][0]) for problem in problems if problem["type"] == "missing" and len(problem["loc"]) == 1
    ]
    if missing:
        return f"lack {', '.join(map(repr, missing))}"
    message = problems[0]["msg"].removeprefix("Value error, ")
    key = printable(".".join(map(str, problems[0]["loc"])))
    return f"have a bad value for {key} ({message})" if key else f"do not fit together ({message})"
