"""The settings of the task "photographs": from photographs to verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pixal.calibration.settings import Threshold
from pixal.config import Config, load_config
from pixal.config.schema import Parameters
from pixal.config.section import Count, Fraction, Mark, Positive, Section
from pixal.errors import ConfigError
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.channels import channel_names


class RemoveBackground(Section):
    """How the part is found on the photograph."""

    method: Literal["auto", "rembg", "border", "none"] = "auto"
    model: str = "u2net"
    model_file: str | None = None
    alpha_matting: bool = False
    max_workers: Annotated[Count | None, Mark.NO_RESULT] = None
    rename_images: Annotated[bool | None, Mark.NO_RESULT] = None


class AlignmentSettings(Section):
    """How a photograph is brought to the reference frame, and when that counts as done."""

    apply_alignment: bool = True
    model: Literal["homography", "affine", "similarity"] = "homography"
    reference: str | dict[str, str] | None = None
    knn_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    number_of_points: Annotated[int, Field(ge=50)] = 2000
    ransac_threshold: Positive = 2.0
    MIN_SCORE_THRESHOLD: Annotated[Annotated[float, Field(ge=-1, le=1)], Mark.PER_BATCH] = 0.5
    MAX_MSE_THRESHOLD: Annotated[Positive, Mark.PER_BATCH] = 2000.0
    MIN_GOOD_MATCHES: Annotated[Annotated[int, Field(ge=4)], Mark.PER_BATCH] = 25
    MIN_OVERLAP: Annotated[Fraction, Mark.PER_BATCH] = 0.8
    draw_matches: Annotated[bool | None, Mark.NO_RESULT] = None
    save_metrics: Annotated[bool | None, Mark.NO_RESULT] = None
    save_overlays: Annotated[bool | None, Mark.NO_RESULT] = None


class Preprocessor(Section):
    """How aligned photographs become the network's input."""

    file_name: Annotated[Annotated[str, Field(pattern=r"^[^/\\]+\.npz$")], Mark.NO_RESULT] = "out.npz"
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

    rename_images: Annotated[bool, Mark.NO_RESULT] = False
    draw_matches: Annotated[bool, Mark.NO_RESULT] = True
    save_metrics: Annotated[bool, Mark.NO_RESULT] = True
    save_overlays: Annotated[bool, Mark.NO_RESULT] = True
    remove_background: RemoveBackground = RemoveBackground()
    alignment: AlignmentSettings = AlignmentSettings()
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


class Plotting(Section):
    """Which figures are written, and the cut on raw loss of existing configurations."""

    plot_loss: Annotated[bool, Mark.NO_RESULT] = True
    plot_accuracy: Annotated[bool, Mark.NO_RESULT] = True
    plot_confusion_matrix: Annotated[bool, Mark.NO_RESULT] = True
    plot_roc_recall_curve: Annotated[bool, Mark.NO_RESULT] = True
    plot_anomaly_heatmap: bool = True
    plot_abs_loss_per_pixel: Annotated[bool, Mark.NO_RESULT] = True
    plot_mse_per_pixel: Annotated[bool, Mark.NO_RESULT] = True
    plot_pixel_predictions: Annotated[bool, Mark.NO_RESULT] = True
    plot_distributions: Annotated[bool, Mark.NO_RESULT] = True
    plot_latent_space: bool = True
    use_log_loss: bool = True
    loss_cut: Literal["auto"] | float = "auto"


class Validation(Section):
    """From errors to verdicts."""

    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    threshold: Threshold = Threshold()
    map_smoothing: Annotated[float, Field(ge=0)] = 1.0
    region_threshold: Annotated[float, Field(gt=0, le=1)] = 0.6
    pixel_size_mm: Positive | None = None
    drift_level: Annotated[Annotated[float, Field(gt=0, lt=1)], Mark.NO_RESULT] = 0.01
    save_anomaly_maps: bool = True
    watch_interval: Annotated[Positive, Mark.NO_RESULT] = 2.0


class PhotographParameters(Parameters):
    """The whole of ``parameters.yaml`` for photographs."""

    preprocessing: Preprocessing = Preprocessing()
    plotting: Plotting = Plotting()
    validation: Validation = Validation()


@dataclass(frozen=True)
class PhotographConfig(Config):
    """The settings of a run on photographs: ``config.preprocessing.preprocessor.pool_size``, and so on."""

    parameters: PhotographParameters

    @property
    def preprocessing(self) -> Preprocessing:
        """From photographs to ``out.npz``."""
        return self.parameters.preprocessing

    @property
    def plotting(self) -> Plotting:
        """Which figures are written."""
        return self.parameters.plotting

    @property
    def validation(self) -> Validation:
        """From errors to verdicts."""
        return self.parameters.validation


def photograph_config(config: Config | str | Path | None) -> PhotographConfig:
    """Settings already loaded, or those in a folder (None: where ``load_config`` looks).

    Raises ConfigError for the settings of another task.
    """
    loaded = config if isinstance(config, Config) else load_config(config)
    if not isinstance(loaded, PhotographConfig):
        raise ConfigError(f"task: {loaded.parameters.task} given where the settings of task photographs are needed")
    return loaded
