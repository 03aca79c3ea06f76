"""Every parameter of PIXAL: its type, range, default and meaning, in one place.

The class tree mirrors ``parameters.yaml``; ``config.preprocessing.preprocessor.pool_size`` is reached as it is written
there. Names in capitals are those of existing users' files and stay as they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from pixal.errors import ConfigError
from pixal.registry import class_of
from pixal.tasks.photographs.network_input.channels import channel_names

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Box = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Count, Count]


class Section(BaseModel):
    """A part of the settings: read-only, and no key that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class RemoveBackground(Section):
    """How the part is found on the photograph."""

    method: Literal["auto", "rembg", "border", "none"] = "auto"
    model: str = "u2net"
    model_file: str | None = None
    alpha_matting: bool = False
    max_workers: Count | None = None
    rename_images: bool | None = None


class Alignment(Section):
    """How a photograph is brought to the reference frame, and when that counts as done."""

    apply_alignment: bool = True
    model: Literal["homography", "affine", "similarity"] = "homography"
    reference: str | dict[str, str] | None = None
    knn_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    number_of_points: Annotated[int, Field(ge=50)] = 2000
    ransac_threshold: Positive = 2.0
    MIN_SCORE_THRESHOLD: Annotated[float, Field(ge=-1, le=1)] = 0.5
    MAX_MSE_THRESHOLD: Positive = 2000.0
    MIN_GOOD_MATCHES: Annotated[int, Field(ge=4)] = 25
    MIN_OVERLAP: Fraction = 0.8
    draw_matches: bool | None = None
    save_metrics: bool | None = None
    save_overlays: bool | None = None


class Preprocessor(Section):
    """How aligned photographs become the network's input."""

    file_name: Annotated[str, Field(pattern=r"^[^/\\]+\.npz$")] = "out.npz"
    pool_size: Count = 2
    channels: list[str] = ["LAB_L", "LAB_a", "LAB_b", "GradMag"]
    weights: list[Annotated[float, Field(ge=0)]] | None = None
    zero_pruning: bool = True
    zero_pruning_padding: Annotated[int, Field(ge=0)] = 0
    bg_threshold: Annotated[float, Field(ge=0, le=255)] = 0.0
    consensus: Annotated[float, Field(gt=0, lt=1)] = 0.5
    edge_margin: Annotated[int, Field(ge=0)] = 2
    mask: str | dict[str, str] | None = None
    ignore_regions: dict[str, list[Box] | str] = {}
    light_matching: Literal["gain", "field", "none"] = "gain"

    @field_validator("channels", mode="before")
    @classmethod
    def _known_channels(cls, value: Any) -> list[str]:
        if not isinstance(value, str | list) or not all(isinstance(name, str) for name in value):
            raise ValueError('channels is a list of names, or "ALL"')
        try:
            return channel_names(value)
        except ConfigError as error:  # pydantic adds the place to a ValueError only
            raise ValueError(str(error).removeprefix("channels: ")) from error

    @field_validator("weights")
    @classmethod
    def _one_weight_a_channel(cls, value: list[float] | None, info: ValidationInfo) -> list[float] | None:
        channels = info.data.get("channels")  # not there if they are at fault themselves
        if value is not None and channels is not None:
            if len(value) != len(channels):
                raise ValueError(
                    f"weights holds {len(value)} values for {len(channels)} channels; give one weight a channel"
                )
            if not sum(value):
                raise ValueError("weights are all 0; at least one channel must count")
        return value


class Preprocessing(Section):
    """From photographs to ``out.npz``."""

    rename_images: bool = False
    draw_matches: bool = True
    save_metrics: bool = True
    save_overlays: bool = True
    remove_background: RemoveBackground = RemoveBackground()
    alignment: Alignment = Alignment()
    preprocessor: Preprocessor = Preprocessor()

    @model_validator(mode="after")
    def _one_value_a_switch(self) -> Preprocessing:
        """A switch may stand in either place; the nearer one wins, and both are then read as the same."""
        for name, keys in (
            ("remove_background", ("rename_images",)),
            ("alignment", ("draw_matches", "save_metrics", "save_overlays")),
        ):
            section = getattr(self, name)
            values = {key: getattr(self if getattr(section, key) is None else section, key) for key in keys}
            # A copy: a section that no file names is the class's default, which all settings share.
            for key, value in {name: section.model_copy(update=values), **values}.items():
                object.__setattr__(self, key, value)
        return self


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
            class_of(value)
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


class Plotting(Section):
    """Which figures are written, and the cut on raw loss of existing configurations."""

    plot_loss: bool = True
    plot_accuracy: bool = True
    plot_confusion_matrix: bool = True
    plot_roc_recall_curve: bool = True
    plot_anomaly_heatmap: bool = True
    plot_abs_loss_per_pixel: bool = True
    plot_mse_per_pixel: bool = True
    plot_pixel_predictions: bool = True
    plot_distributions: bool = True
    plot_latent_space: bool = True
    use_log_loss: bool = True
    loss_cut: Literal["auto"] | float = "auto"


class Threshold(Section):
    """How the threshold on a part's score is set."""

    method: Literal["auto", "conformal", "tail", "sigma", "fixed"] = "auto"
    value: Positive | None = None

    @model_validator(mode="after")
    def _value_where_it_counts(self) -> Threshold:
        needs = self.method in ("sigma", "fixed")
        if needs != (self.value is not None):
            raise ValueError(
                f"method {self.method!r} needs a value (sigma: how many; fixed: the score)"
                if needs
                else f"value only counts with method sigma or fixed, not with {self.method!r}"
            )
        return self


class Validation(Section):
    """From errors to verdicts."""

    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    threshold: Threshold = Threshold()
    map_smoothing: Annotated[float, Field(ge=0)] = 1.0
    region_threshold: Annotated[float, Field(gt=0, le=1)] = 0.6
    pixel_size_mm: Positive | None = None
    drift_level: Annotated[float, Field(gt=0, lt=1)] = 0.01
    save_anomaly_maps: bool = True
    watch_interval: Positive = 2.0


class Execution(Section):
    """Where the work is done."""

    backend: Literal["threads", "processes", "dask"] = "threads"
    workers: Count | None = None
    scheduler: str | None = None
    memory_limit: Positive = 4.0

    @field_validator("scheduler")
    @classmethod
    def _scheduler_is_for_dask(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("backend", "dask") != "dask":
            raise ValueError(f"scheduler only counts with backend dask, not with {info.data['backend']!r}")
        return value


class Parameters(Section):
    """The whole of ``parameters.yaml``."""

    experimentName: str = "PIXAL"
    preprocessing: Preprocessing = Preprocessing()
    model_training: ModelTraining = ModelTraining()
    plotting: Plotting = Plotting()
    validation: Validation = Validation()
    execution: Execution = Execution()
