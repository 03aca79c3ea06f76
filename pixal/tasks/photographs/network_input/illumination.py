"""Match a photograph's light to the reference's."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.tasks.photographs.network_input.pooling import average_pool

_STEP = 2  # every second pixel in each direction is enough for the mean of a block
_BLOCKS = 1000  # about so many in the part: a pixel's noise is gone from a block's mean, a stain spans several
_LEAST_SIDE = 4
_DARK, _BRIGHT = 0.02, 0.97  # a darker block holds no colour, a brighter pixel may be saturated
_LEAST_BLOCKS = 6  # a term; with fewer, a stain would be all there is to go by
_POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))  # of x and y in the log of a field
_EXPECTED = (1e3, *[0.3] * 5)  # how large those may well be: a term that no block tells from another stays 0
_ITERATIONS = 5
_TUKEY = 4.685  # 95 % efficient under normal noise
_LEAST_SCALE = 1e-4  # of a block's mean; the rounding to 8 bits makes as much
_CELL = 8  # px between the points where a field is computed


def match_light(
    image: NDArray[np.float32],
    reference: NDArray[np.float32],
    mask: NDArray[np.bool_],
    how: Literal["gain", "field", "none"],
) -> NDArray[np.float32]:
    """``image`` (H, W, 3) in the light of ``reference`` (H, W, 3), both in [0, 1]; so is the result, clipped.

    mask: (H, W), the part's pixels, which alone decide. how: "gain", one factor a channel; "field", a factor that
    changes smoothly over the part, the exponential of a quadratic in x and y a channel; "none", as it is.
    """
    if how == "none":
        return image
    if how == "gain":
        matched = cv2.transform(image, np.diag(light_gain(image, reference, mask)))  # a tenth of a broadcast's time
    else:
        matched = cv2.multiply(image, _light_field(image, reference, mask))
    return np.asarray(cv2.threshold(matched, 1.0, 0, cv2.THRESH_TRUNC)[1], np.float32)


def light_gain(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The gain (3,) a channel that brings ``image`` (H, W, 3) to the light of ``reference``, both in [0, 1].

    A channel with too little to go by, dark or saturated almost everywhere, keeps its light: its gain is 1.
    """
    return np.exp(_log_light(image, reference, mask, terms=1)[:, 0]).astype(np.float32)


def unit_range(image: NDArray[Any]) -> NDArray[np.float32]:
    """An 8- or 16-bit image as float32 in [0, 1]."""
    return np.asarray(np.multiply(image, 1 / np.iinfo(image.dtype).max, dtype=np.float32))


def _light_field(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """The gain (H, W, 3) of each pixel and channel."""
    coefficients = _log_light(image, reference, mask, terms=len(_POWERS))
    height, width = mask.shape
    rows, columns = (np.linspace(-1, 1, 2 * -(-size // _CELL) + 1)[1::2] for size in (height, width))
    cells = _monomials(columns, rows[:, None])
    coarse = np.exp(np.einsum("hwk,ck->hwc", cells, coefficients)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _log_light(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_], *, terms: int
) -> NDArray[np.float64]:
    """The coefficients (3, terms) of the log of the light a channel, for the first ``terms`` monomials.

    Fitted to the ratios of block means: the ratio of two pixels is biased where a channel is hardly brighter than its
    noise. Tukey's biweight, by reweighted least squares (Holland and Welsch, 1977) from the weighted median on, leaves
    out stains and missing pieces; a block out in one channel is out in all, as a stain hardly shows in the darkest.
    """
    ratio, precision, monomials = _blocks(image, reference, mask)
    if len(ratio) < _LEAST_BLOCKS:
        return np.zeros((3, terms))
    blocks = np.count_nonzero(precision, axis=0)
    enough = np.where(np.arange(terms) == 0, _LEAST_BLOCKS, max(_LEAST_BLOCKS * terms, len(ratio) / 2))
    design = monomials[:, None, :terms] * (blocks[:, None] >= enough)  # (N, 3, terms)
    products = design[..., None] * design[..., None, :]
    prior = np.array(_EXPECTED[:terms]) ** -2
    coefficients = np.zeros((3, terms))
    coefficients[:, 0] = np.where(blocks >= _LEAST_BLOCKS, _weighted_median(ratio, precision), 0)
    for _ in range(_ITERATIONS):
        residual = (ratio - np.einsum("nck,ck->nc", design, coefficients)) * np.sqrt(precision)
        scale = np.maximum(1.4826 * _weighted_median(np.abs(residual), precision), _LEAST_SCALE)
        out = ((residual / scale) ** 2).max(axis=1, keepdims=True) / _TUKEY**2
        weight = precision * np.maximum(1 - out, 0) ** 2 / scale**2
        information = np.einsum("nc,nckl->ckl", weight, products) + np.diag(prior)
        evidence = np.einsum("nc,nc,nck->ck", weight, ratio, design)
        coefficients = np.linalg.solve(information, evidence[..., None])[..., 0]
    return coefficients


def _blocks(
    image: NDArray[np.float32], reference: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of N blocks: the log ratio of their means and its precision, up to a factor, both (N, 3), and monomials (N, K).

    A block is of no use (precision 0) in a channel where it is dark or saturated.
    """
    ours, theirs, held = (_thinned(array) for array in (image, reference, mask.view(np.uint8)))
    side = max(_LEAST_SIDE, round(float(np.sqrt(np.count_nonzero(held) / _BLOCKS))))
    usable = (np.maximum(ours, theirs) < _BRIGHT) * cv2.merge([held] * 3).astype(np.float32)
    share = average_pool(usable, side)
    sums = [average_pool(array * usable, side) for array in (ours, theirs)]
    darker = np.minimum(*sums)
    bright = darker > _DARK * share
    ratio = np.log(np.divide(sums[1], sums[0], out=np.ones_like(share), where=bright))
    # The noise of a mean falls with the root of the pixels, that of its log with brightness as well.
    precision = np.divide(darker**2, share, out=np.zeros_like(share), where=bright)
    chosen = bright.any(axis=-1)
    rows, columns = (
        (2 * _STEP * (side * (np.arange(count) + 0.5) - 0.5) + 1) / size - 1
        for count, size in zip(chosen.shape, mask.shape, strict=True)
    )
    monomials = _monomials(columns, rows[:, None])
    return ratio[chosen].astype(np.float64), precision[chosen].astype(np.float64), monomials[chosen]


def _thinned(image: NDArray[Any]) -> NDArray[Any]:
    size = (max(1, image.shape[1] // _STEP), max(1, image.shape[0] // _STEP))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))


def _monomials(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """x^i y^j for each of the powers, along a last axis."""
    return np.stack([x**i * y**j for i, j in _POWERS], axis=-1)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the first axis of (N, C)."""
    order = np.argsort(values, axis=0)
    below = np.cumsum(np.take_along_axis(weights, order, axis=0), axis=0)
    middle = np.argmax(2 * below >= below[-1:], axis=0)
    return np.asarray(np.take_along_axis(values, np.take_along_axis(order, middle[None], axis=0), axis=0)[0])
