"""The pictures of preprocessing: which data goes into which file. What they look like is ``pixal.plotting``'s."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.images import as_uint8, write_figure, write_image
from pixal.plotting.alignment import alignment_overlay, match_picture
from pixal.plotting.alignment_metrics import alignment_metrics
from pixal.plotting.preprocessing import channel_sheet, consensus_map, crop_preview, stacked_intensity
from pixal.plotting.style import shorten
from pixal.tasks.photographs.alignment.align import AlignmentResult, Reference, warp
from pixal.tasks.photographs.alignment.features import detect_features, match_features
from pixal.tasks.photographs.alignment.pose import fit_pose
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings

_QUALITY = 85  # of a JPEG to look at: two thirds of the size at the usual 92
_MATCHES, _OVERLAYS = "matches", "overlay_diagnostics"
_NAME = 48  # characters of a photograph's name in a title


def grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """An RGB image (H, W, 3) in 8-bit grey levels (H, W)."""
    return np.asarray(cv2.cvtColor(as_uint8(image), cv2.COLOR_RGB2GRAY), np.uint8)


def save_alignment_pictures(
    folder: Path,
    name: str,
    image: NDArray[Any],
    result: AlignmentResult,
    reference: Reference,
    reference_name: str,
    settings: AlignmentSettings,
    mask: NDArray[np.bool_] | None = None,
) -> None:
    """Write one photograph's match picture and overlay, where the settings ask for them.

    ``mask``: the part on the photograph (H, W). The match picture then shows no more than the part and what surrounds
    it, and the overlay of a photograph that is not aligned its outline.
    """
    matches, overlay = _files(folder, name)
    title = _title(name, reference_name)
    if _draws_matches(settings):
        picture = match_picture(
            as_uint8(image),
            reference.image,
            result.photo_points,
            result.reference_points,
            result.is_inlier,
            title=f"{title}: {result.inliers} of {len(result.is_inlier)} matches agree",
            photo_part=mask,
            reference_part=reference.mask,
            warning=result.reason,
        )
        write_image(matches, picture, quality=_QUALITY)
    if settings.save_overlays:
        moved = None
        if mask is not None and result.reason:
            moved = warp(mask.view(np.uint8), result.homography, nearest=True) > 0
        picture = alignment_overlay(
            reference.grey,
            as_uint8(result.aligned),
            mask=reference.mask,
            title=f"{title}: SSIM {result.ssim:.3f}, MSE {result.mse:.0f} grey levels²",
            photo_part=moved,
            warning=result.reason,
        )
        write_image(overlay, picture, quality=_QUALITY)


def save_failure_picture(
    folder: Path,
    name: str,
    image: NDArray[Any],
    mask: NDArray[np.bool_],
    reason: str,
    reference: Reference,
    reference_name: str,
    settings: AlignmentSettings,
) -> None:
    """Write the match picture of a photograph that no pose was found for, and delete the overlay of an earlier run.

    Its features are matched again, as an error carries no arrays: a tenth of a second, for a failed photograph only.
    """
    matches, overlay = _files(folder, name)
    overlay.unlink(missing_ok=True)
    if not _draws_matches(settings):
        return
    features = detect_features(image, mask, settings.number_of_points)
    photo_points, reference_points = match_features(features, reference.features, settings.knn_ratio)
    fitted = None
    if len(photo_points) >= settings.MIN_GOOD_MATCHES:
        fitted = fit_pose(photo_points, reference_points, settings.model, settings.ransac_threshold)
    is_inlier = np.zeros(len(photo_points), bool) if fitted is None else fitted[1]
    picture = match_picture(
        as_uint8(image),
        reference.image,
        photo_points,
        reference_points,
        is_inlier,
        title=f"{_title(name, reference_name)}: {is_inlier.sum()} of {len(is_inlier)} matches agree",
        photo_part=mask,
        reference_part=reference.mask,
        warning=reason,
    )
    write_image(matches, picture, quality=_QUALITY)


def are_there(folder: Path, name: str, settings: AlignmentSettings) -> bool:
    """Whether an aligned photograph has all the pictures that the settings ask for."""
    matches, overlay = _files(folder, name)
    return (not _draws_matches(settings) or matches.is_file()) and (not settings.save_overlays or overlay.is_file())


def remove_other_pictures(folder: Path, names: set[str], settings: AlignmentSettings) -> None:
    """Delete an earlier run's pictures of photographs that are not among ``names``, and what is not asked for now."""
    kept = {path for name in names for path in _files(folder, name)}
    for directory, wanted in ((_MATCHES, _draws_matches(settings)), (_OVERLAYS, bool(settings.save_overlays))):
        if not wanted:
            shutil.rmtree(folder / directory, ignore_errors=True)
        for path in (folder / directory).glob("*.jpg"):
            if path not in kept:
                path.unlink()
    if not settings.save_metrics:
        (folder / "metrics.png").unlink(missing_ok=True)


def save_alignment_metrics(
    path: Path, rows: list[dict[str, Any]], settings: AlignmentSettings, type_name: str, reference: str | None = None
) -> None:
    """Write the plot of inliers, SSIM and MSE of all photographs of a type; ``reference``: its image, if among them."""

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
            reference=reference,
            reasons=[row.get("reason", "") for row in rows],
        ),
    )


def crop_pictures(folder: Path) -> tuple[Path, Path, Path]:
    """The crop preview, the consensus map, and the mean of the aligned photographs."""
    return folder / "crop_preview.png", folder / "consensus.png", folder / "stacked_intensity.png"


def save_crop_pictures(
    folder: Path,
    state: PreprocessingState,
    share: NDArray[np.float32],
    brightness: NDArray[np.float32],
    left_out: Sequence[tuple[str, float]] = (),
) -> None:
    """Write the crop preview, the consensus map, and the mean of the aligned photographs.

    ``share`` (H, W): the share of the masks that holds each pixel. ``brightness`` (H, W): the mean, 8-bit grey levels.
    ``left_out``: the photographs whose masks have no vote, and their IoU with the others'.
    """
    settings, name, image = state.settings.preprocessor, state.type_name, state.reference.image
    given = settings.mask.get(name) if isinstance(settings.mask, dict) else settings.mask
    mask = "consensus mask" if given is None else f"mask ({shorten(Path(given).name, _NAME)})"
    preview, consensus, stacked = crop_pictures(folder)
    write_figure(
        preview,
        crop_preview(
            image,
            state.consensus,
            state.box,
            ignored=state.ignored,
            title=f"{name}: {mask} and crop box",
            mask_name=mask,
        ),
    )
    unused = "" if given is None else f"; the {mask} is used instead"
    write_figure(
        consensus,
        consensus_map(
            image,
            share,
            settings.consensus,
            left_out=left_out,
            title=f"{name}: consensus of the photographs' masks{unused}",
        ),
    )
    write_figure(
        stacked,
        stacked_intensity(
            brightness / 255, state.box, consensus=state.consensus, title=f"{name}: mean of the aligned photographs"
        ),
    )


def save_channels(folder: Path, image: NDArray[np.float32], state: PreprocessingState) -> None:
    """Write the channels of one input (h, w, C)."""
    title = f"{state.type_name}: channels of the network's input"
    names = state.settings.preprocessor.channels
    write_figure(folder / "channels.png", channel_sheet(image, names, title=title, mask=state.mask))


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """A photograph's match picture and its overlay."""
    return folder / _MATCHES / f"{name}_matches.jpg", folder / _OVERLAYS / f"{name}_overlay.jpg"


def _draws_matches(settings: AlignmentSettings) -> bool:
    return bool(settings.draw_matches) and settings.apply_alignment


def _title(name: str, reference_name: str) -> str:
    return f"{shorten(name, _NAME)} on {shorten(reference_name, _NAME)}"
