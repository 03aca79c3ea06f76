"""Fit the pose of a part to matched points, and check that a photograph can show it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.tasks.photographs.geometry import Matrix, Points

_MAX_SCALE = 2.0  # a part this much larger or smaller than the reference is of another type
_MAX_STRETCH = 1.5  # ratio of the scales along two axes; a part tilted by 45 degrees has 1.4


def fit_pose(source: Points, target: Points, model: str, threshold: float) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """Fit the transformation that moves most points of ``source`` to ``target``.

    A robust fit, then least squares over the inliers. The robust method is MAGSAC++ (Barath et al. 2020); for a
    similarity it is RANSAC, the only one that OpenCV offers.

    Args:
        source: (N, 2) points.
        target: (N, 2) points.
        model: ``homography``, ``affine`` or ``similarity``.
        threshold: Largest distance of an inlier from its predicted position, in pixels.

    Returns:
        The 3x3 matrix with [2, 2] = 1, and which points are inliers, (N,); None if there is no pose.
    """
    search, method, least_squares = _MODELS[model]
    matrix, inliers = search(
        source, target, method=method, ransacReprojThreshold=threshold, maxIters=2000, confidence=0.999
    )
    if matrix is None or inliers is None:
        return None
    is_inlier = inliers[:, 0] > 0
    if is_inlier.sum() >= 4:
        refined = least_squares(source[is_inlier], target[is_inlier])
        matrix = matrix if refined is None else refined
    pose = np.eye(3)
    pose[: len(matrix)] = matrix
    return pose / pose[2, 2], is_inlier


def find_pose_fault(homography: Matrix, mask: NDArray[np.bool_]) -> str:
    """Describe what a pose does to a part that no photograph of it can show.

    The pose is checked at the corners of the box around the mask, where a homography is most extreme.

    Args:
        homography: 3x3 matrix from the photograph's pixels to the reference frame.
        mask: (H, W) foreground mask of the part.

    Returns:
        A description, for example ``mirrors the part``; "" for a possible pose.
    """
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float64)
    depth = corners @ homography[2, :2] + homography[2, 2]
    if not depth.min() > 0:
        return "folds the part"
    moved = (corners @ homography[:2, :2].T + homography[:2, 2]) / depth[:, None]
    jacobian = (homography[:2, :2] - moved[:, :, None] * homography[2, :2]) / depth[:, None, None]
    if not np.linalg.det(jacobian).min() > 0:
        return "mirrors the part"
    major, minor = np.linalg.svd(jacobian, compute_uv=False).T
    scale, stretch = np.sqrt(major * minor), major / minor
    extreme = float(scale[np.argmax(np.abs(np.log(scale)))])
    if not 1 / _MAX_SCALE <= extreme <= _MAX_SCALE:
        return f"scales the part by {extreme:.2f}; {1 / _MAX_SCALE:g} to {_MAX_SCALE:g} is possible"
    if not stretch.max() <= _MAX_STRETCH:
        return f"shears or stretches the part by {stretch.max():.2f}; at most {_MAX_STRETCH:g} is possible"
    return ""


def _fit_homography(source: Points, target: Points) -> Matrix | None:
    matrix: Any = cv2.findHomography(source, target)[0]
    return None if matrix is None else np.asarray(matrix, np.float64)


def _fit_affine(source: Points, target: Points) -> Matrix:
    """Return the (2, 3) least squares matrix."""
    a, b = source.astype(np.float64), target.astype(np.float64)
    a_centred, b_centred = a - a.mean(0), b - b.mean(0)
    # Sums instead of matrix products, whose rounding depends on the number of BLAS threads.
    covariance = (a_centred[:, :, None] * a_centred[:, None, :]).sum(0)
    linear = (b_centred[:, :, None] * a_centred[:, None, :]).sum(0) @ np.linalg.inv(covariance)
    return np.column_stack([linear, b.mean(0) - linear @ a.mean(0)])


def _fit_similarity(source: Points, target: Points) -> Matrix:
    """Return the (2, 3) least squares matrix.

    With points as complex numbers x + iy a similarity is z -> factor * z + shift, which cannot mirror.
    """
    a, b = (points[:, 0] + 1j * points[:, 1].astype(np.float64) for points in (source, target))
    a_centred, b_centred = a - a.mean(), b - b.mean()
    factor = (a_centred.conj() * b_centred).sum() / (np.abs(a_centred) ** 2).sum()
    shift = b.mean() - factor * a.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


_MODELS: dict[str, tuple[Any, int, Callable[[Points, Points], Matrix | None]]] = {
    "homography": (cv2.findHomography, cv2.USAC_MAGSAC, _fit_homography),
    "affine": (cv2.estimateAffine2D, cv2.USAC_MAGSAC, _fit_affine),
    "similarity": (cv2.estimateAffinePartial2D, cv2.RANSAC, _fit_similarity),
}
