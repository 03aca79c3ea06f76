"""Compute the channels of an image: colours, chromaticities and local structure, all in [0, 1].

Each channel has a fixed scale that does not depend on the image, so a colour has the same value in every photograph.

To add a channel, write a function that takes a ``Colours`` and returns a plane (H, W), and decorate it with
``@_register(NAME="meaning and scale")``. A function may also compute several channels: it is registered with several
names and returns (H, W, K).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.tasks.photographs.network_input.colour_spaces import BT601, Colours, Plane, affine


def channel_names(spec: Sequence[str] | str) -> list[str]:
    """Return the channel names of a ``channels`` setting, in the same order.

    Args:
        spec: A list of names (case-sensitive), one name, or ``"ALL"``, alone or in a list, for all of ``CHANNELS``.

    Raises:
        ConfigError: If a name is unknown (the message has the nearest known name) or a duplicate, or the list is empty.
    """
    names = [spec] if isinstance(spec, str) else list(spec)
    if names == ["ALL"]:
        return list(CHANNELS)
    if not names:
        raise ConfigError('channels: the list is empty; name at least one channel, or use "ALL"')
    if "ALL" in names:
        raise ConfigError('channels: "ALL" must be the only name; remove it or the other names')
    for name in names:
        if name not in CHANNELS:
            folded = {known.lower(): known for known in [*CHANNELS, "ALL"]}
            close = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.0)
            raise ConfigError(f"channels: unknown channel {name!r}; the nearest is {folded[close[0]]}")
        if names.count(name) > 1:
            raise ConfigError(f"channels: {name} is in the list more than once; name each channel once")
    return names


def compute_channels(image: NDArray[Any], names: Sequence[str]) -> NDArray[np.float32]:
    """Compute channels of an RGB image.

    Only the requested channels are computed, and a colour space that several of them use only once. Filter channels
    use pixels up to ``FILTER_RADIUS`` away; outside the image it is mirrored at its outermost pixels
    (``cv2.BORDER_REFLECT_101``).

    Args:
        image: (H, W, 3) RGB: uint8, uint16 (all 16 bits are used), or floating point in [0, 1].
        names: Names of channels, as for ``channel_names``. ``CHANNELS`` has the meaning and scale of each.

    Returns:
        (H, W, C) float32 in [0, 1], C in the order of ``names``.

    Raises:
        InputError: If the image has another shape, type or range.
        ConfigError: If a name is not valid.
    """
    channels = [CHANNELS[name] for name in channel_names(names)]
    image = _check_image(image)
    computed = np.empty((*image.shape[:2], len(channels)), dtype=np.float32)
    # Chunks of rows that fit into the processor's cache are twice as fast, and need no large temporary arrays.
    for top in range(0, len(image), CHUNK_ROWS):
        first, chunk = max(top - FILTER_RADIUS, 0), computed[top : top + CHUNK_ROWS]
        # The same margin for all channels: the last bit of a value depends on where an array begins and ends.
        _fill_chunk(chunk, Colours(image[first : top + CHUNK_ROWS + FILTER_RADIUS]), channels, top - first)
        # By their scales all values are in the range, except for the last bit of float32.
        np.clip(chunk, 0.0, 1.0, out=chunk)
    return computed


def _fill_chunk(chunk: Plane, colours: Colours, channels: Sequence[Channel], first: int) -> None:
    """Write channels into ``chunk`` (H, W, C): those of the rows of ``colours`` that begin at row ``first``."""
    functions = list({channel.function: None for channel in channels})
    planes = [function(colours)[first : first + len(chunk)] for function in functions]
    starts = dict(zip(functions, np.cumsum([0, *(plane.shape[2] for plane in planes)]), strict=False))
    pairs = [(starts[channel.function] + channel.plane, target) for target, channel in enumerate(channels)]
    cv2.mixChannels(planes, [chunk], np.ravel(pairs).tolist())


ChannelFunction = Callable[[Colours], NDArray[Any]]


@dataclass(frozen=True)
class Channel:
    """A channel.

    Attributes:
        name: Name in the ``channels`` setting.
        meaning: Meaning and scale.
        reach: Distance in pixels up to which other pixels change its value; 0 for a colour.
        function: Computes (H, W, K): the channel, and those that are computed together with it.
        plane: Index of the channel in the result of the function.
    """

    name: str
    meaning: str
    reach: int
    function: ChannelFunction
    plane: int


CHANNELS: dict[str, Channel] = {}
"""All channels by name, in the order of ``"ALL"``."""

CHUNK_ROWS = 64
"""Rows that ``compute_channels`` processes at a time."""


def _register(*, reach: int = 0, **meanings: str) -> Callable[[ChannelFunction], ChannelFunction]:
    """Register a function as one or more channels.

    Args:
        reach: Distance in pixels up to which other pixels change a value.
        **meanings: Meaning and scale of each channel by its name. The function returns (H, W), or (H, W, K) for K
            names.
    """

    def register(function: ChannelFunction) -> ChannelFunction:
        def compute_planes(colours: Colours) -> NDArray[Any]:
            planes = np.asarray(function(colours), dtype=np.float32)
            return planes.reshape(*planes.shape[:2], len(meanings))

        for plane, (name, meaning) in enumerate(meanings.items()):
            if name in CHANNELS:
                raise ValueError(f"channel {name} is registered twice")
            CHANNELS[name] = Channel(name, meaning, reach, compute_planes, plane)
        return function

    return register


@_register(R="red, sRGB", G="green, sRGB", B="blue, sRGB")
def _rgb(colours: Colours) -> Plane:
    return colours.rgb


@_register(
    H="hue of HSV, turns: red 0, green 1/3, blue 2/3, grey 0 (wraps at red)",
    S="saturation of HSV, (max - min) / max, black 0",
    V="value of HSV, the largest of R, G, B",
)
def _hsv(colours: Colours) -> Plane:
    return colours.hsv


# ITU-R BT.601 at full range, as in JFIF: Cr is (R - Y) / 1.402, Cb is (B - Y) / 1.772.
_YCRCB = [
    [*BT601, 0],
    [0.701 / 1.402, -0.587 / 1.402, -0.114 / 1.402, 0.5],
    [-0.299 / 1.772, -0.587 / 1.772, 0.886 / 1.772, 0.5],
]


@_register(
    Y="luma, ITU-R BT.601 full range (JPEG)",
    Cr="red difference, (R - Y) / 1.402 + 1/2",
    Cb="blue difference, (B - Y) / 1.772 + 1/2",
)
def _ycrcb(colours: Colours) -> Plane:
    return affine(colours.rgb, _YCRCB)


@_register(
    LAB_L="CIE lightness (D65), L / 100",
    LAB_a="CIE green to red (D65), (a + 128) / 255",
    LAB_b="CIE blue to yellow (D65), (b + 128) / 255",
)
def _lab(colours: Colours) -> Plane:
    return affine(colours.lab, [[1 / 100, 0, 0, 0], [0, 1 / 255, 0, 128 / 255], [0, 0, 1 / 255, 128 / 255]])


# The largest chroma of sRGB is that of pure blue, 133.81.
_MAX_CHROMA = np.float32(134.0)
# One 8-bit level changes a and b of a grey by up to about one unit. Hue at five units of chroma has a weight of 0.7.
_GREY_CHROMA_SQUARED = np.float32(5.0**2)


@_register(
    LCh_C="CIE chroma, C / 134",
    LCh_sinH="sine of the CIE hue, faded out at grey: (b / sqrt(C^2 + 25) + 1) / 2, grey 1/2",
    LCh_cosH="cosine of the CIE hue, faded out at grey: (a / sqrt(C^2 + 25) + 1) / 2, grey 1/2",
)
def _lch(colours: Colours) -> Plane:
    a, b = colours.lab[..., 1], colours.lab[..., 2]
    squared = a * a + b * b
    half = np.float32(0.5) / np.sqrt(squared + _GREY_CHROMA_SQUARED)
    return np.stack([np.sqrt(squared) / _MAX_CHROMA, b * half + 0.5, a * half + 0.5], axis=-1)


@_register(r_chroma="fraction of red, R / (R + G + B), black 1/3", g_chroma="fraction of green, black 1/3")
def _chromaticity(colours: Colours) -> Plane:
    tiny = 1e-30  # changes only the sum of black, whose fractions become equal
    rows = [1, 0, 0, tiny], [0, 1, 0, tiny], [1, 1, 1, 3 * tiny]
    red, green, total = (affine(colours.levels, [row]) for row in rows)
    return np.dstack([red / total, green / total])


# The axes of van de Sande et al., PAMI 2010, each with its whole range scaled to [0, 1].
_OPPONENT = [[1 / 2, -1 / 2, 0, 1 / 2], [1 / 4, 1 / 4, -1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3, 0]]


@_register(
    Opp_O1="opponent red to green, (R - G) / 2 + 1/2",
    Opp_O2="opponent yellow to blue, (R + G - 2B) / 4 + 1/2",
    Opp_O3="opponent intensity, (R + G + B) / 3",
)
def _opponent(colours: Colours) -> Plane:
    return affine(colours.rgb, _OPPONENT)


@_register(GradMag="magnitude of the 3x3 Sobel gradient of luma, over its largest, sqrt 20", reach=1)
def _gradient(colours: Colours) -> Plane:
    scale = 20**-0.5  # a corner, gradient (4, 2), is the steepest
    across = np.asarray(cv2.Sobel(colours.luma, cv2.CV_32F, 1, 0, ksize=3, scale=scale, borderType=_MIRROR))
    down = np.asarray(cv2.Sobel(colours.luma, cv2.CV_32F, 0, 1, ksize=3, scale=scale, borderType=_MIRROR))
    # Not cv2.magnitude, whose last bit varies between calls.
    return np.sqrt(across * across + down * down, dtype=np.float32)


@_register(Laplacian="Laplacian of luma over four neighbours, x / 8 + 1/2", reach=1)
def _laplacian(colours: Colours) -> Plane:
    plane = cv2.Laplacian(colours.luma, cv2.CV_32F, ksize=1, scale=1 / 8, delta=0.5, borderType=_MIRROR)
    return np.asarray(plane, dtype=np.float32)


@_register(LocalStd="standard deviation of luma in 5x5 pixels, times 2", reach=2)
def _local_std(colours: Colours) -> Plane:
    # In double precision: in single precision the difference of similar squares has a noise of 1e-3 on a flat image.
    mean = np.asarray(cv2.boxFilter(colours.luma, cv2.CV_64F, (5, 5), borderType=_MIRROR))
    square = np.asarray(cv2.sqrBoxFilter(colours.luma, cv2.CV_64F, (5, 5), borderType=_MIRROR))
    return (2.0 * np.sqrt(np.maximum(square - mean * mean, 0.0))).astype(np.float32)


_MIRROR = cv2.BORDER_REFLECT_101
FILTER_RADIUS: int = max(channel.reach for channel in CHANNELS.values())
"""The largest reach of all channels: pixels farther away do not change a value."""


def _check_image(image: NDArray[Any]) -> NDArray[Any]:
    """Return an RGB image as a contiguous array in native byte order, floats as float32."""
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"channels: the image has shape {image.shape}; pass RGB as (height, width, 3)")
    if image.dtype in (np.uint8, np.dtype("<u2"), np.dtype(">u2")):
        return np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
    if image.dtype.kind != "f":
        raise InputError(f"channels: the image is {image.dtype}; pass uint8, uint16 or float in [0, 1]")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0.0 and high <= 1.0):
        raise InputError(f"channels: the values are {low:g} to {high:g}; clip a float image to [0, 1] first")
    return np.ascontiguousarray(image, dtype=np.float32)
