"""Settings of the task ``photographs``.

The class tree and the order of the fields mirror ``configs/parameters.yaml``. Names in capitals come from existing
users' files and stay as they are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pixal.calibration.settings import Threshold
from pixal.config import Config, load_config
from pixal.config.former import FormerValue
from pixal.config.schema import Parameters
from pixal.config.section import Count, Fraction, Mark, Positive, Section
from pixal.errors import ConfigError
from pixal.notifications.settings import Notify
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.channels import channel_names

_FEWEST_POINTS = 50
_WRAPPED_MSE = 10.0  # the limit in configurations of the first version


class RemoveBackground(Section):
    """How the part is found on a photograph.

    Attributes:
        method: ``border``: from the colours along the photograph's border; ``rembg``: with a network; ``none``: the
            whole photograph is the part; ``auto``: the one whose masks agree best on a few photographs.
        model: Name of a rembg model.
        model_file: File with the model's weights (``.onnx``). None: the default folder of rembg.
        alpha_matting: Whether rembg refines the outline (slow).
        max_workers: Photographs processed in parallel. None: ``execution.workers``.
        rename_images: Overrides ``preprocessing.rename_images``.
    """

    method: Literal["auto", "rembg", "border", "none"] = "auto"
    model: str = "u2net"
    model_file: str | None = None
    alpha_matting: bool = False
    max_workers: Annotated[Count | None, Mark.NO_RESULT] = None
    rename_images: Annotated[bool | None, Mark.NO_RESULT] = None


class AlignmentSettings(Section):
    """How a photograph is moved to the reference frame, and the limits it must meet there.

    Attributes:
        apply_alignment: True: photographs are aligned. False: they are already aligned; only the limits are checked.
            ``texture``: they show no part in a fixed place, and are used as they are, without limits. ``auto``:
            ``texture`` if they have no outline and cannot be aligned, else True.
        model: Type of the transformation.
        reference: Name of the reference photograph, or one name per type. None: the most typical photograph.
        knn_ratio: Largest ratio of a match's distance to that of the second best match (Lowe 2004).
        number_of_points: Largest number of SIFT features per photograph.
        ransac_threshold: Largest distance of an inlier from its predicted position, in pixels.
        MIN_SCORE_THRESHOLD: Smallest structural similarity (SSIM) to the reference.
        MAX_MSE_THRESHOLD: Largest mean squared difference from the reference, 8-bit grey levels.
        MIN_GOOD_MATCHES: Smallest number of inliers.
        MIN_OVERLAP: Smallest intersection over union of the foreground mask and the reference's.
        draw_matches: Overrides ``preprocessing.draw_matches``.
        save_metrics: Overrides ``preprocessing.save_metrics``.
        save_overlays: Overrides ``preprocessing.save_overlays``.
    """

    apply_alignment: bool | Literal["auto", "texture"] = "auto"
    model: Literal["homography", "affine", "similarity"] = "homography"
    reference: str | dict[str, str] | None = None
    knn_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    number_of_points: Annotated[int, Field(ge=_FEWEST_POINTS)] = 2000
    ransac_threshold: Positive = 2.0
    MIN_SCORE_THRESHOLD: Annotated[Annotated[float, Field(ge=-1, le=1)], Mark.PER_BATCH] = 0.5
    MAX_MSE_THRESHOLD: Annotated[Positive, Mark.PER_BATCH] = 2000.0
    MIN_GOOD_MATCHES: Annotated[Annotated[int, Field(ge=4)], Mark.PER_BATCH] = 25
    MIN_OVERLAP: Annotated[Fraction, Mark.PER_BATCH] = 0.8
    draw_matches: Annotated[bool | None, Mark.NO_RESULT] = None
    save_metrics: Annotated[bool | None, Mark.NO_RESULT] = None
    save_overlays: Annotated[bool | None, Mark.NO_RESULT] = None

    @property
    def moves_photographs(self) -> bool:
        """Whether photographs are moved to the reference frame."""
        return self.apply_alignment in (True, "auto")

    @property
    def is_texture(self) -> bool:
        """Whether photographs are not compared with the reference place by place, so that no figure shows it."""
        return self.apply_alignment == "texture"


_SMALL_TEXTURE = 250_000  # pixels
LARGEST_AUTO_POOLING = 2  # pixels


class Preprocessor(Section):
    """How aligned photographs become the input of the model.

    Attributes:
        file_name: Name of the archive with the inputs.
        pool_size: Side in pixels of the windows that are averaged to one input pixel; see ``pooling``.
        channels: Names of the channels, or ``"ALL"``.
        weights: Weight of each channel in the loss. None: equal weights.
        mask: Image file, white on the part in the reference frame, that replaces the consensus mask; or one file per
            type.
        consensus: A pixel belongs to the consensus mask if more than this fraction of the training masks contain it.
        edge_margin: Width in pixels of the strip inside the outline that is not compared.
        zero_pruning: Whether the input is cropped to the part.
        zero_pruning_padding: Pixels added on each side of the crop.
        bg_threshold: Pixels whose mean grey level (0 to 255) is not above this value do not extend the crop.
        ignore_regions: Regions that are not compared, per type: boxes in the reference frame, or an image file that is
            white there.
        local_registration: Whether the smooth deformation that is left after the alignment is undone; never that of a
            texture.
        light_matching: How the light is matched to the reference's: ``gain``: one factor per colour; ``field``: factors
            that vary smoothly over the part; ``local``: factors from a window around each pixel; ``none``. ``auto``:
            ``local``, but ``gain`` for textures.
    """

    file_name: Annotated[Annotated[str, Field(pattern=r"^[^/\\]+\.npz$")], Mark.NO_RESULT] = "out.npz"
    pool_size: Count | Literal["auto"] = "auto"
    channels: list[str] = ["LAB_L", "LAB_a", "LAB_b", "GradMag"]
    weights: list[Annotated[float, Field(ge=0, le=1e9)]] | None = None
    mask: str | dict[str, str] | None = None
    consensus: Annotated[float, Field(gt=0, lt=1)] = 0.5
    edge_margin: Annotated[int, Field(ge=0)] = 2
    zero_pruning: bool = True
    zero_pruning_padding: Annotated[int, Field(ge=0)] = 0
    bg_threshold: Annotated[float, Field(ge=0, le=255)] = 0.0
    ignore_regions: dict[str, list[Box] | str] = {}
    local_registration: bool = True
    light_matching: Literal["auto", "gain", "field", "local", "none"] = "auto"

    def pooling(self, pixels: int, *, texture: bool) -> int:
        """The value of ``pool_size``. ``auto``: 2, but 1 for textures that are small.

        The features of a texture need its detail, and an input of as many pixels costs no more than a pooled large one.

        Args:
            pixels: The number of pixels of the photographs.
            texture: Whether the photographs show a texture.
        """
        if self.pool_size != "auto":
            return self.pool_size
        return 1 if texture and pixels <= _SMALL_TEXTURE else LARGEST_AUTO_POOLING

    @field_validator("channels", mode="before")
    @classmethod
    def _check_channels(cls, value: Any) -> list[str]:
        if not isinstance(value, str | list) or not all(isinstance(name, str) for name in value):
            raise ValueError('channels must be a list of names or "ALL"')
        try:
            return channel_names(value)
        except ConfigError as error:  # pydantic adds the key to a ValueError only
            raise ValueError(str(error).removeprefix("channels: ")) from error

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: list[float] | None, info: ValidationInfo) -> list[float] | None:
        channels = info.data.get("channels")  # missing if the channels themselves are invalid
        if value is not None and channels is not None:
            if len(value) != len(channels):
                raise ValueError(
                    f"weights holds {len(value)} values for {len(channels)} channels; give one weight per channel"
                )
            if not sum(value):
                raise ValueError("all weights are 0; at least one must be above 0")
        return value


class Preprocessing(Section):
    """From photographs to ``out.npz``.

    Attributes:
        rename_images: Whether outputs are named ``TYPE_000``, ``TYPE_001``, ... and not after the photograph.
        draw_matches: Whether the matched points of each photograph are drawn.
        save_metrics: Whether inliers, SSIM and MSE of all photographs are plotted.
        save_overlays: Whether each aligned photograph is drawn over the reference.
        remove_background: Finding the part.
        alignment: Alignment to the reference frame.
        preprocessor: The input of the model.
    """

    rename_images: Annotated[bool, Mark.NO_RESULT] = False
    draw_matches: Annotated[bool, Mark.NO_RESULT] = True
    save_metrics: Annotated[bool, Mark.NO_RESULT] = True
    save_overlays: Annotated[bool, Mark.NO_RESULT] = True
    remove_background: RemoveBackground = RemoveBackground()
    alignment: AlignmentSettings = AlignmentSettings()
    preprocessor: Preprocessor = Preprocessor()

    @model_validator(mode="after")
    def _share_switches(self) -> Preprocessing:
        """Give a switch that exists in two sections the same value in both; the value of the inner section wins."""
        for name, keys in (
            ("remove_background", ("rename_images",)),
            ("alignment", ("draw_matches", "save_metrics", "save_overlays")),
        ):
            section = getattr(self, name)
            values = {key: getattr(self if getattr(section, key) is None else section, key) for key in keys}
            # Copy the section: one that no file names is the default object of the class, which all settings share.
            for key, value in {name: section.model_copy(update=values), **values}.items():
                object.__setattr__(self, key, value)
        return self


class Plotting(Section):
    """Which figures are written, and how.

    Attributes:
        plot_loss: Loss per epoch.
        plot_accuracy: Reconstruction accuracy per epoch.
        plot_confusion_matrix: Confusion matrix; needs ``--truth``.
        plot_roc_recall_curve: ROC and precision-recall curves; needs ``--truth``.
        plot_anomaly_heatmap: Overlay of each part, and the mean map.
        plot_abs_loss_per_pixel: Mean absolute error per pixel.
        plot_mse_per_pixel: Mean squared error per pixel.
        plot_pixel_predictions: Predicted against true values.
        plot_distributions: Distributions of scores and errors.
        plot_latent_space: Scores against distances of the latent vectors from those of good parts.
        use_log_loss: Whether loss axes are logarithmic; a numeric ``loss_cut`` is then a decimal logarithm.
        loss_cut: A number: parts fail above this loss of a pixel, and not by the calibrated score.
    """

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

    @property
    def draws_figures(self) -> bool:
        """Whether any figure is drawn."""
        return any(value for name, value in self if name.startswith("plot_"))


class Validation(Section):
    """From the errors of a model to verdicts.

    Attributes:
        false_alarm_rate: Fraction of good parts that may fail.
        views_per_part: Number of photographs that show one part. ``false_alarm_rate`` then holds for parts: each of the
            photographs may take this share of it.
        part_pattern: Regular expression on the file name without extension: photographs with the same match of its
            first group are views of one part. None: photographs with the same name.
        adapt: Whether the rate is adapted to how many good parts of earlier batches failed, as far as they are marked.
        threshold: How the threshold on the score is set.
        map_smoothing: Standard deviation of the Gaussian that smooths the anomaly map, in input pixels.
        region_threshold: A region contains the pixels above this fraction of the threshold.
        pixel_size_mm: Size of a pixel of the photograph in millimetres. None: regions are measured in pixels only.
        drift_level: How often a batch like the training parts may be reported as different.
        save_anomaly_maps: Whether each part's map is written as TIFF.
        notify: Who is told about new verdicts.
        watch_interval: Seconds between two scans of the folder with ``validate --watch``.
        sensitivity: Which planted defects ``train`` tries out on the model: a few (``auto``), as many as
            ``pixal sensitivity`` (``full``), or none (``off``).
    """

    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.01
    views_per_part: Annotated[Count, Mark.NOT_IN_TRAINING] = 1
    part_pattern: Annotated[str | None, Mark.NO_RESULT] = None
    adapt: Annotated[bool, Mark.NOT_IN_TRAINING] = False
    threshold: Threshold = Threshold()
    map_smoothing: Annotated[float, Field(ge=0)] = 1.0
    region_threshold: Annotated[float, Field(gt=0, le=1), Mark.NOT_IN_TRAINING] = 0.6
    pixel_size_mm: Annotated[Annotated[Positive, Field(le=1e6)] | None, Mark.NOT_IN_TRAINING] = None
    drift_level: Annotated[Annotated[float, Field(gt=0, lt=1)], Mark.NO_RESULT] = 0.01
    save_anomaly_maps: Annotated[bool, Mark.NOT_IN_TRAINING] = True
    notify: Annotated[Notify, Mark.NO_RESULT] = Notify()
    watch_interval: Annotated[Positive, Mark.NO_RESULT] = 2.0
    sensitivity: Annotated[Literal["auto", "full", "off"], Mark.NO_RESULT] = "auto"

    @property
    def rate_per_photograph(self) -> float:
        """The share of ``false_alarm_rate`` of a photograph, so that any of its views fails a good part this often."""
        return self.false_alarm_rate / self.views_per_part

    @field_validator("part_pattern")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is not a regular expression: {error}") from error
        return value

    @field_validator("sensitivity", mode="before")
    @classmethod
    def _off_without_quotes(cls, value: Any) -> Any:
        return "off" if value is False else value  # YAML 1.1 reads ``off`` as False


class PhotographParameters(Parameters):
    """All sections of ``parameters.yaml`` for photographs."""

    former_values: ClassVar[tuple[FormerValue, ...]] = (
        FormerValue(
            "preprocessing.alignment.number_of_points",
            lambda value: type(value) is int and 0 < value < _FEWEST_POINTS,
            f"are too few SIFT features to align with (at least {_FEWEST_POINTS})",
        ),
        FormerValue(
            "preprocessing.alignment.MAX_MSE_THRESHOLD",
            lambda value: type(value) in (int, float) and 0 < value <= _WRAPPED_MSE,
            "looks like a limit on the first version's MSE, whose 8-bit differences wrapped around; the true mean "
            "squared difference of good photographs is larger",
        ),
    )

    preprocessing: Preprocessing = Preprocessing()
    plotting: Plotting = Plotting()
    validation: Validation = Validation()


@dataclass(frozen=True)
class PhotographConfig(Config):
    """The configuration of a run on photographs, such as ``config.preprocessing.preprocessor.pool_size``."""

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
        """From the errors of a model to verdicts."""
        return self.parameters.validation


def photograph_config(config: Config | str | Path | None) -> PhotographConfig:
    """Return the configuration of a run on photographs.

    Args:
        config: A loaded configuration, or the folder to load it from. None: the folder that ``load_config`` chooses.

    Raises:
        ConfigError: If the configuration is invalid or belongs to another task.
    """
    loaded = config if isinstance(config, Config) else load_config(config)
    if not isinstance(loaded, PhotographConfig):
        raise ConfigError(f"task: {loaded.parameters.task} is configured; this function needs photographs")
    return loaded
