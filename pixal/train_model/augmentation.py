"""Augmented copies of training images: mirrored, moved, and in slightly different light."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Augmentation
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.train_model.family import Rows

Image = NDArray[np.float32]

# How a channel follows the strength of the light, for small changes: gain ** power around a value. sRGB has a gamma of
# about 2.2, and CIE lightness and chroma follow the cube root of the light. Ratios of colours do not follow it.
_GAMMA = 1 / 2.2
_FOLLOWS_LIGHT = {
    **dict.fromkeys(("R", "G", "B", "V", "Y", "Opp_O3", "GradMag", "LocalStd"), (_GAMMA, 0.0)),
    **dict.fromkeys(("Cr", "Cb", "Opp_O1", "Opp_O2", "Laplacian"), (_GAMMA, 0.5)),
    **dict.fromkeys(("LAB_a", "LAB_b"), (1 / 3, 128 / 255)),
    "LAB_L": (1 / 3, -0.16),
    "LCh_C": (1 / 3, 0.0),
}


def with_copies(inputs: InputSet, settings: Augmentation, seed: int, memory_limit: float) -> InputSet:
    """Add augmented copies of all images.

    The copies of row r are the rows ``rows_with_copies([r], N, copies)``. They depend on the row, the settings and the
    seed only, so a copy of a held-out image is in no fit that holds the image out.

    Args:
        inputs: N images.
        settings: How many copies, and what may change.
        seed: Seed of the random changes.
        memory_limit: The largest memory for the images, in GB.

    Returns:
        The images and their copies in memory, N (1 + copies) rows.

    Raises:
        ConfigError: They need more memory than that.
    """
    count, values = len(inputs), inputs.data.shape[1]
    total = count * (1 + settings.copies)
    if (needed := total * values * 4 / 2**30) > memory_limit:
        raise ConfigError(
            f"model_training.augmentation.copies: {total} images take {needed:.1f} GB, more than "
            f"execution.memory_limit ({memory_limit}); set fewer copies, or raise the limit"
        )
    data = np.empty((total, values), np.float32)
    names = list(inputs.names)
    for row in range(count):
        image = inputs.images(np.array([row]))[0]
        data[row] = image.ravel()
        for number, copy in enumerate(_copies(image, inputs.channels, settings, [seed, row])):
            data[count + row * settings.copies + number] = copy.ravel()
            names.append(f"{inputs.names[row]} (copy {number + 1})")
    repeated = np.repeat(np.arange(count), settings.copies)
    labels = None if inputs.labels is None else np.concatenate([inputs.labels, inputs.labels[repeated]])
    return InputSet(data, inputs.shape, inputs.channels, tuple(names), labels, inputs.types)


def rows_with_copies(rows: Rows, count: int, copies: int) -> Rows:
    """The rows, and those of their copies in the set that ``with_copies`` makes of ``count`` images."""
    return np.concatenate([rows, (count + rows[:, None] * copies + np.arange(copies)).ravel()])


def _copies(image: Image, channels: tuple[str, ...], settings: Augmentation, seed: list[int]) -> Iterator[Image]:
    """Yield the augmented copies of an image (H, W, C)."""
    generator = np.random.default_rng(seed)
    for _ in range(settings.copies):
        flips = generator.random(2) < (settings.flip_vertical, settings.flip_horizontal)
        shift = generator.uniform(-settings.shift, settings.shift, 2)
        gain = 1 + generator.uniform(-settings.light, settings.light)
        copy = image
        for axis in np.flatnonzero(flips):
            copy = np.flip(copy, int(axis))
        if shift.any():
            copy = _moved(np.ascontiguousarray(copy), shift)
        yield _lit(_within_part(copy, image), channels, gain, image)


def _moved(image: Image, shift: NDArray[np.float64]) -> Image:
    """An image (H, W, C), moved by a fraction of a pixel or a few pixels along x and y."""
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    size = image.shape[1::-1]
    planes = [cv2.warpAffine(plane, matrix, size, borderMode=cv2.BORDER_REPLICATE) for plane in _planes(image)]
    return np.stack(planes, axis=-1)


def _within_part(copy: Image, image: Image) -> Image:
    """The copy where it shows the part, and else the image, so that its outline stays. Outside the part, inputs are 0.

    A pixel at the outline of a moved part is a mixture with the 0 outside, so the outermost one does not count.
    """
    inside = (copy != 0).any(-1).astype(np.uint8)
    whole = cv2.erode(inside, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_REPLICATE) > 0
    return np.where((whole & (image != 0).any(-1))[..., None], copy, image)


def _lit(copy: Image, channels: tuple[str, ...], gain: float, image: Image) -> Image:
    """The copy in light of ``gain`` times the strength; 0 outside the part of ``image``."""
    lit = copy.copy()
    for index, channel in enumerate(channels):
        if channel in _FOLLOWS_LIGHT:
            power, centre = _FOLLOWS_LIGHT[channel]
            lit[..., index] = (lit[..., index] - centre) * gain**power + centre
    return np.asarray(np.clip(lit, 0, 1) * (image != 0).any(-1)[..., None], np.float32)


def _planes(image: Image) -> Iterator[Image]:
    for index in range(image.shape[2]):
        yield np.ascontiguousarray(image[..., index])
