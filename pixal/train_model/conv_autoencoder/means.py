"""Mean images of good parts. The convolutional network sees the deviations from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.train_model.family import Rows

Images = NDArray[np.float32]

_MIN_SPREAD = 1e-3  # of a channel: a quarter of an 8-bit level

Window = tuple[slice, slice]
"""Rows and columns of a rectangle in an image."""

WHOLE_IMAGE: Window = (slice(None), slice(None))


@dataclass(frozen=True)
class Means:
    """The mean image of the good parts of each type, and how far good parts are from it.

    Attributes:
        images: The mean images, (T, H, W, C) float32.
        masks: The consensus masks, (T, H, W).
        spread: The root mean square deviation of good parts from their mean, within the part, (C,) float32.
    """

    images: Images
    masks: NDArray[np.bool_]
    spread: Images

    @classmethod
    def measure(cls, inputs: InputSet, rows: Rows, type_indices: Rows, masks: NDArray[np.bool_]) -> Means:
        """Measure the means of ``inputs[rows]``, with one image in memory at a time (Welford 1962).

        Args:
            inputs: All good parts.
            rows: The rows to measure.
            type_indices: The index of the type of each row of ``inputs``, (N,).
            masks: The consensus mask of each type, (T, H, W).
        """
        means = np.zeros((len(masks), *inputs.shape), np.float32)
        squares, values = np.zeros(inputs.shape[2]), 0
        for type_index, mask in enumerate(masks):
            for count, row in enumerate(rows[type_indices[rows] == type_index], start=1):
                image = inputs.images(np.array([row]))[0]
                before = image - means[type_index]
                means[type_index] += before / np.float32(count)
                after = image - means[type_index]
                squares += np.einsum("pc,pc->c", before[mask], after[mask], dtype=np.float64)
                values += int(mask.sum())
        spread = np.maximum(np.sqrt(squares / max(1, values)), _MIN_SPREAD).astype(np.float32)
        return cls(means, masks, spread)

    def deviation(self, image: Images, type_index: int, window: Window = WHOLE_IMAGE) -> Images:
        """Compute the deviation of an image from the mean of its type.

        Args:
            image: The pixels inside the window, (h, w, C).
            type_index: The index of the type.
            window: Which rectangle of the whole image ``image`` is.

        Returns:
            (h, w, C); 0 outside the part.
        """
        mask = self.masks[type_index][window][..., None]
        return np.asarray(np.where(mask, image - self.images[type_index][window], 0), np.float32)

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file. The same means give the same bytes."""
        save_arrays(path, images=self.images, masks=np.packbits(self.masks, axis=-1), spread=self.spread)

    @classmethod
    def load(cls, path: Path, shape: tuple[int, int, int, int]) -> Means:
        """Read a file that ``save`` wrote.

        Args:
            path: The file.
            shape: The expected shape of the mean images, (T, H, W, C).

        Raises:
            ModelError: The file is missing, damaged, or holds means of another shape.
        """
        try:
            arrays = load_arrays(path)
            masks = np.unpackbits(arrays["masks"], axis=-1, count=shape[2]).astype(bool)
            means = cls(arrays["images"], masks, arrays["spread"])
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run train again") from error
        if means.images.shape != shape or masks.shape != shape[:-1] or means.spread.shape != shape[-1:]:
            raise ModelError(f"{path} does not match this model: its shape is {means.images.shape}; run train again")
        return means
