"""The figures of preprocessing: which data goes into which file. ``pixal.plotting`` draws them.

A figure holds the fingerprint of what it shows, so that an unchanged figure is not drawn again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.io import ownership
from pixal.io.images import as_uint8, write_figure, write_image
from pixal.io.png import read_fingerprint
from pixal.io.written_files import WrittenFiles, written_files
from pixal.plotting.alignment import MatchedImage, alignment_overlay, match_figure, shown_window
from pixal.plotting.alignment_metrics import alignment_metrics
from pixal.plotting.consensus_map import consensus_map
from pixal.plotting.preprocessing import channel_sheet, crop_preview, stacked_intensity
from pixal.plotting.style import shorten
from pixal.tasks.photographs.alignment.align import AlignmentResult, Reference
from pixal.tasks.photographs.alignment.features import detect_features, match_features
from pixal.tasks.photographs.alignment.pose import fit_pose
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.parts import AlignedImageRecord
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings

_JPEG_QUALITY = 85  # two thirds of the file size at the default of 92
_MATCHES, _OVERLAYS = "matches", "overlay_diagnostics"
_NAME_LENGTH = 48  # characters of a photograph's name in a title


@dataclass(frozen=True)
class AlignmentFigures:
    """The match figures and overlays of a type's photographs.

    Attributes:
        folder: Where they are written.
        reference: The reference of the type.
        reference_name: What the titles call the reference.
        settings: Which figures to write, and how to match a failed photograph again.
    """

    folder: Path
    reference: Reference
    reference_name: str
    settings: AlignmentSettings

    @cached_property
    def shown_box(self) -> Box:
        """The part of the reference frame that the overlay of an accepted alignment shows."""
        return Box.of_window(*shown_window(self.reference.mask))

    def save(self, name: str, image: NDArray[Any], mask: NDArray[np.bool_], result: AlignmentResult) -> None:
        """Write the match figure and the overlay of one photograph, as far as the settings ask for them.

        The match figure is cropped to the part and its surroundings. If the alignment was not accepted, the overlay
        also shows the outline of the part.

        Args:
            name: Stem of the files.
            image: The photograph, (H, W, 3).
            mask: Its foreground mask, (H, W).
            result: Its alignment.
        """
        matches, overlay = _files(self.folder, name)
        title = self._title(name)
        if _wants_matches(self.settings):
            figure = match_figure(
                MatchedImage(as_uint8(image), result.photo_points, mask),
                MatchedImage(self.reference.image, result.reference_points, self.reference.mask),
                result.is_inlier,
                title=f"{title}: {result.inliers} of {len(result.is_inlier)} matches agree",
                warning=result.reason,
            )
            write_image(matches, figure, quality=_JPEG_QUALITY)
        if _wants_overlays(self.settings):
            outline = result.mask if result.reason else None
            figure = alignment_overlay(
                self.reference.grey,
                as_uint8(result.aligned),
                reference_mask=self.reference.mask,
                title=f"{title}: SSIM {result.ssim:.3f}, MSE {result.mse:.0f} grey levels²",
                photo_mask=outline,
                warning=result.reason,
            )
            write_image(overlay, figure, quality=_JPEG_QUALITY)

    def save_failure(self, name: str, image: NDArray[Any], mask: NDArray[np.bool_], reason: str) -> None:
        """Write the match figure of a photograph without a pose, and delete the overlay of an earlier run.

        The features are matched again, because an error carries no arrays. This takes 0.1 s, for failed photographs
        only.

        Args:
            name: Stem of the files.
            image: The photograph, (H, W, 3).
            mask: Its foreground mask, (H, W).
            reason: Why it was not aligned.
        """
        matches, overlay = _files(self.folder, name)
        ownership.remove(overlay)
        if not _wants_matches(self.settings):
            return
        settings = self.settings
        features = detect_features(image, mask, settings.number_of_points)
        photo_points, reference_points = match_features(features, self.reference.features, settings.knn_ratio)
        fit = None
        if len(photo_points) >= settings.MIN_GOOD_MATCHES:
            fit = fit_pose(photo_points, reference_points, settings.model, settings.ransac_threshold)
        is_inlier = np.zeros(len(photo_points), bool) if fit is None else fit[1]
        figure = match_figure(
            MatchedImage(as_uint8(image), photo_points, mask),
            MatchedImage(self.reference.image, reference_points, self.reference.mask),
            is_inlier,
            title=f"{self._title(name)}: {is_inlier.sum()} of {len(is_inlier)} matches agree",
            warning=reason,
        )
        write_image(matches, figure, quality=_JPEG_QUALITY)

    def remove(self, name: str) -> None:
        """Remove the figures that an earlier run drew of a photograph."""
        for path in _files(self.folder, name):
            ownership.remove(path)

    def written(self, name: str) -> WrittenFiles:
        """Describe the figures of a photograph, as far as they exist."""
        return written_files(path for path in _files(self.folder, name) if path.is_file())

    def _title(self, name: str) -> str:
        return f"{shorten(name, _NAME_LENGTH)} on {shorten(self.reference_name, _NAME_LENGTH)}"


def figure_files(folder: Path, name: str, settings: AlignmentSettings) -> list[Path]:
    """The figures of an aligned photograph that the settings ask for."""
    matches, overlay = _files(folder, name)
    return [
        path for path, wanted in ((matches, _wants_matches(settings)), (overlay, _wants_overlays(settings))) if wanted
    ]


def figures_exist(folder: Path, name: str, settings: AlignmentSettings) -> bool:
    """Whether an aligned photograph has all figures that the settings ask for."""
    return all(path.is_file() for path in figure_files(folder, name, settings))


def remove_other_figures(folder: Path, names: set[str], settings: AlignmentSettings) -> None:
    """Delete figures that the settings do not ask for, and those of photographs that are not in ``names``."""
    kept = {path for name in names for path in _files(folder, name)}
    for directory, wanted in ((_MATCHES, _wants_matches(settings)), (_OVERLAYS, _wants_overlays(settings))):
        if not wanted:
            ownership.remove_tree(folder / directory)
        for path in (folder / directory).glob("*.jpg"):
            if path not in kept:
                ownership.remove(path)
    if not wants_metrics(settings):
        ownership.remove(folder / "metrics.png")


def wants_metrics(settings: AlignmentSettings) -> bool:
    """Whether the measures of the alignment are plotted."""
    return bool(settings.save_metrics) and not settings.is_texture


def are_current(paths: Iterable[Path], key: str) -> bool:
    """Whether all figures exist and have the fingerprint ``key``."""
    return all(read_fingerprint(path) == key for path in paths)


def save_alignment_metrics(
    path: Path,
    records: Sequence[AlignedImageRecord],
    settings: AlignmentSettings,
    type_name: str,
    reference: str | None = None,
    *,
    key: str | None = None,
) -> None:
    """Plot the inliers, SSIM and MSE of all photographs of a type.

    Args:
        path: The figure's file.
        records: One record per photograph.
        settings: The limits to draw.
        type_name: The type.
        reference: File name of the reference, if it is among the photographs.
        key: Fingerprint of what the figure shows.
    """

    def values(field: str) -> NDArray[np.float64]:
        column = [getattr(record, field) for record in records]
        return np.array([np.nan if value is None else value for value in column], np.float64)

    write_figure(
        path,
        alignment_metrics(
            [record.image for record in records],
            values("inliers"),
            values("ssim"),
            values("mse"),
            np.array([record.is_ok for record in records]),
            min_inliers=settings.MIN_GOOD_MATCHES,
            min_ssim=settings.MIN_SCORE_THRESHOLD,
            max_mse=settings.MAX_MSE_THRESHOLD,
            title=f"{type_name}: alignment to the reference",
            reference_name=reference,
            reasons=[record.reason for record in records],
        ),
        fingerprint=key,
    )


def crop_figure_paths(folder: Path) -> tuple[Path, Path, Path]:
    """The files of the crop preview, the consensus map and the mean of the aligned photographs."""
    return folder / "crop_preview.png", folder / "consensus.png", folder / "stacked_intensity.png"


def save_crop_figures(
    folder: Path,
    state: PreprocessingState,
    fraction: NDArray[np.float32],
    brightness: NDArray[np.float32],
    left_out: Sequence[tuple[str, float]] = (),
    *,
    key: str | None = None,
) -> None:
    """Write the crop preview, the consensus map and the mean of the aligned photographs.

    Args:
        folder: Where to write.
        state: The fitted preprocessing of the type.
        fraction: Fraction of the masks that contain each pixel, (H, W).
        brightness: Mean of the aligned photographs, (H, W), 8-bit grey levels.
        left_out: Photographs whose mask has no vote, each with its IoU with the majority.
        key: Fingerprint of what the figures show.
    """
    settings, name, image = state.settings.preprocessor, state.type_name, state.reference.image
    mask_file = settings.mask.get(name) if isinstance(settings.mask, dict) else settings.mask
    mask = "consensus mask" if mask_file is None else f"mask ({shorten(Path(mask_file).name, _NAME_LENGTH)})"
    preview, consensus, stacked = crop_figure_paths(folder)
    write_figure(
        preview,
        crop_preview(
            image,
            state.consensus,
            state.box,
            ignore_mask=state.ignored,
            title=f"{name}: {mask} and crop box",
            mask_name=mask,
        ),
        fingerprint=key,
    )
    unused = "" if mask_file is None else f"; the {mask} is used instead"
    write_figure(
        consensus,
        consensus_map(
            image,
            fraction,
            settings.consensus,
            left_out=left_out,
            title=f"{name}: consensus of the photographs' masks{unused}",
        ),
        fingerprint=key,
    )
    write_figure(
        stacked,
        stacked_intensity(
            brightness / 255,
            state.box,
            consensus_mask=state.consensus,
            title=f"{name}: mean of the aligned photographs",
        ),
        fingerprint=key,
    )


def save_channels(path: Path, image: NDArray[np.float32], state: PreprocessingState, *, key: str | None = None) -> None:
    """Draw the channels of one input.

    Args:
        path: The figure's file.
        image: The input, (h, w, C).
        state: The fitted preprocessing of its type.
        key: Fingerprint of what the figure shows.
    """
    title = f"{state.type_name}: channels of the network's input"
    figure = channel_sheet(image, state.settings.preprocessor.channels, title=title, mask=state.mask)
    write_figure(path, figure, fingerprint=key)


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """The match figure and the overlay of a photograph."""
    return folder / _MATCHES / f"{name}_matches.jpg", folder / _OVERLAYS / f"{name}_overlay.jpg"


def _wants_matches(settings: AlignmentSettings) -> bool:
    return bool(settings.draw_matches) and settings.moves_photographs


def _wants_overlays(settings: AlignmentSettings) -> bool:
    return bool(settings.save_overlays) and not settings.is_texture
