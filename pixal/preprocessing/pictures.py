"""The pictures of preprocessing: which data goes into which file. What they look like is ``pixal.plotting``'s."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Alignment as AlignmentSettings
from pixal.images import as_uint8, write_figure, write_image
from pixal.preprocessing.alignment import Alignment, Reference
from pixal.preprocessing.state import PreprocessingState


def grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An RGB image (H, W, 3) in 8-bit grey levels (H, W)."""
    return np.asarray(cv2.cvtColor(as_uint8(image), cv2.COLOR_RGB2GRAY), np.uint8)


def save_alignment_pictures(
    folder: Path,
    name: str,
    image: NDArray[Any],
    result: Alignment,
    reference: Reference,
    reference_name: str,
    settings: AlignmentSettings,
) -> None:
    """Write one photograph's match picture and overlay, where the settings ask for them."""
    if not (settings.draw_matches or settings.save_overlays):
        return
    from pixal.plotting.preprocessing import alignment_overlay, match_picture

    if settings.draw_matches and settings.apply_alignment:
        title = f"{name} (left) on {reference_name}: {result.inliers} of {len(result.is_inlier)} matches agree"
        picture = match_picture(
            as_uint8(image),
            reference.image,
            result.photo_points,
            result.reference_points,
            result.is_inlier,
            title=title,
        )
        write_image(folder / "matches" / f"{name}_matches.jpg", picture)
    if settings.save_overlays:
        title = f"{name} on {reference_name}: SSIM {result.ssim:.3f}, MSE {result.mse:.0f}"
        overlay = alignment_overlay(reference.grey, grey(result.aligned), mask=reference.mask, title=title)
        write_image(folder / "overlay_diagnostics" / f"{name}_overlay.jpg", overlay)


def remove_alignment_pictures(folder: Path) -> None:
    """Delete the match pictures, overlays and plot of an earlier run, so that nothing takes them for this one's."""
    for pictures in (folder / "matches", folder / "overlay_diagnostics"):
        shutil.rmtree(pictures, ignore_errors=True)
    (folder / "metrics.png").unlink(missing_ok=True)


def save_alignment_metrics(path: Path, rows: list[dict[str, Any]], settings: AlignmentSettings, type_name: str) -> None:
    """Write the plot of inliers, SSIM and MSE of all photographs of a type."""
    from pixal.plotting.preprocessing import alignment_metrics

    def column(key: str) -> NDArray[np.float64]:
        return np.array([row.get(key, np.nan) for row in rows], np.float64)

    write_figure(
        path,
        alignment_metrics(
            [row["image"] for row in rows],
            column("inliers"),
            column("ssim"),
            column("mse"),
            np.array([row["status"] == "ok" for row in rows]),
            min_inliers=settings.MIN_GOOD_MATCHES,
            min_ssim=settings.MIN_SCORE_THRESHOLD,
            max_mse=settings.MAX_MSE_THRESHOLD,
            title=f"{type_name}: alignment to the reference",
        ),
    )


def save_crop_pictures(folder: Path, state: PreprocessingState, brightness: NDArray[np.float32]) -> None:
    """Write the crop preview and the mean of the aligned photographs (8-bit grey levels, (H, W))."""
    from pixal.plotting.preprocessing import crop_preview, stacked_intensity

    title = f"{state.type_name}: consensus mask and crop box on the reference"
    write_figure(
        folder / "crop_preview.png",
        crop_preview(state.reference.image, state.consensus, state.box, title=title),
    )
    title = f"{state.type_name}: mean of the aligned photographs"
    write_figure(folder / "stacked_intensity.png", stacked_intensity(brightness / 255, state.box, title=title))


def save_channels(folder: Path, image: NDArray[np.float32], state: PreprocessingState) -> None:
    """Write the channels of one input (h, w, C)."""
    from pixal.plotting.preprocessing import channel_sheet

    title = f"{state.type_name}: channels of the network's input"
    write_figure(folder / "channels.png", channel_sheet(image, state.settings.preprocessor.channels, title=title))
