"""Detect features of a part, and match them with those of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.io.images import as_uint8

# Features are detected at the scale where the part and the box around it have at most this many pixels.
_PART_PX = 100_000
_BOX_PX = 200_000
_MARGIN = 16  # pixels around the part's box that features may use
_CONTRAST = 0.01  # OpenCV's 0.04 finds no features on a part with a sixth of the usual contrast, which 0.01 can align
_LEVELS = 2048  # of an entry of a descriptor


@dataclass(frozen=True)
class Features:
    """SIFT features of a part.

    Attributes:
        points: (N, 2) float32, (x, y) in the image's pixels.
        descriptors: (N, 128) float32, RootSIFT.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.float32]


def detect_features(image: NDArray[Any], mask: NDArray[np.bool_], number_of_points: int) -> Features:
    """Detect SIFT features (Lowe 2004) on a part; descriptors are RootSIFT (Arandjelovic and Zisserman 2012).

    Args:
        image: (H, W, 3) RGB, 8- or 16-bit.
        mask: (H, W) foreground mask.
        number_of_points: Number of features to keep, the strongest first.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    left, top = max(0, x - _MARGIN), max(0, y - _MARGIN)
    window = np.s_[top : y + height + _MARGIN, left : x + width + _MARGIN]
    grey = to_grey(image[window])
    inside = np.asarray(cv2.dilate(mask[window].view(np.uint8), np.ones((9, 9), np.uint8)), np.uint8)
    scale = min(1.0, float(np.sqrt(min(_PART_PX / max(1, cv2.countNonZero(inside)), _BOX_PX / grey.size))))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    step = np.array([grey.shape[1] / size[0], grey.shape[0] / size[1]], np.float32)
    if scale < 1:
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
        inside = np.asarray(cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    # Without the precise upscale points are off by 0.25 px in x and y; on a part turned by 180 degrees this doubles.
    sift = cv2.SIFT.create(nfeatures=number_of_points, contrastThreshold=_CONTRAST, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, inside)
    if not len(keypoints):
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    points = np.asarray([keypoint.pt for keypoint in keypoints], np.float32)
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(1, keepdims=True), 1e-9))
    # Multiples of 2^-11: sums of their products are exact, so they do not depend on the order of summation.
    descriptors = np.rint(descriptors * _LEVELS) / np.float32(_LEVELS)
    return Features((points + 0.5) * step - 0.5 + np.array([left, top], np.float32), descriptors.astype(np.float32))


def match_features(
    photo: Features, reference: Features, ratio: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the points of the photograph and of the reference that match, (M, 2) each.

    Two features match if each is the other's nearest, and the distance is below ``ratio`` times the distance to the
    second nearest feature of the reference (Lowe 2004).
    """
    if min(len(photo.points), len(reference.points)) < 2:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    # (a, |a|², 1) (-2 b, 1, |b|²) = |a - b|²: one matrix product gives all distances.
    a, b = photo.descriptors, reference.descriptors
    a = np.column_stack([a, (a**2).sum(1), np.ones(len(a), np.float32)])
    b = np.column_stack([-2 * b, np.ones(len(b), np.float32), (b**2).sum(1)])
    distance = a @ b.T
    rows = np.arange(len(distance))
    nearest = distance.argmin(1)
    first = distance[rows, nearest]
    is_mutual = first == distance.min(0)[nearest]
    distance[rows, nearest] = np.inf
    is_match = is_mutual & (first < ratio**2 * distance.min(1))
    return photo.points[is_match], reference.points[nearest[is_match]]


def to_grey(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an RGB or RGBA image as (H, W) uint8 grey levels."""
    return np.asarray(cv2.cvtColor(as_uint8(np.ascontiguousarray(image[..., :3])), cv2.COLOR_RGB2GRAY), np.uint8)
