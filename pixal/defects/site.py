"""The neighbourhood of a planted defect on a photograph, as a kind of defect sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Matrix = NDArray[np.float64]

CAMERA_BLUR = 0.5
"""Standard deviation in photograph pixels of the blur of a camera in focus; without it, drawn edges are too sharp."""

_STEEPEST = 2.0  # the steepest slope of a level function
_HALF_DIAGONAL = 0.75  # of a pixel, rounded up
_FEWEST_SAMPLES, _MOST_SAMPLES = 4, 16  # per pixel and direction
_SAMPLES_PER_SIZE = 2.0  # thinner lines would be drawn too wide


@dataclass(frozen=True)
class Site:
    """The window of a photograph in which one defect is drawn.

    The *frame of the defect* has its origin at the defect's place, its unit is the pixel of the reference, and its x
    axis has the defect's orientation. Points are (..., 2) arrays (x, y) in this frame.

    Attributes:
        size: Size of the defect in reference pixels; what it means depends on the kind.
        is_bright: Whether the defect is brighter than what lies beneath; only for kinds that can be either.
        rng: The random numbers of the defect.
        photograph: The whole photograph without alpha, (H, W, C), uint8 or uint16, C = 1 or 3.
        left: First column of the window.
        top: First row of the window.
        shape: Rows and columns of the window.
        to_frame: 3x3 matrix from the photograph's pixels (x, y) to the frame of the defect.
        to_reference: 3x3 matrix from the frame of the defect to the reference frame.
        part: (H, W) bool, the part in the reference frame; None if the part fills the photograph.
    """

    size: float
    is_bright: bool
    rng: np.random.Generator
    photograph: NDArray[Any]
    left: int
    top: int
    shape: tuple[int, int]
    to_frame: Matrix
    to_reference: Matrix
    part: NDArray[np.bool_] | None

    @cached_property
    def pixels(self) -> Floats:
        """(h, w, C) colours in the window, 0 to 1."""
        return self._window(self.left, self.top, self.top + self.shape[0], self.left + self.shape[1])

    @cached_property
    def intensity(self) -> Floats:
        """(h, w) mean of the colour channels, 0 to 1."""
        return channel_mean(self.pixels)

    @cached_property
    def points(self) -> Floats:
        """(h, w, 2) centres of the window's pixels in the frame of the defect."""
        rows, columns = self.shape
        x = np.arange(self.left, self.left + columns, dtype=np.float64)
        y = np.arange(self.top, self.top + rows, dtype=np.float64)
        return _project(self.to_frame, np.stack(np.meshgrid(x, y), -1))

    @cached_property
    def depth(self) -> Floats:
        """(h, w) distance of each pixel from the part's outline in reference pixels: above 0 on the part."""
        if self.part is None:
            return np.full(self.shape, np.inf, np.float32)
        at = _project(self.to_reference, self.points)
        pad = 2 * self.size + 4
        low = np.clip(np.floor(at.min((0, 1)) - pad), 0, np.array(self.part.shape[::-1]) - 1).astype(int)
        high = np.clip(np.ceil(at.max((0, 1)) + pad) + 1, low + 1, self.part.shape[::-1]).astype(int)
        crop = self.part[low[1] : high[1], low[0] : high[0]].astype(np.uint8)
        distance = _distance(crop) - _distance(1 - crop)
        distance -= np.sign(distance) / 2  # the outline lies between pixels
        x, y = np.moveaxis(at - low, -1, 0)
        return np.asarray(
            cv2.remap(
                distance, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            ),
            np.float32,
        )

    @cached_property
    def to_photograph(self) -> Matrix:
        """3x3 matrix from the frame of the defect to the photograph's pixels (x, y)."""
        return np.asarray(np.linalg.inv(self.to_frame), np.float64)

    @cached_property
    def pixel_size(self) -> float:
        """The side of a photograph pixel at the defect, in reference pixels."""
        centre = self.to_photograph @ [0, 0, 1]
        around = centre[:2] / centre[2] + np.array([[-0.5, 0], [0.5, 0], [0, -0.5], [0, 0.5]])
        left, right, up, down = _project(self.to_frame, around)
        return float(np.linalg.norm(np.stack([right - left, down - up]), 2))

    def coverage(self, level: Callable[[Floats], Floats], softness: float = 0.0) -> Floats:
        """Return how much of each pixel a shape covers, as a camera in focus sees it.

        The mean over samples within the pixel, at its edge only, then blurred by ``CAMERA_BLUR``.

        Args:
            level: The shape: a function of points (..., 2) to (...), below 0 inside and above 0 outside, such as the
                distance from its edge. Its slope at the edge must be at most 2 per reference pixel.
            softness: Width in reference pixels of the edge, over which the coverage falls from 1 to 0.

        Returns:
            (h, w) float32, 0 to 1.
        """
        at_centres = level(self.points)
        samples = int(np.ceil(_SAMPLES_PER_SIZE * self.pixel_size / self.size))
        samples = min(max(samples, _FEWEST_SAMPLES), _MOST_SAMPLES)
        edge = np.abs(at_centres) <= _STEEPEST * _HALF_DIAGONAL * self.pixel_size + softness / 2
        covered = np.asarray(at_centres < 0, np.float32)
        y, x = np.nonzero(edge)
        offsets = (np.arange(samples) + 0.5) / samples - 0.5
        inside = np.stack(np.meshgrid(offsets + self.left, offsets + self.top), -1).reshape(-1, 2)
        points = _project(self.to_frame, np.stack([x, y], -1)[:, None] + inside)
        width = max(softness, self.pixel_size / samples)
        covered[edge] = np.clip(0.5 - level(points) / np.float32(width), 0, 1).mean(-1)
        return np.asarray(cv2.GaussianBlur(covered, (0, 0), CAMERA_BLUR, borderType=cv2.BORDER_REPLICATE), np.float32)

    def sample(self, points: Floats) -> Floats:
        """Return the colours (h, w, C) of the photograph at points (h, w, 2) of the window, 0 to 1."""
        at = _project(self.to_photograph, points) - (self.left, self.top)
        x, y = np.moveaxis(at.astype(np.float32), -1, 0)
        # OpenCV does not return from reflecting at both ends of a single row or column.
        border = cv2.BORDER_REPLICATE if min(self.pixels.shape[:2]) == 1 else cv2.BORDER_REFLECT_101
        sampled = cv2.remap(self.pixels, x, y, cv2.INTER_CUBIC, borderMode=border)
        return np.asarray(sampled, np.float32).reshape(self.pixels.shape)

    def shifted(self, shift: tuple[float, float]) -> Floats:
        """Return the colours (h, w, C) of an equal window elsewhere, NaN outside the photograph.

        Args:
            shift: (x, y) from here to there in the frame of the defect; rounded to whole pixels of the photograph, so
                that nothing is interpolated.
        """
        here, there = _project(self.to_photograph, np.array([(0.0, 0.0), shift]))
        x, y = np.rint(there - here).astype(int) + np.array([self.left, self.top])
        (rows, columns), (height, width) = self.shape, self.photograph.shape[:2]
        colours = np.full(self.pixels.shape, np.nan, np.float32)
        down, right = slice(max(0, -y), max(0, height - y)), slice(max(0, -x), max(0, width - x))
        colours[down, right] = self._window(max(0, x), max(0, y), max(0, y + rows), max(0, x + columns))
        return colours

    def is_on_part(self, points: NDArray[Any]) -> NDArray[np.bool_]:
        """Return for points (..., 2) whether they are on the part (...)."""
        if self.part is None:
            return np.ones(points.shape[:-1], bool)
        x, y = np.moveaxis(np.rint(_project(self.to_reference, points)).astype(int), -1, 0)
        height, width = self.part.shape
        in_frame = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        return np.asarray(in_frame & self.part[y.clip(0, height - 1), x.clip(0, width - 1)])

    def _window(self, left: int, top: int, bottom: int, right: int) -> Floats:
        window = self.photograph[top:bottom, left:right]
        return np.asarray(window / np.float32(np.iinfo(self.photograph.dtype).max), np.float32)


def channel_mean(colours: Floats) -> Floats:
    """Return the mean (h, w) over the channels of colours (h, w, C)."""
    channels = colours.shape[2]
    return np.asarray(colours @ np.full(channels, 1 / channels, np.float32))  # several times as fast as ``mean``


def _project(matrix: Matrix, points: NDArray[Any]) -> Floats:
    """Apply a 3x3 matrix to points (..., 2)."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[..., :2] / mapped[..., 2:], np.float32)


def _distance(mask: NDArray[np.uint8]) -> Floats:
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
