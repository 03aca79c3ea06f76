"""Patch features: what a frozen network says of each place of an image, on one grid; computed once for all fits."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from keras import ops
from numpy.typing import NDArray
from skimage.color import lab2rgb

from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.io.arrays import release_pages
from pixal.train_model.family import Rows
from pixal.train_model.patch_features.backbones import IMAGENET_MEAN, Backbone

_log = logging.getLogger(__name__)

Features = NDArray[np.float32]

_STORE = 0.25  # of the memory limit: larger stores are files
_LAB = ("LAB_L", "LAB_a", "LAB_b")


class PatchFeatures:
    """Features of images, (n, h, w, D): maps of a backbone brought to the first one's grid and put together.

    backbone: built for ``frame.size``. channels: the images'. maps: which of the backbone's are taken. subset: which
    of all their channels are kept, in ascending order; None: all. pool: each map is first averaged over this many
    places, squared. interpolation: how coarser maps are brought to the grid, "nearest" or "bilinear".
    """

    def __init__(
        self,
        backbone: Backbone,
        frame: Frame,
        channels: Sequence[str],
        *,
        maps: slice = slice(None),
        subset: NDArray[np.intp] | None = None,
        pool: int = 1,
        interpolation: str = "nearest",
    ) -> None:
        self.frame, self._channels, self._prepare = frame, tuple(channels), backbone.prepare
        taken = backbone.model.outputs[maps]
        self.grid: tuple[int, int] = tuple(int(side) for side in taken[0].shape[1:3])  # type: ignore[assignment]
        parts, first = [], 0
        for one in taken:
            own = np.arange(first, first + one.shape[-1])
            first += len(own)
            kept = np.arange(len(own)) if subset is None else np.flatnonzero(np.isin(own, subset))
            if not len(kept):
                continue
            if pool > 1:
                one = keras.layers.AveragePooling2D(pool, 1, "same")(one)
            if len(kept) < len(own):
                one = ops.take(one, kept, axis=-1)
            if tuple(one.shape[1:3]) != self.grid:
                one = ops.image.resize(one, self.grid, interpolation=interpolation)
            parts.append(ops.cast(one, "float32"))
        whole = ops.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
        self.depth = int(whole.shape[-1])
        network = keras.Model(backbone.model.inputs, whole)
        shape = tf.TensorSpec((1, *frame.size, 3), tf.float32)
        self._run = tf.function(lambda image: network(image, training=False), input_signature=[shape])

    def __call__(self, images: NDArray[np.float32], masks: NDArray[np.bool_], flips: Any = None) -> Features:
        """Features of images (n, H, W, C), whose parts lie within ``masks`` (n, H, W): (n, h, w, D).

        ``flips`` (n, 2): which are mirrored left to right, and top to bottom. What lies beside the part is ImageNet's
        mean colour. One image at a time: the same image gives the same bits whatever else is asked for.
        """
        found = np.empty((len(images), *self.grid, self.depth), np.float32)
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            rgb = rgb_of(image, self._channels, mask)
            if flips is not None:
                rgb = rgb[:: -1 if flips[number][1] else 1, :: -1 if flips[number][0] else 1]
                rgb = np.where(mask[..., None], rgb, IMAGENET_MEAN)
            framed = self.frame.of(rgb)
            found[number] = self._run(tf.constant(self._prepare(framed[None])))[0]
        return found

    def cells(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The places of the grid, (h, w), that touch the part, and their neighbours: maps on it are made of these."""
        share = cv2.resize(self.frame.of(mask.astype(np.float32)), self.grid[::-1], interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.dilate((share > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)


class Frame:
    """Where in an image the network looks: the image resized, and cut to its centre.

    resize: length of the shorter side, or (h, w); None: as it is. cropsize: of a square, or (h, w); None: all of it.
    size: (h, w) of what the network sees.
    """

    def __init__(self, shape: Sequence[int], resize: Any, cropsize: Any) -> None:
        height, width = (int(side) for side in shape[:2])
        self._shape = height, width
        if isinstance(resize, int):
            scale = resize / min(height, width)
            self._resized = max(1, round(height * scale)), max(1, round(width * scale))
        else:
            self._resized = tuple(resize) if resize else (height, width)
        crop = (cropsize, cropsize) if isinstance(cropsize, int) else cropsize or self._resized
        self.size = min(crop[0], self._resized[0]), min(crop[1], self._resized[1])
        self._top, self._left = ((whole - cut) // 2 for whole, cut in zip(self._resized, self.size, strict=True))

    def of(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """What of an image (H, W) or (H, W, C) the network sees, (h, w) or (h, w, C)."""
        if self._resized != self._shape:
            shrinks = self._resized[0] < self._shape[0]
            method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, self._resized[::-1], interpolation=method), np.float32)
        rows, columns = (slice(at, at + n) for at, n in zip((self._top, self._left), self.size, strict=True))
        return np.ascontiguousarray(image[rows, columns])

    def back(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map (h', w') of what the network saw, brought to the image: (H, W), 0 beside the crop; bilinear."""
        found = np.zeros(self._resized, np.float32)
        cut = cv2.resize(grid, self.size[::-1], interpolation=cv2.INTER_LINEAR)
        found[self._top : self._top + self.size[0], self._left : self._left + self.size[1]] = cut
        if self._resized != self._shape:
            return np.asarray(cv2.resize(found, self._shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        return found


def rgb_of(image: NDArray[np.float32], channels: Sequence[str], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """RGB (H, W, 3) in [0, 1] of an image (H, W, C): its R, G and B, or else from LAB; ImageNet's mean beside ``mask``.

    Raises ConfigError where ``channels`` have neither.
    """
    rgb = np.empty((*image.shape[:2], 3), np.float32)
    rgb[:] = IMAGENET_MEAN
    if set("RGB") <= set(channels):
        rgb[mask] = image[mask][:, [channels.index(name) for name in "RGB"]]
    elif set(_LAB) <= set(channels):
        # The scales of pixal/tasks/photographs/network_input/channels.py, undone.
        lab = image[mask][:, [channels.index(name) for name in _LAB]] * np.array([100, 255, 255], np.float32)
        lab -= np.array([0, 128, 128], np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the mean of several pixels may lie a little outside sRGB
            rgb[mask] = lab2rgb(lab)
    else:
        raise ConfigError(
            f"preprocessing.preprocessor.channels: a backbone wants colours, which {', '.join(channels)} are not; "
            "name R, G and B, or LAB_L, LAB_a and LAB_b among them, and run make_input again"
        )
    return rgb


class FeatureStore:
    """The features of an InputSet's rows, each computed when it is first asked for, and kept.

    In memory up to a share of ``memory_limit`` (GB), else in a temporary file. ``masks``: (T, H, W); ``of_row`` (N,):
    the type of each row. ``flips`` (N, 2): which rows are mirrored, as of ``PatchFeatures``.
    """

    def __init__(
        self,
        features: PatchFeatures,
        inputs: InputSet,
        masks: NDArray[np.bool_],
        of_row: Rows,
        *,
        flips: NDArray[np.bool_] | None,
        memory_limit: float,
    ) -> None:
        self.inputs, self.masks = inputs, masks
        self._features, self._of_row, self._flips = features, of_row, flips
        shape = (len(inputs), features.grid[0] * features.grid[1], features.depth)
        size = 4 * int(np.prod(shape))
        self._known = np.zeros(len(inputs), bool)
        self._data: NDArray[np.float32]
        in_memory = size <= _STORE * memory_limit * 1e9
        where = "memory" if in_memory else f"a file in {tempfile.gettempdir()}"
        _log.info("features of %d images: %.2f GB in %s", len(inputs), size / 1e9, where)
        if in_memory:
            self._data = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile() as file:  # the map holds it open, and lets go of it
                self._data = np.memmap(file, np.float32, "w+", shape=shape)

    def prepare(self, rows: Rows) -> None:
        """Compute the features of those ``rows`` that are not known yet."""
        for row in rows[~self._known[rows]]:
            one = np.array([row])
            flips = None if self._flips is None else self._flips[one]
            found = self._features(self.inputs.images(one), self.masks[self._of_row[one]], flips)
            self._data[row] = found.reshape(-1, found.shape[-1])
            self._known[row] = True
            release_pages(self._data)

    def at(self, rows: Rows, places: Rows) -> Features:
        """Features (n, p, D) of ``rows`` at ``places`` of the grid, which are numbered line by line."""
        self.prepare(rows)
        found = np.empty((len(rows), len(places), self._data.shape[2]), np.float32)
        for number, row in enumerate(rows):
            found[number] = self._data[row, places]
        release_pages(self._data)
        return found
