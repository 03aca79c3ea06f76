"""Match the light of a photograph to that of the reference."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.tasks.photographs.network_input.pooling import average_pool
from pixal.tasks.photographs.network_input.robust import biweight, robust_scale

_STEP = 2  # every second pixel in each direction is enough for the mean of a block
_BLOCKS = 1000  # approximate number in the part: the noise of a pixel averages out in a block, a stain covers several
_MIN_SIDE = 4
_DARK, _BRIGHT = 0.02, 0.97  # a darker block has no colour, a brighter pixel may be saturated
_MIN_BLOCKS = 6  # per term; with fewer blocks a stain could decide the fit
_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))  # of x and y in the logarithm of a field
_PRIOR_SCALES = (1e3, *[0.3] * 5)  # typical size of the coefficients: a term that the blocks do not determine stays 0
_ITERATIONS = 5
_MIN_SCALE = 1e-4  # relative noise of a block's mean by rounding to 8 bits
_CELL = 8  # pixels between the points where a field is computed
_WINDOW = 0.08  # standard deviation of the window of a local gain, in units of the square root of the area
_SMALLEST_WINDOW = 32.0  # pixels: larger than a defect on a small part
_WINDOW_ITERATIONS = 3
_LARGEST_LOCAL = 1.25  # largest local gain, and the inverse of the smallest
_WINDOW_CELL = 4  # blocks of this many pixels are compared
_WINDOW_GRID = 2  # sums in windows are computed at every second block
_WINDOW_PRIOR = 1e-3  # mean square of brightness: where the part is darker, the gain stays near 1

LightMatching = Literal["gain", "field", "local", "none"]


def match_light(
    image: NDArray[np.float32],
    reference: NDArray[np.float32],
    mask: NDArray[np.bool_],
    method: LightMatching,
) -> NDArray[np.float32]:
    """Match the light of an image to that of the reference.

    Args:
        image: (H, W, 3) in [0, 1].
        reference: (H, W, 3) in [0, 1].
        mask: (H, W) pixels of the part; only these are used.
        method: ``gain``: one factor per channel; ``field``: one factor per channel and pixel, the exponential of a
            quadratic in x and y; ``local``: one factor per channel and pixel, from a window around the pixel; ``none``.

    Returns:
        (H, W, 3), clipped to [0, 1].
    """
    if method == "none":
        return image
    if method == "field":
        matched = cv2.multiply(image, _light_field(image, reference, mask))
    else:
        matched = cv2.transform(image, np.diag(light_gain(image, reference, mask)))  # ten times as fast as broadcasting
        if method == "local":
            matched = cv2.multiply(matched, _local_gain(np.asarray(matched, np.float32), image, reference, mask))
    return np.asarray(cv2.threshold(matched, 1.0, 0, cv2.THRESH_TRUNC)[1], np.float32)


def restore_saturated(
    matched: NDArray[np.float32], image: NDArray[np.float32], reference: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Make saturated pixels as bright as the reference, if that is brighter.

    A saturated pixel only tells that the part is at least so bright. Else matching the light of a brighter photograph
    would make its white print darker than that of the reference.

    Args:
        matched: (H, W, 3) what ``match_light`` made of the image.
        image: (H, W, 3) in [0, 1].
        reference: (H, W, 3) in [0, 1].

    Returns:
        (H, W, 3).
    """
    restored: NDArray[np.float32] = matched.copy()
    saturated = np.flatnonzero(image > _BRIGHT)
    restored.ravel()[saturated] = np.maximum(matched.ravel()[saturated], reference.ravel()[saturated])
    return restored


def light_gain(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Compute the gain per channel, (3,), that matches the light of ``image`` to that of ``reference``.

    The gain of a channel that is dark or saturated almost everywhere is 1. Arguments as for ``match_light``.
    """
    return np.exp(_log_light(image, reference, mask, terms=1)[:, 0]).astype(np.float32)


def unit_range(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return an 8- or 16-bit image as float32 in [0, 1]."""
    return np.asarray(np.multiply(image, 1 / np.iinfo(image.dtype).max, dtype=np.float32))


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the weighted median of values (N, C) with weights (N, C) along the first axis, (C,)."""
    order = np.argsort(values, axis=0)
    below = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    middle = np.argmax(2 * below >= below[-1:], axis=0)
    return np.asarray(np.take_along_axis(values, np.take_along_axis(order, middle[None], axis=0), axis=0)[0])


def _light_field(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Compute the gain of each pixel and channel, (H, W, 3)."""
    coefficients = _log_light(image, reference, mask, terms=len(_POWERS))
    height, width = mask.shape
    rows, columns = (np.linspace(-1, 1, 2 * -(-size // _CELL) + 1)[1::2] for size in (height, width))
    cells = _monomials(columns, rows[:, None])
    coarse = np.exp(np.einsum("hwk,ck->hwc", cells, coefficients)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _local_gain(
    matched: NDArray[np.float32],
    image: NDArray[np.float32],
    reference: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Compute the gain of each pixel and channel, (H, W, 3), by regression in a Gaussian window around it.

    A block that differs in one channel has little weight in all (Tukey's biweight), and one with pixels that may be
    saturated has none. The window is much wider than a defect, so a defect does not decide the gain.

    Args:
        matched: (H, W, 3) the image, its light matched by one factor per channel.
        image: (H, W, 3) in [0, 1].
        reference: (H, W, 3) in [0, 1].
        mask: (H, W) pixels of the part.
    """
    usable = mask & (_channel_maximum(np.maximum(image, reference)) < _BRIGHT)
    photo, target, share = (
        average_pool(array, _WINDOW_CELL) for array in (matched, reference, usable.astype(np.float32))
    )
    inside = (share > 1 - 1e-6)[..., None].astype(np.float32)
    if not inside.any():
        return np.ones_like(matched)
    sigma = max(_WINDOW * float(np.sqrt(mask.size)), _SMALLEST_WINDOW) / _WINDOW_CELL / _WINDOW_GRID
    size = photo.shape[1::-1]
    gain = np.ones_like(photo)
    for _ in range(_WINDOW_ITERATIONS):
        residual = np.asarray(gain * photo - target)
        medians = [np.median(np.abs(plane[inside[..., 0] > 0])) for plane in cv2.split(residual)]
        scale = robust_scale(np.array(medians), _MIN_SCALE).astype(np.float32)
        weighted = photo * (inside * biweight(_channel_maximum((residual / scale) ** 2))[..., None])
        products, squares = (
            cv2.GaussianBlur(average_pool(weighted * other, _WINDOW_GRID), (0, 0), sigma) for other in (target, photo)
        )
        coarse = np.clip((products + _WINDOW_PRIOR) / (squares + _WINDOW_PRIOR), 1 / _LARGEST_LOCAL, _LARGEST_LOCAL)
        gain = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR), np.float32)
    return np.asarray(cv2.resize(gain, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _log_light(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_], *, terms: int
) -> NDArray[np.float64]:
    """Fit the logarithm of the gain, with the first ``terms`` monomials: coefficients (3, terms).

    The fit uses ratios of block means, because the ratio of two pixels is biased where a channel is not much brighter
    than its noise. It is robust against stains and missing pieces: reweighted least squares with Tukey's biweight
    (Holland and Welsch, 1977) that start from the weighted median. A block that is an outlier in one channel is left
    out of all, because a stain is hardly visible in the darkest channel.
    """
    ratio, precision, monomials = _block_ratios(image, reference, mask)
    if len(ratio) < _MIN_BLOCKS:
        return np.zeros((3, terms))
    blocks = np.count_nonzero(precision, axis=0)
    required = np.where(np.arange(terms) == 0, _MIN_BLOCKS, max(_MIN_BLOCKS * terms, len(ratio) / 2))
    design = monomials[:, None, :terms] * (blocks[:, None] >= required)  # (N, 3, terms)
    products = design[..., None] * design[..., None, :]
    prior = np.array(_PRIOR_SCALES[:terms]) ** -2
    coefficients = np.zeros((3, terms))
    coefficients[:, 0] = np.where(blocks >= _MIN_BLOCKS, weighted_median(ratio, precision), 0)
    for _ in range(_ITERATIONS):
        residual = (ratio - np.einsum("nck,ck->nc", design, coefficients)) * np.sqrt(precision)
        scale = robust_scale(weighted_median(np.abs(residual), precision), _MIN_SCALE)
        weight = precision * biweight(((residual / scale) ** 2).max(axis=1, keepdims=True)) / scale**2
        information = np.einsum("nc,nckl->ckl", weight, products) + np.diag(prior)
        evidence = np.einsum("nc,nc,nck->ck", weight, ratio, design)
        coefficients = np.linalg.solve(information, evidence[..., None])[..., 0]
    return coefficients


def _block_ratios(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Compare the means of N blocks of the part.

    Returns:
        The logarithm of the ratio of the means, (N, 3); its precision up to a factor, (N, 3), 0 in a channel where the
        block is dark or saturated; and the monomials at the block's centre, (N, K).
    """
    photo, target, is_part = (_subsample(array) for array in (image, reference, mask.view(np.uint8)))
    side = max(_MIN_SIDE, round(float(np.sqrt(np.count_nonzero(is_part) / _BLOCKS))))
    usable = (np.maximum(photo, target) < _BRIGHT) * cv2.merge([is_part] * 3).astype(np.float32)
    fraction = average_pool(usable, side)
    sums = [average_pool(array * usable, side) for array in (photo, target)]
    darker = np.minimum(*sums)
    bright = darker > _DARK * fraction
    ratio = np.log(np.divide(sums[1], sums[0], out=np.ones_like(fraction), where=bright))
    # The noise of a mean falls with the square root of the pixel number; that of its logarithm also with brightness.
    precision = np.divide(darker**2, fraction, out=np.zeros_like(fraction), where=bright)
    chosen = bright.any(axis=-1)
    rows, columns = (
        (2 * _STEP * (side * (np.arange(count) + 0.5) - 0.5) + 1) / size - 1
        for count, size in zip(chosen.shape, mask.shape, strict=True)
    )
    monomials = _monomials(columns, rows[:, None])
    return ratio[chosen].astype(np.float64), precision[chosen].astype(np.float64), monomials[chosen]


def _channel_maximum(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest of the three channels, (H, W); five times as fast as ``image.max(axis=-1)``."""
    red, green, blue = cv2.split(image)
    return np.maximum(np.maximum(red, green), blue)


def _subsample(image: NDArray[Any]) -> NDArray[Any]:
    size = (max(1, image.shape[1] // _STEP), max(1, image.shape[0] // _STEP))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))


def _monomials(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return x^i y^j for all powers, along a new last axis."""
    return np.stack([x**i * y**j for i, j in _POWERS], axis=-1)
