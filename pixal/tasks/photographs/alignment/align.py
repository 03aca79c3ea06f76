"""Align a photograph to the reference of its type, and measure how well it fits."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import AlignmentError, InputError
from pixal.io.images import as_uint8
from pixal.tasks.photographs.alignment.features import Features, detect_features, match_features, to_grey
from pixal.tasks.photographs.alignment.pose import find_pose_fault, fit_pose
from pixal.tasks.photographs.alignment.similarity import SSIM_WINDOW, structural_similarity
from pixal.tasks.photographs.geometry import Box, Matrix
from pixal.tasks.photographs.settings import AlignmentSettings

_MAX_UNSEEN = 0.002  # of the part; at 1080p the uncertainty of a mask's outline, about one pixel, is as large
_FEW_POINTS = 1000  # features of a photograph that are tried first
_ENOUGH_INLIERS = 200  # of them determine a pose as exactly as all features do
_SIMILARITY_PX = 120_000  # similarity is measured at half size, or smaller so that the part's box has this many pixels
_CAUSES = "it may show another type or side, be out of focus, or only a piece of the part was found"


@dataclass(frozen=True)
class Reference:
    """The photograph that defines the frame of a type.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) foreground mask.
        features: Features of the part.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    features: Features

    @classmethod
    def from_photograph(cls, image: NDArray[Any], mask: NDArray[np.bool_], number_of_points: int) -> Reference:
        """Make a photograph the reference: detect its features.

        Args:
            image: (H, W, 3 or 4) RGB or RGBA, 8- or 16-bit.
            mask: (H, W) foreground mask.
            number_of_points: Number of features to detect.
        """
        rgb = as_uint8(image[..., :3])
        return cls(rgb, mask, detect_features(rgb, mask, number_of_points))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Reference:
        """Rebuild a reference from what ``as_arrays`` gave. Raise ``KeyError`` if an array is missing."""
        return cls(arrays["image"], arrays["mask"], Features(arrays["points"], arrays["descriptors"]))

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the reference by name, to be stored."""
        features = self.features
        return {
            "image": self.image,
            "mask": self.mask,
            "points": features.points,
            "descriptors": features.descriptors,
        }

    @cached_property
    def fills_frame(self) -> bool:
        """Whether the part fills the frame, so that other photographs of it may not show all of it."""
        return bool(self.mask.all())

    @cached_property
    def box(self) -> Box:
        """The smallest box that contains the part."""
        return Box.around(self.mask)

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """(H, W) uint8 grey levels of the image."""
        return to_grey(self.image)


@dataclass(frozen=True)
class AlignmentResult:
    """The result of aligning one photograph.

    Attributes:
        aligned: (H, W, 3) photograph in the reference frame.
        mask: (H, W) its foreground mask in the reference frame.
        homography: 3x3 matrix from the photograph's pixels (x, y) to the reference frame, [2, 2] = 1.
        photo_points: (M, 2) matched points of the photograph.
        reference_points: (M, 2) matched points of the reference.
        is_inlier: (M,) which matches agree with the homography.
        ssim: Mean structural similarity to the reference over the part; NaN for a texture.
        mse: Mean squared difference from the reference over the part, 8-bit grey levels; NaN for a texture.
        overlap: Intersection over union of the moved foreground mask and the reference's mask.
        visible: Fraction of the reference's part that lies inside the photograph.
        reason: Which limit the alignment fails, or "".
    """

    aligned: NDArray[Any]
    mask: NDArray[np.bool_]
    homography: Matrix
    photo_points: NDArray[np.float32]
    reference_points: NDArray[np.float32]
    is_inlier: NDArray[np.bool_]
    ssim: float
    mse: float
    overlap: float
    visible: float
    reason: str = ""

    @property
    def inliers(self) -> int:
        """Number of matches that agree with the homography."""
        return int(self.is_inlier.sum())

    @property
    def inlier_ratio(self) -> float:
        """Fraction of the matches that agree with the homography; 0 without matches."""
        return self.inliers / len(self.is_inlier) if len(self.is_inlier) else 0.0


def align_photograph(
    image: NDArray[Any], mask: NDArray[np.bool_], reference: Reference, settings: AlignmentSettings
) -> AlignmentResult:
    """Align a photograph to the reference.

    If ``settings.apply_alignment`` is False, the photograph is not moved, but must meet the same limits; a texture need
    not meet them.

    Args:
        image: (H, W, 3) RGB photograph.
        mask: (H, W) foreground mask.
        reference: The reference of the type; it has the same size.
        settings: The method and the limits.

    Where the part fills the frame of the reference, a photograph need not show all of it: the rest is filled with the
    reference.

    Returns:
        The result; its ``reason`` is "" if it meets all limits.

    Raises:
        AlignmentError: If there is no pose, or only an impossible one.
        InputError: If the photograph and the reference differ in size.
    """
    if image.shape[:2] != reference.mask.shape:
        raise InputError(f"is {_size_text(image)}, the reference is {_size_text(reference.mask)} pixels")
    if settings.moves_photographs:
        photo_points, reference_points, homography, is_inlier = _find_pose(image, mask, reference, settings)
        aligned = move_to_reference(image, homography, reference)
    else:
        photo_points = reference_points = np.zeros((0, 2), np.float32)
        homography, is_inlier, aligned = np.eye(3), np.zeros(0, bool), image
    ssim, mse = (np.nan, np.nan) if settings.is_texture else _similarity(aligned, reference)
    moved, is_inside = _move_mask(mask, homography)
    overlap = _fraction(moved & reference.mask, moved | reference.mask)
    visible = _fraction(is_inside & reference.mask, reference.mask)
    max_unseen = 1 - settings.MIN_OVERLAP if reference.fills_frame else _MAX_UNSEEN
    reason = _failed_limit(ssim, mse, overlap, 1 - visible, max_unseen, settings)
    if settings.is_texture:
        reason = ""
    elif reason and not settings.apply_alignment:
        reason += " (apply_alignment is off)"
    return AlignmentResult(
        aligned, moved, homography, photo_points, reference_points, is_inlier, ssim, mse, overlap, visible, reason
    )


def move_to_reference(image: NDArray[Any], homography: Matrix, reference: Reference) -> NDArray[Any]:
    """Move a photograph (H, W, 3) to the frame of the reference.

    Where the part fills the frame of the reference, pixels outside the photograph are those of the reference, in the
    light of the photograph: each channel is scaled by the means of the pixels that both show.
    """
    aligned = warp(image, homography)
    if not reference.fills_frame:
        return aligned
    seen = warp(np.ones(aligned.shape[:2], np.uint8), homography, nearest=True) > 0
    if seen.any() and not seen.all():
        scale = aligned[seen].mean(0) / np.maximum(reference.image[seen].mean(0), 1)
        aligned[~seen] = np.clip(np.rint(reference.image[~seen] * scale), 0, np.iinfo(aligned.dtype).max)
    return aligned


def warp(image: NDArray[Any], homography: Matrix, *, nearest: bool = False) -> NDArray[Any]:
    """Move an image by a homography; the result has the same size.

    Args:
        image: (H, W) or (H, W, C).
        homography: 3x3 matrix from the image's pixels to the result's.
        nearest: False: cubic interpolation, and the edge pixels are repeated outside the image. True: nearest pixel,
            and 0 outside, as a mask needs it.
    """
    interpolation = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    border = cv2.BORDER_CONSTANT if nearest else cv2.BORDER_REPLICATE
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpPerspective(image, homography, size, flags=interpolation, borderMode=border))


_Fit = tuple[NDArray[np.float32], NDArray[np.float32], Matrix, NDArray[np.bool_]]


def _find_pose(image: NDArray[Any], mask: NDArray[np.bool_], reference: Reference, settings: AlignmentSettings) -> _Fit:
    """Return matched points of the photograph and the reference, the homography, and which matches agree with it.

    The strongest features are tried first, because most of the time goes into descriptors. A blurred photograph needs
    all of them.

    Raises:
        AlignmentError: There is no pose.
    """
    if settings.number_of_points > _FEW_POINTS:
        with suppress(AlignmentError):
            found = _match_and_fit(image, mask, reference, settings, _FEW_POINTS)
            if found[-1].sum() >= max(_ENOUGH_INLIERS, settings.MIN_GOOD_MATCHES):
                return found
    return _match_and_fit(image, mask, reference, settings, settings.number_of_points)


def _match_and_fit(
    image: NDArray[Any], mask: NDArray[np.bool_], reference: Reference, settings: AlignmentSettings, points: int
) -> _Fit:
    """See ``_find_pose``. ``points``: number of features of the photograph."""
    matches = _match(detect_features(image, mask, points), reference, settings)
    return *matches, *_fit(*matches, mask, settings)


def _match(
    photo_features: Features, reference: Reference, settings: AlignmentSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return matched points of the photograph and the reference. Raise AlignmentError if they are too few."""
    required = settings.MIN_GOOD_MATCHES
    for name, features in (("part", photo_features), ("reference", reference.features)):
        if len(features.points) < required:
            raise AlignmentError(
                f"not aligned: {len(features.points)} features found on the {name}, at least {required} are needed; "
                "it has too little texture, is out of focus, or is too dark"
            )
    photo_points, reference_points = match_features(photo_features, reference.features, settings.knn_ratio)
    if len(photo_points) < required:
        raise AlignmentError(
            f"not aligned: {len(photo_points)} matches with the reference, at least {required} are needed; {_CAUSES}"
        )
    return photo_points, reference_points


def _fit(
    source: NDArray[np.float32], target: NDArray[np.float32], mask: NDArray[np.bool_], settings: AlignmentSettings
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Return the homography and its inliers. Raise AlignmentError if there is no possible pose."""
    fit = fit_pose(source, target, settings.model, settings.ransac_threshold)
    inliers = 0 if fit is None else int(fit[1].sum())
    if fit is None or inliers < settings.MIN_GOOD_MATCHES:
        raise AlignmentError(
            f"not aligned: {inliers} of {len(source)} matches agree on a pose, "
            f"at least {settings.MIN_GOOD_MATCHES} are needed; {_CAUSES}"
        )
    if fault := find_pose_fault(fit[0], mask):
        raise AlignmentError(f"not aligned: the matches agree on a pose that {fault}")
    return fit


def _similarity(aligned: NDArray[Any], reference: Reference) -> tuple[float, float]:
    """Return SSIM and MSE of the aligned photograph and the reference over the part, at half size or smaller."""
    (_, _, width, height), window = reference.box, reference.box.window
    scale = min(0.5, float(np.sqrt(_SIMILARITY_PX / (width * height))))
    size = (max(SSIM_WINDOW, int(width * scale)), max(SSIM_WINDOW, int(height * scale)))

    def shrink(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)

    photo, target = shrink(to_grey(aligned[window])), shrink(reference.grey[window])
    inside = shrink(reference.mask[window].view(np.uint8)) > 0
    similarity = structural_similarity(photo, target)
    return float(similarity[inside].mean()), float(np.mean((photo - target)[inside] ** 2))


def _move_mask(mask: NDArray[np.bool_], homography: Matrix) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a mask (H, W) in the reference frame, and the pixels of this frame that lie inside the photograph."""
    labels = warp(mask.view(np.uint8) + 1, homography, nearest=True)  # 0: outside the photograph, 1: outside the part
    return labels == 2, labels > 0


def _fraction(subset: NDArray[np.bool_], total: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(subset)) / max(1, int(np.count_nonzero(total)))


def _failed_limit(
    ssim: float, mse: float, overlap: float, unseen: float, max_unseen: float, settings: AlignmentSettings
) -> str:
    """Describe the first limit that an alignment fails; "" if it meets all."""
    if unseen > max_unseen:
        return (
            f"not aligned: {100 * unseen:.2f} % of the part is outside the photograph, "
            f"at most {100 * max_unseen:g} % is allowed"
        )
    if ssim < settings.MIN_SCORE_THRESHOLD:
        return f"not aligned: SSIM {ssim:.3f}, at least {settings.MIN_SCORE_THRESHOLD:g} is needed"
    if mse > settings.MAX_MSE_THRESHOLD:
        return f"not aligned: MSE {mse:.0f}, at most {settings.MAX_MSE_THRESHOLD:g} is allowed"
    if overlap < settings.MIN_OVERLAP:
        return (
            f"not aligned: the foreground mask overlaps the reference's by {overlap:.3f} (IoU), "
            f"at least {settings.MIN_OVERLAP:g} is needed; check that the mask covers the whole part and nothing else"
        )
    return ""


def _size_text(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
