"""Figures of one photograph: exposure, contrast, noise, focus, and what recognizes it again. Arrays in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from pixal.tasks.photographs.preprocessing.conditions import relative_sharpness

HASH_BITS = 256
FINGERPRINT_SIZE = 4096

_DCT_SIDE, _HASH_SIDE = 64, 16
_FINGERPRINT_SIDE = 132  # 128 pixels without the border; every second row and column of these is kept
_FINGERPRINT_STEP = 2
_FINGERPRINT_UNIT = 16  # levels per standard deviation; int8 holds 8 standard deviations
_SECOND_DIFFERENCE = np.array([1, -2, 1], np.float32)
_MASK_NORM = 6  # root of the sum of the squares of Immerkaer's mask
_MAD_OF_NORMAL = 0.674489750196082  # median of the absolute value of a standard normal number


@dataclass(frozen=True)
class ImageFigures:
    """Figures of one photograph over the whole frame. Levels are in [0, 1], 1 being the largest value of the format.

    Attributes:
        mean: Mean grey level.
        spread: Standard deviation of the grey levels (the contrast).
        minimum: Smallest grey level.
        maximum: Largest grey level.
        red: Mean of the red channel.
        green: Mean of the green channel.
        blue: Mean of the blue channel.
        noise: Standard deviation of the noise of the grey levels; see ``noise_level``.
        sharpness: See ``relative_sharpness``; NaN without contrast.
        clipped_dark: Fraction of the pixels whose three channels are black.
        clipped_bright: Fraction of the pixels that have at least one saturated channel.
    """

    mean: float
    spread: float
    minimum: float
    maximum: float
    red: float
    green: float
    blue: float
    noise: float
    sharpness: float
    clipped_dark: float
    clipped_bright: float


def image_figures(image: NDArray[Any]) -> ImageFigures:
    """Measure a photograph.

    Args:
        image: The photograph, (H, W, 3), 8- or 16-bit RGB.
    """
    largest = int(np.iinfo(image.dtype).max)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean, spread = (float(value.item()) / largest for value in cv2.meanStdDev(grey))
    minimum, maximum, *_ = cv2.minMaxLoc(grey)
    red, green, blue = (value / largest for value in cv2.mean(image)[:3])
    dark, bright = _clipped_fractions(image, largest)
    return ImageFigures(
        mean=mean,
        spread=spread,
        minimum=minimum / largest,
        maximum=maximum / largest,
        red=red,
        green=green,
        blue=blue,
        noise=noise_level(grey) / largest,
        sharpness=relative_sharpness(image),
        clipped_dark=dark,
        clipped_bright=bright,
    )


def noise_level(grey: NDArray[Any]) -> float:
    """Estimate the standard deviation of the noise (Immerkaer 1996), in the unit of ``grey``.

    The mask of Immerkaer cancels constant, linear and quadratic surfaces, so only noise and edges remain. Its mean
    absolute response grows with the number of edges. The median is used instead, because edges cover less than half
    of a photograph. ``skimage.restoration.estimate_sigma`` (Donoho and Johnstone 1994) is as robust, but needs a
    wavelet transform of the whole image and the package PyWavelets.

    Args:
        grey: Grey levels, (H, W), 8 or 16 bits.

    Returns:
        The estimate; 0 for an image of less than 3 × 3 pixels.
    """
    if min(grey.shape) < 3:
        return 0.0
    depth = cv2.CV_16S if grey.dtype == np.uint8 else cv2.CV_32F
    response = cv2.sepFilter2D(grey, depth, _SECOND_DIFFERENCE, _SECOND_DIFFERENCE)[1:-1, 1:-1]
    counts = np.bincount(np.abs(response).astype(np.int64).ravel())
    return _median_of_counts(counts) / (_MAD_OF_NORMAL * _MASK_NORM)


def perceptual_hash(image: NDArray[Any]) -> NDArray[np.bool_]:
    """Hash of what the photograph looks like at low resolution (the pHash of Zauner 2010, with 256 bits).

    Each bit says whether a coefficient of the discrete cosine transform exceeds the median. Brightness, contrast,
    size and compression change few bits.

    Args:
        image: The photograph, (H, W, 3), 8- or 16-bit RGB.

    Returns:
        (256,) bits.
    """
    small = cv2.resize(image, (_DCT_SIDE, _DCT_SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    low = dctn(grey)[:_HASH_SIDE, :_HASH_SIDE].ravel()
    return np.asarray(low > np.median(low))


def fine_structure(image: NDArray[Any]) -> NDArray[np.int8]:
    """Sample the fine structure of a photograph: second differences at 132 × 132 pixels, at every second position.

    Two files of one photograph have nearly the same fine structure, also after compression or reduction. Photographs
    of two parts do not, unless the parts are the same to a fraction of a pixel and lie in the same place.

    Args:
        image: The photograph, (H, W, 3), 8- or 16-bit RGB.

    Returns:
        (4096,) values in sixteenths of their standard deviation; all 0 without any structure.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    side = (_FINGERPRINT_SIDE, _FINGERPRINT_SIDE)
    small = cv2.resize(grey, side, interpolation=cv2.INTER_AREA).astype(np.float32)
    response = cv2.sepFilter2D(small, cv2.CV_32F, _SECOND_DIFFERENCE, _SECOND_DIFFERENCE)[2:-2, 2:-2]
    samples = response[::_FINGERPRINT_STEP, ::_FINGERPRINT_STEP].ravel()
    spread = float(samples.std())
    if not spread:
        return np.zeros(FINGERPRINT_SIZE, np.int8)
    return np.asarray(np.clip(np.rint(samples * (_FINGERPRINT_UNIT / spread)), -127, 127), np.int8)


def _median_of_counts(counts: NDArray[np.int64]) -> float:
    """Median of whole numbers from how often each occurs, interpolated, as each value stands for ±0.5 around it."""
    cumulated = np.cumsum(counts)
    half = cumulated[-1] / 2
    value = int(np.searchsorted(cumulated, half))
    below = cumulated[value - 1] if value else 0
    share = float(half - below) / float(counts[value])
    # The absolute values 0 fill only half of the interval.
    return value - 0.5 + share if value else share / 2


def _clipped_fractions(image: NDArray[Any], largest: int) -> tuple[float, float]:
    """Fractions of black and of saturated pixels; lossy compression moves either by one of 255 levels."""
    margin = largest // 255
    pixels = image.shape[0] * image.shape[1]
    black = cv2.countNonZero(cv2.inRange(image, (0, 0, 0), (margin,) * 3))
    unsaturated = cv2.countNonZero(cv2.inRange(image, (0, 0, 0), (largest - margin - 1,) * 3))
    return black / pixels, 1 - unsaturated / pixels
