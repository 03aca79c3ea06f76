"""Bring a photograph into the reference frame: SIFT features, ratio test, robust pose, and how well it went."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pixal.errors import AlignmentError, InputError
from pixal.io.images import as_uint8
from pixal.tasks.photographs.alignment.pose import fit_pose, impossible
from pixal.tasks.photographs.settings import AlignmentSettings

_PART_PX = 100_000  # features are sought at the scale that leaves the part this many pixels,
_BOX_PX = 200_000  # and the box around it no more than this many
_MARGIN = 16  # pixels around the part's box that features may use
_CONTRAST = 0.01  # OpenCV's 0.04 leaves nothing of a part of a sixth of the usual contrast, which this aligns as well
_LEVELS = 2048  # of a descriptor's entry
_MAX_UNSEEN = 0.002  # of the part; at 1080p a strip as wide as a mask's outline is uncertain, a pixel or so
_SSIM_WINDOW = 7
_SIMILARITY_PX = 120_000  # likeness is measured at half size, or the smaller one that leaves the part's box these
_UNLIKE = "it may be of another type, on its other side, out of focus, or not found as a whole"


@dataclass(frozen=True)
class Features:
    """SIFT features of a part: points (n, 2) float32 (x, y) in the image's pixels, descriptors (n, 128) RootSIFT."""

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """The photograph that defines a type's frame: its RGB image (H, W, 3) uint8, its part's mask, its features."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    features: Features

    @classmethod
    def of(cls, image: NDArray[Any], mask: NDArray[np.bool_], number_of_points: int) -> Reference:
        """Make a photograph the reference; its features are computed once, here."""
        picture = as_uint8(image[..., :3])
        return cls(picture, mask, detect_features(picture, mask, number_of_points))

    @cached_property
    def grey(self) -> NDArray[np.uint8]:
        """The reference in grey, (H, W) uint8."""
        return _grey(self.image)


@dataclass(frozen=True)
class AlignmentResult:
    """What aligning one photograph gave.

    aligned: the photograph (H, W, 3) in the reference frame.
    homography: 3x3, from the photograph's pixels (x, y) to the reference frame, [2, 2] = 1.
    photo_points, reference_points: (m, 2) matched points; is_inlier: (m,) bool.
    ssim: mean structural similarity over the part; mse: mean squared difference over the part, 8-bit grey levels.
    overlap: intersection over union of the photograph's mask, moved, and the reference's.
    visible: the share of the reference's part that lies within the photograph's frame.
    reason: why it does not count as aligned, or "".
    """

    aligned: NDArray[Any]
    homography: NDArray[np.float64]
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
        """How many matches agree with the homography."""
        return int(self.is_inlier.sum())

    @property
    def inlier_ratio(self) -> float:
        """The share of the matches that agree with the homography."""
        return self.inliers / len(self.is_inlier) if len(self.is_inlier) else 0.0


def align_photograph(
    image: NDArray[Any], mask: NDArray[np.bool_], reference: Reference, settings: AlignmentSettings
) -> AlignmentResult:
    """Align a photograph (H, W, 3) and its part's mask (H, W) to ``reference``.

    Without ``settings.apply_alignment`` the photograph stays as it lies, and is held to the same limits. The result's
    ``reason`` is empty when it passes all of them. Raises AlignmentError where no pose at all, or only an impossible
    one, is found; InputError for a photograph of another size.
    """
    if image.shape[:2] != reference.mask.shape:
        raise InputError(f"is {_size(image)}, the reference is {_size(reference.mask)} pixels")
    if settings.apply_alignment:
        photo_points, reference_points = _match(image, mask, reference, settings)
        homography, is_inlier = _fit(photo_points, reference_points, mask, settings)
        aligned = warp(image, homography)
    else:
        photo_points = reference_points = np.zeros((0, 2), np.float32)
        homography, is_inlier, aligned = np.eye(3), np.zeros(0, bool), image
    ssim, mse = _similarity(aligned, reference)
    overlap, visible = _coverage(mask, homography, reference.mask)
    reason = _shortfall(ssim, mse, overlap, visible, settings)
    if reason and not settings.apply_alignment:
        reason += " (apply_alignment is off)"
    return AlignmentResult(
        aligned, homography, photo_points, reference_points, is_inlier, ssim, mse, overlap, visible, reason
    )


def detect_features(image: NDArray[Any], mask: NDArray[np.bool_], number_of_points: int) -> Features:
    """SIFT features (Lowe 2004) on the part of an RGB image, as RootSIFT (Arandjelovic and Zisserman 2012)."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    left, top = max(0, x - _MARGIN), max(0, y - _MARGIN)
    window = np.s_[top : y + height + _MARGIN, left : x + width + _MARGIN]
    grey = _grey(image[window])
    inside = np.asarray(cv2.dilate(mask[window].view(np.uint8), np.ones((9, 9), np.uint8)), np.uint8)
    scale = min(1.0, float(np.sqrt(min(_PART_PX / max(1, cv2.countNonZero(inside)), _BOX_PX / grey.size))))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    step = np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]], np.float32)
    if scale < 1:
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
        inside = np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    # Without the precise upscale every point lies 0.25 px off in x and y, which a turned part shows doubled.
    sift = cv2.SIFT.create(nfeatures=number_of_points, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, inside)
    if not len(keypoints):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    points = np.asarray([keypoint.pt for keypoint in keypoints], np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    # In steps of 2^-11 their products add up without rounding, so that no order of summation shows.
    descriptors = np.rint(descriptors * _LEVELS) / np.float32(_LEVELS)
    return Features((points + 0.5) * step - 0.5 + np.array([left, top], np.float32), descriptors.astype(np.float32))


def match_features(
    photo: Features, reference: Features, ratio: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (m, 2) of the photograph and of the reference whose descriptors are each other's nearest.

    A match counts when its distance is below ``ratio`` times that to the second nearest (Lowe 2004).
    """
    if min(len(photo.points), len(reference.points)) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    # (a, |a|², 1) (-2 b, 1, |b|²) = |a - b|²: one matrix product gives every distance.
    ours, theirs = photo.descriptors, reference.descriptors
    ours = np.column_stack([ours, (ours**2).sum(1), np.ones(len(ours), np.float32)])
    theirs = np.column_stack([-2 * theirs, np.ones(len(theirs), np.float32), (theirs**2).sum(1)])
    distance = ours @ theirs.T
    rows = np.arange(len(distance))
    best = distance.argmin(1)
    first = distance[rows, best]
    mutual = first == distance.min(0)[best]
    distance[rows, best] = np.inf
    kept = mutual & (first < ratio**2 * distance.min(1))
    return photo.points[kept], reference.points[best[kept]]


def warp(image: NDArray[Any], homography: NDArray[np.float64], *, nearest: bool = False) -> NDArray[Any]:
    """The photograph in the reference frame, of the same size; beyond its edge, its outermost pixels go on."""
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    mode = cv2.BORDER_CONSTANT if nearest else cv2.BORDER_REPLICATE
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpPerspective(image, homography, size, flags=how, borderMode=mode))


def _match(
    image: NDArray[Any], mask: NDArray[np.bool_], reference: Reference, settings: AlignmentSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Matched points of the photograph and the reference, or AlignmentError where they are too few."""
    least = settings.MIN_GOOD_MATCHES
    features = detect_features(image, mask, settings.number_of_points)
    for what, found in (("part", features), ("reference", reference.features)):
        if len(found.points) < least:
            raise AlignmentError(
                f"not aligned: {len(found.points)} features found on the {what}, at least {least} are needed; "
                "it shows too little texture, is out of focus, or too dark"
            )
    matches = match_features(features, reference.features, settings.knn_ratio)
    if len(matches[0]) < least:
        raise AlignmentError(
            f"not aligned: {len(matches[0])} matches with the reference, at least {least} are needed; {_UNLIKE}"
        )
    return matches


def _fit(
    source: NDArray[np.float32], target: NDArray[np.float32], mask: NDArray[np.bool_], settings: AlignmentSettings
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The pose that most matches agree on, and which those are, or AlignmentError where there is none."""
    found = fit_pose(source, target, settings.model, settings.ransac_threshold)
    inliers = 0 if found is None else int(found[1].sum())
    if found is None or inliers < settings.MIN_GOOD_MATCHES:
        raise AlignmentError(
            f"not aligned: {inliers} of {len(source)} matches agree on a pose, "
            f"at least {settings.MIN_GOOD_MATCHES} are needed; {_UNLIKE}"
        )
    if fault := impossible(found[0], mask):
        raise AlignmentError(f"not aligned: the matches agree only on a pose that {fault}")
    return found


def _similarity(aligned: NDArray[Any], reference: Reference) -> tuple[float, float]:
    """SSIM and MSE of the aligned photograph and the reference over the part, both at half size or below."""
    x, y, width, height = cv2.boundingRect(reference.mask.view(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    scale = min(0.5, float(np.sqrt(_SIMILARITY_PX / (width * height))))
    size = (max(_SSIM_WINDOW, int(width * scale)), max(_SSIM_WINDOW, int(height * scale)))

    def small(plane: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32)

    ours, theirs = small(_grey(aligned[window])), small(reference.grey[window])
    inside = small(reference.mask[window].view(np.uint8)) > 0
    _, similarity = structural_similarity(ours, theirs, win_size=_SSIM_WINDOW, data_range=255, full=True)
    return float(similarity[inside].mean()), float(np.mean((ours - theirs)[inside] ** 2))


def _coverage(
    mask: NDArray[np.bool_], homography: NDArray[np.float64], target: NDArray[np.bool_]
) -> tuple[float, float]:
    """Intersection over union of the moved ``mask`` and ``target``; the share of ``target`` within the photograph."""
    labels = warp(mask.view(np.uint8) + 1, homography, nearest=True)  # 0 beyond the photograph, 1 beside the part
    moved = labels == 2
    return _share(moved & target, moved | target), _share((labels > 0) & target, target)


def _share(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(part)) / max(1, int(np.count_nonzero(whole)))


def _shortfall(ssim: float, mse: float, overlap: float, visible: float, settings: AlignmentSettings) -> str:
    """Which limit an alignment fails, in plain words; "" for none."""
    if 1 - visible > _MAX_UNSEEN:
        return (
            f"not aligned: the part runs out of the photograph: {100 * (1 - visible):.2f} % of it is not seen, "
            f"at most {100 * _MAX_UNSEEN:g} % may be"
        )
    if ssim < settings.MIN_SCORE_THRESHOLD:
        return f"not aligned: SSIM {ssim:.3f}, at least {settings.MIN_SCORE_THRESHOLD:g} is needed"
    if mse > settings.MAX_MSE_THRESHOLD:
        return f"not aligned: MSE {mse:.0f}, at most {settings.MAX_MSE_THRESHOLD:g} is allowed"
    if overlap < settings.MIN_OVERLAP:
        return (
            f"not aligned: its mask overlaps the reference's by {overlap:.3f} (IoU), "
            f"at least {settings.MIN_OVERLAP:g} is needed; was the whole part, and no more, found?"
        )
    return ""


def _grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(as_uint8(np.ascontiguousarray(image[..., :3])), cv2.COLOR_RGB2GRAY), np.uint8)


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
