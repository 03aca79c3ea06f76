"""The pose of a part: fitted robustly to matched points, and held against what a photograph can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Points = NDArray[np.float32]

_LARGEST_SCALE = 2.0  # a part larger or smaller than the reference by more is no part of this type
_LARGEST_STRETCH = 1.5  # of one direction against the other; a part tilted by 45 degrees looks stretched by 1.4


def fit_pose(source: Points, target: Points, model: str, threshold: float) -> tuple[Matrix, NDArray[np.bool_]] | None:
    """The 3x3 matrix that takes most points of ``source`` (n, 2) to ``target``, and which, (n,) bool; None for none.

    ``model``: homography, affine or similarity. MAGSAC++ (Barath et al. 2020) with a ``threshold`` in pixels, for a
    similarity RANSAC (OpenCV has no other); then least squares over the inliers.
    """
    search, method, least_squares = _MODELS[model]
    found, inliers = search(
        source, target, method=method, ransacReprojThreshold=threshold, maxIters=2000, confidence=0.999
    )
    if found is None or inliers is None:
        return None
    is_inlier = inliers[:, 0] > 0
    if is_inlier.sum() >= 4:
        refined = least_squares(source[is_inlier], target[is_inlier])
        found = found if refined is None else refined
    matrix = np.eye(3)
    matrix[: len(found)] = found
    return matrix / matrix[2, 2], is_inlier


def impossible(homography: Matrix, mask: NDArray[np.bool_]) -> str:
    """What a pose does to a part's ``mask`` (H, W) that no photograph of the part can show; "" where it is possible.

    Looked at in the corners of the mask's box, where a homography is at its most extreme.
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
    if not 1 / _LARGEST_SCALE <= extreme <= _LARGEST_SCALE:
        return f"scales the part by {extreme:.2f}, and {1 / _LARGEST_SCALE:g} to {_LARGEST_SCALE:g} is possible"
    if not stretch.max() <= _LARGEST_STRETCH:
        return f"shears or stretches the part by {stretch.max():.2f}, and at most {_LARGEST_STRETCH:g} is possible"
    return ""


def _homography(source: Points, target: Points) -> Matrix | None:
    found: Any = cv2.findHomography(source, target)[0]
    return None if found is None else np.asarray(found, np.float64)


def _affine(source: Points, target: Points) -> Matrix:
    a, b = source.astype(np.float64), target.astype(np.float64)
    away, off = a - a.mean(0), b - b.mean(0)
    # Sums, not matrix products: those round by the number of BLAS threads.
    spread = (away[:, :, None] * away[:, None, :]).sum(0)
    linear = (off[:, :, None] * away[:, None, :]).sum(0) @ np.linalg.inv(spread)
    return np.column_stack([linear, b.mean(0) - linear @ a.mean(0)])


def _similarity(source: Points, target: Points) -> Matrix:
    """In complex numbers x + iy: each goes to turn * (x + iy) + shift, which cannot mirror."""
    a, b = (points[:, 0] + 1j * points[:, 1].astype(np.float64) for points in (source, target))
    away, off = a - a.mean(), b - b.mean()
    turn = (away.conj() * off).sum() / (np.abs(away) ** 2).sum()
    shift = b.mean() - turn * a.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


_MODELS: dict[str, tuple[Any, int, Callable[[Points, Points], Matrix | None]]] = {
    "homography": (cv2.findHomography, cv2.USAC_MAGSAC, _homography),
    "affine": (cv2.estimateAffine2D, cv2.USAC_MAGSAC, _affine),
    "similarity": (cv2.estimateAffinePartial2D, cv2.RANSAC, _similarity),
}
