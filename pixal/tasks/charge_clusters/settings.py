"""The sections of ``parameters.yaml`` for charge clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pixal.config import Config
from pixal.config.schema import ModelTraining, Parameters
from pixal.config.section import Count, Mark, Positive, Section
from pixal.errors import ConfigError

MODELS = ("mdn", "mdn_float")

DEFAULTS = Path(__file__).parent / "defaults"
"""Folder of the file with all settings and their defaults."""

# Settings of photographs and autoencoders. A value that would have no effect is an error.
NOT_USED = frozenset(
    {
        *("one_hot_encoding", "gpus", "mixed_precision", "HYBRID_MODE", "autoencoder_architecture"),
        *("label_latent_size", "input_projection", "projection_rank", "input_noise", "output_activation"),
        *("use_gradient_tape", "regularization", "l1_regularization", "l2_regularization", "loss_function"),
        *("huber_delta", "masked_loss", "metric_accuracy", "calibration_folds", "budget_s", "augmentation"),
    }
)


class Clusters(Section):
    """From parquet files to model input.

    Attributes:
        rows: Pixels along y.
        columns: Pixels along x.
        pitch: Size of a pixel along x and y, in µm; the charge-weighted centroid needs it.
        time_slices: Time slices in the files.
        slices: The slices that the network gets, counted from 0; ``all``: all.
        contained: Whether clusters that reach the edge of the array are left out.
        edge_charge: Electrons on the outermost pixels from which on a cluster counts as not contained.
        validation_fraction: Share of the events that decides when training stops.
        test_fraction: Share of the events that training never sees.
        noise: Standard deviation in electrons of Gaussian noise that is added to each pixel and slice.
        logarithm: Use sign(q) log2(1 + |q|) instead of the charge q.
        thresholds: Charges in electrons; a pixel becomes the number of those that it reaches, over their count. None:
            no digitisation.
        bits: Round the normalised charge to this many bits, with sign. None: no rounding.
        standardize: Whether the mean of the nonzero charges is subtracted before scaling, as in the publication. Then a
            pixel with the mean charge looks like one without charge.
        clip_percentile: Percentile of the positive charges that becomes 1; its negative becomes -1. With
            ``standardize``: of the standardised positive (and of the negative) charges that becomes 1 (and -1).
        scale_slices: Whether each slice has a percentile of its own; the first slices hold less charge. False: all
            slices are divided by the same one, as in the publication.
        label_scales: What x, y (µm), cotAlpha and cotBeta are divided by; ``auto``: the 99th percentile of their
            absolute values in the training events. With an ``origin`` other than ``sensor``, those of x and y are the
            99th percentiles of the distances from it.
        origin: What x and y are measured from when they are learned. ``head_tail``: the position that the first and
            last pixels of wide clusters tell, and the centroid of narrow ones. ``centroid_eta``: the charge-weighted
            centroid with eta correction. Both are fitted on training events. ``sensor``: the middle of the sensor, as
            in the publication.
    """

    rows: Annotated[int, Field(ge=3, le=1024)] = 13
    columns: Annotated[int, Field(ge=3, le=1024)] = 21
    pitch: Annotated[list[Positive], Field(min_length=2, max_length=2)] = [50.0, 12.5]
    time_slices: Annotated[int, Field(ge=1, le=1024)] = 20
    slices: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | Literal["all"] = [0, 19]
    contained: bool = False
    edge_charge: Positive = 50.0
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    noise: Annotated[float, Field(ge=0)] = 0.0
    logarithm: bool = False
    thresholds: Annotated[list[Positive], Field(min_length=1)] | None = None
    bits: Annotated[int, Field(ge=2, le=16)] | None = None
    standardize: bool = False
    clip_percentile: Annotated[float, Field(gt=50, le=100)] = 90.0
    scale_slices: bool = True
    label_scales: Annotated[list[Positive], Field(min_length=4, max_length=4)] | Literal["auto"] = [
        75.0,
        18.75,
        8.0,
        0.5,
    ]
    origin: Literal["head_tail", "centroid_eta", "sensor"] = "head_tail"

    @field_validator("slices")
    @classmethod
    def _slices_exist(cls, value: Any, info: ValidationInfo) -> Any:
        count = info.data.get("time_slices", 0)
        if value != "all" and (max(value) >= count or sorted(set(value)) != value):
            raise ValueError(f"must rise, without repetition, and lie below time_slices, {count}; not {value}")
        return value

    @field_validator("thresholds")
    @classmethod
    def _thresholds_rise(cls, value: Any) -> Any:
        if value and sorted(set(value)) != value:
            raise ValueError(f"must rise, without repetition; not {value}")
        return value

    @property
    def used_slices(self) -> tuple[int, ...]:
        """The slices that the network gets."""
        return tuple(range(self.time_slices)) if self.slices == "all" else tuple(self.slices)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the network's input: rows, columns, slices."""
        return self.rows, self.columns, len(self.used_slices)


class ClusterTraining(ModelTraining):
    """The section ``model_training``, with the defaults of this task. See ``ModelTraining``.

    Attributes:
        model: ``mdn``: the quantised network. ``mdn_float``: a larger one without quantisation.
        gradient_clip: Largest global norm of the gradient of a step; a larger one is scaled down. None: no limit.
        warm_up_epochs: Number of first epochs in which the covariance is fixed, which minimises the squared error;
            at most half of ``n_epochs``.
    """

    model: str = "mdn"
    n_epochs: Count = 30
    batchsize: Count = 256
    learning_rate: Positive = 0.005
    learning_rate_schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    patience: Annotated[int, Field(ge=0)] = 10
    gradient_clip: Positive | None = 1.0
    warm_up_epochs: Annotated[int, Field(ge=0)] = 2

    @field_validator("model")
    @classmethod
    def _known_family(cls, value: str) -> str:
        if value not in MODELS:
            raise ValueError(f"{value!r} is not one of {', '.join(MODELS)}")
        return value

    @model_validator(mode="after")
    def _all_have_an_effect(self) -> ClusterTraining:
        for name in sorted(NOT_USED & self.model_fields_set):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} has no effect on charge clusters; remove it")
        return self


class ClusterValidation(Section):
    """From predictions to results.

    Attributes:
        unusual_rate: Share of usual clusters that may be flagged as unusual: the largest p-value that is flagged.
        displays: Number of events that the figures and the report show one by one.
    """

    unusual_rate: Annotated[float, Field(gt=0, lt=1), Mark.NOT_IN_TRAINING] = 0.001
    displays: Annotated[int, Field(ge=0, le=1000), Mark.NO_RESULT] = 24


class ClusterParameters(Parameters):
    """All sections of ``parameters.yaml`` for charge clusters."""

    task: str = "charge_clusters"
    clusters: Clusters = Clusters()
    model_training: ClusterTraining = ClusterTraining()
    validation: ClusterValidation = ClusterValidation()


@dataclass(frozen=True)
class ClusterConfig(Config):
    """The configuration of a run on charge clusters."""

    parameters: ClusterParameters

    @property
    def clusters(self) -> Clusters:
        """From parquet files to model input."""
        return self.parameters.clusters

    @property
    def validation(self) -> ClusterValidation:
        """From predictions to results."""
        return self.parameters.validation


def cluster_config(config: Config) -> ClusterConfig:
    """Return the configuration of a run on charge clusters.

    Raises:
        ConfigError: It belongs to another task.
    """
    if not isinstance(config, ClusterConfig):
        raise ConfigError(f"task: {config.parameters.task} is configured; this function needs charge_clusters")
    return config
