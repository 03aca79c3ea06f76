"""Bring a photograph into the reference frame: SIFT features, ratio test, robust homography, and how well it went."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pixal.config.schema import Alignment as AlignmentSettings
from pixal.errors import AlignmentError, InputError
from pixal.images import as_uint8

_DETECTION_PX = 150_000  # features are sought at the scale that leaves the part's box this many pixels
_MARGIN = 16  # pixels around the part's box that features may use
_LARGEST_SCALE = 2.0  # a part larger or smaller than the reference by more is no part of this type
_SSIM_WINDOW = 7


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
        return np.asarray(cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY), np.uint8)


@dataclass(frozen=True)
class Alignment:
    """What aligning one photograph gave.

    aligned: the photograph (H, W, 3) in the reference frame.
    homography: 3x3, from the photograph's pixels (x, y) to the reference frame, [2, 2] = 1.
    photo_points, reference_points: (m, 2) matched points; is_inlier: (m,) bool.
    ssim: mean structural similarity over the part; mse: mean squared difference over the part, 8-bit grey levels.
    reason: why it does not count as aligned, or "".
    """

    aligned: NDArray[Any]
    homography: NDArray[np.float64]
    photo_points: NDArray[np.float32]
    reference_points: NDArray[np.float32]
    is_inlier: NDArray[np.bool_]
    ssim: float
    mse: float
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
) -> Alignment:
    """Align a photograph (H, W, 3) and its part's mask (H, W) to ``reference``.

    The result's ``reason`` is empty when it passes every limit in ``settings``. Raises AlignmentError where no
    homography at all, or only an impossible one, is found; InputError for a photograph of another size.
    """
    if image.shape[:2] != reference.mask.shape:
        raise InputError(f"is {_size(image)}, the reference is {_size(reference.mask)} pixels")
    if not settings.apply_alignment:
        none = np.zeros((0, 2), np.float32)
        ssim, mse = _similarity(image, reference)
        return Alignment(image, np.eye(3), none, none, np.zeros(0, bool), ssim, mse)
    features = detect_features(as_uint8(image[..., :3]), mask, settings.number_of_points)
    photo_points, reference_points = match_features(features, reference.features, settings.knn_ratio)
    if len(photo_points) < settings.MIN_GOOD_MATCHES:
        raise AlignmentError(
            f"not aligned: {len(photo_points)} matches with the reference, "
            f"at least {settings.MIN_GOOD_MATCHES} are needed"
        )
    homography, is_inlier = _fit_homography(photo_points, reference_points, settings.ransac_threshold)
    inliers = int(is_inlier.sum())
    if inliers < settings.MIN_GOOD_MATCHES:
        raise AlignmentError(
            f"not aligned: {inliers} of {len(photo_points)} matches agree on a pose, "
            f"at least {settings.MIN_GOOD_MATCHES} are needed"
        )
    _check_possible(homography, mask)
    aligned = warp(image, homography)
    ssim, mse = _similarity(aligned, reference)
    reason = ""
    if ssim < settings.MIN_SCORE_THRESHOLD:
        reason = f"not aligned: SSIM {ssim:.3f}, at least {settings.MIN_SCORE_THRESHOLD:g} is needed"
    elif mse > settings.MAX_MSE_THRESHOLD:
        reason = f"not aligned: MSE {mse:.0f}, at most {settings.MAX_MSE_THRESHOLD:g} is allowed"
    return Alignment(aligned, homography, photo_points, reference_points, is_inlier, ssim, mse, reason)


def detect_features(image: NDArray[np.uint8], mask: NDArray[np.bool_], number_of_points: int) -> Features:
    """SIFT features (Lowe 2004) on the part of an RGB image, as RootSIFT (Arandjelovic and Zisserman 2012)."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    left, top = max(0, x - _MARGIN), max(0, y - _MARGIN)
    window = np.s_[top : y + height + _MARGIN, left : x + width + _MARGIN]
    grey = cv2.cvtColor(np.ascontiguousarray(image[window]), cv2.COLOR_RGB2GRAY)
    scale = min(1.0, float(np.sqrt(_DETECTION_PX / grey.size)))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    step = np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]], np.float32)
    inside = cv2.dilate(mask[window].astype(np.uint8), np.ones((9, 9), np.uint8))
    if scale < 1:
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        inside = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
    # Without the precise upscale every point lies 0.25 px off in x and y, which a turned part shows doubled.
    sift = cv2.SIFT.create(nfeatures=number_of_points, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, inside)
    if not len(keypoints):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    points = np.asarray([keypoint.pt for keypoint in keypoints], np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    return Features((points + 0.5) * step - 0.5 + np.array([left, top], np.float32), descriptors.astype(np.float32))


def match_features(
    photo: Features, reference: Features, ratio: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (m, 2) of the photograph and of the reference whose descriptors are each other's nearest.

    A match counts when its distance is below ``ratio`` times that to the second nearest (Lowe 2004).
    """
    if min(len(photo.points), len(reference.points)) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    # RootSIFT descriptors have unit length: d² = 2 - 2 cos, so one matrix product gives every distance.
    cosine = photo.descriptors @ reference.descriptors.T
    rows = np.arange(len(cosine))
    best = cosine.argmax(1)
    mutual = cosine.argmax(0)[best] == rows
    first = cosine[rows, best]
    cosine[rows, best] = -np.inf
    second = cosine.max(1)
    distinct = (2 - 2 * first) < ratio**2 * (2 - 2 * second)
    kept = mutual & distinct
    return photo.points[kept], reference.points[best[kept]]


def warp(image: NDArray[Any], homography: NDArray[np.float64], *, nearest: bool = False) -> NDArray[Any]:
    """The photograph in the reference frame, of the same size; beyond its edge, its outermost pixels go on."""
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
    mode = cv2.BORDER_CONSTANT if nearest else cv2.BORDER_REPLICATE
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpPerspective(image, homography, size, flags=how, borderMode=mode))


def _fit_homography(
    source: NDArray[np.float32], target: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """MAGSAC++ (Barath et al. 2020), then least squares over its inliers."""
    homography, inliers = cv2.findHomography(
        source, target, cv2.USAC_MAGSAC, threshold, maxIters=2000, confidence=0.999
    )
    if homography is None or inliers is None:  # type: ignore[redundant-expr]  # OpenCV does give None
        raise AlignmentError("not aligned: the matches agree on no pose")
    is_inlier = inliers[:, 0] > 0
    if is_inlier.sum() >= 4:
        refined, _ = cv2.findHomography(source[is_inlier], target[is_inlier], 0)
        homography = homography if refined is None else refined  # type: ignore[redundant-expr]
    return np.asarray(homography / homography[2, 2], np.float64), is_inlier


def _check_possible(homography: NDArray[np.float64], mask: NDArray[np.bool_]) -> None:
    """Refuse a pose that mirrors, folds or shears the part, or scales it out of reason."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)
    moved = cv2.perspectiveTransform(corners[None], homography)[0]
    edges = np.roll(moved, -1, axis=0) - moved
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    scales = np.linalg.norm(edges, axis=1) / np.array([width, height, width, height], np.float64)
    if (turns <= 0).any() or scales.max() > _LARGEST_SCALE or scales.min() < 1 / _LARGEST_SCALE:
        raise AlignmentError("not aligned: the matches agree only on a mirrored, folded or wrongly scaled pose")


def _similarity(aligned: NDArray[Any], reference: Reference) -> tuple[float, float]:
    """SSIM and MSE of the aligned photograph and the reference over the part, both at half size."""
    x, y, width, height = cv2.boundingRect(reference.mask.astype(np.uint8))
    window = np.s_[y : y + height, x : x + width]
    size = (max(_SSIM_WINDOW, width // 2), max(_SSIM_WINDOW, height // 2))

    def halve(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)

    picture = as_uint8(np.ascontiguousarray(aligned[window][..., :3]))
    grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
    ours, theirs = halve(grey), halve(reference.grey[window])
    inside = halve(reference.mask[window].astype(np.uint8)) > 0
    _, similarity = structural_similarity(ours, theirs, win_size=_SSIM_WINDOW, data_range=255, full=True)
    difference = (ours.astype(np.float32) - theirs.astype(np.float32))[inside]
    return float(similarity[inside].mean()), float(np.mean(difference**2))


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
