"""The settings that all tasks share: the model, its training, and where work is done.

The class tree mirrors ``parameters.yaml``. Names in capitals are those of existing users' files and stay as they are.
The sections of a task are in the task's own ``settings.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pixal.config.section import Count, Fraction, Mark, Positive, Section
from pixal.errors import ConfigError
from pixal.registry import MODELS


class ModelTraining(Section):
    """The model, its loss, and how it is trained."""

    model: str = "autoencoder"
    model_options: dict[str, Any] = {}
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    model_file_extension: Literal["keras", "h5"] = "keras"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    one_hot_encoding: bool = False

    gpus: Count = 1
    enable_memory_growth: bool = True
    TF_GPU_ALLOCATOR: str | None = None
    mixed_precision: bool = False
    Available_CPU: Count | None = None
    CPU_MULTI_THREADING: bool = True
    HYBRID_MODE: bool = False

    autoencoder_architecture: Annotated[list[Count], Field(min_length=1)] = [512, 256, 128, 64]
    label_latent_size: Count = 8
    input_projection: Literal["auto", "none"] = "auto"
    projection_rank: Count | None = None
    input_noise: Annotated[float, Field(ge=0)] = 0.1
    output_activation: Literal["linear", "sigmoid", "tanh", "relu"] = "linear"

    use_gradient_tape: bool = False
    jit_compile: bool = False
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    n_epochs: Count = 300
    batchsize: Count = 32
    learning_rate: Positive = 0.001
    learning_rate_schedule: Literal["constant", "cosine", "plateau"] = "constant"
    learning_rate_end: Fraction = 0.01
    plateau_patience: Count = 10
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    optimizer: str = "adam"
    regularization: Literal["l1", "l2", "l1_l2"] | None = None
    l1_regularization: Annotated[float, Field(ge=0)] = 1e-6
    l2_regularization: Annotated[float, Field(ge=0)] = 1e-6
    loss_function: Literal["mse", "mae", "huber", "charbonnier", "masked_mse"] = "mse"
    huber_delta: Positive = 0.05
    masked_loss: bool = False
    metric_accuracy: bool = True
    patience: Annotated[int, Field(ge=0)] = 30
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    calibration_folds: Annotated[int, Field(ge=2)] = 5

    @field_validator("model")
    @classmethod
    def _known_family(cls, value: str) -> str:
        try:
            MODELS.class_path(value)
        except ConfigError as error:  # pydantic adds the place to a ValueError only
            raise ValueError(str(error).removeprefix("model_training.model: ")) from error
        return value

    @model_validator(mode="after")
    def _named_by_its_family(self) -> ModelTraining:
        if self.model_name is None:
            object.__setattr__(self, "model_name", f"pixal_{self.model}")
        return self

    @field_validator("HYBRID_MODE")
    @classmethod
    def _hybrid_on_one_gpu(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("gpus", 1) > 1:
            raise ValueError(f"HYBRID_MODE only goes with one GPU, not with gpus {info.data['gpus']}")
        return value

    @field_validator("model_file_extension", mode="before")
    @classmethod
    def _without_dot(cls, value: Any) -> Any:
        return value.removeprefix(".") if isinstance(value, str) else value

    @field_validator("regularization", mode="before")
    @classmethod
    def _none_by_name(cls, value: Any) -> Any:
        return None if value in ("none", "None", "", False) else value


class Execution(Section):
    """Where the work is done."""

    backend: Annotated[Literal["threads", "processes", "dask"], Mark.NO_RESULT] = "threads"
    workers: Annotated[Count | None, Mark.NO_RESULT] = None
    scheduler: Annotated[str | None, Mark.NO_RESULT] = None
    memory_limit: Annotated[Positive, Mark.NO_RESULT] = 4.0

    @field_validator("scheduler")
    @classmethod
    def _scheduler_is_for_dask(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("backend", "dask") != "dask":
            raise ValueError(f"scheduler only counts with backend dask, not with {info.data['backend']!r}")
        return value


class Parameters(Section):
    """The whole of ``parameters.yaml``; a task derives its own from this and adds its sections."""

    experimentName: Annotated[str, Mark.NO_RESULT] = "PIXAL"
    task: str = "photographs"
    model_training: ModelTraining = ModelTraining()
    execution: Execution = Execution()
