"""What good parts look like on average, and how far images are from it: what a convolutional network is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.train_model.family import Rows

Images = NDArray[np.float32]

_LEAST = 1e-3  # of a channel's spread: a quarter of an 8-bit level


@dataclass(frozen=True)
class Means:
    """The mean image of each type's good parts, (T, H, W, C) float32; ``masks`` (T, H, W): where the part is.

    ``spread`` (C,): the root mean square of the good parts' deviations from their mean, within the part.
    """

    images: Images
    masks: NDArray[np.bool_]
    spread: Images

    @classmethod
    def of(cls, inputs: InputSet, rows: Rows, kinds: Rows, masks: NDArray[np.bool_]) -> Means:
        """Of ``inputs[rows]``, an image in memory at a time (Welford 1962). ``kinds`` (N,): types of all rows."""
        means = np.zeros((len(masks), *inputs.shape), np.float32)
        squares, values = np.zeros(inputs.shape[2]), 0
        for kind, mask in enumerate(masks):
            for seen, row in enumerate(rows[kinds[rows] == kind], start=1):
                image = inputs.images(np.array([row]))[0]
                before = image - means[kind]
                means[kind] += before / np.float32(seen)
                after = image - means[kind]
                squares += np.einsum("pc,pc->c", before[mask], after[mask], dtype=np.float64)
                values += int(mask.sum())
        spread = np.maximum(np.sqrt(squares / max(1, values)), _LEAST).astype(np.float32)
        return cls(means, masks, spread)

    def deviation(self, image: Images, kind: int, place: Any = np.s_[:]) -> Images:
        """An image (h, w, C), what lies at ``place`` of one of a type, minus the mean; 0 beside the part."""
        mask = self.masks[kind][place][..., None]
        return np.asarray(np.where(mask, image - self.images[kind][place], 0), np.float32)

    def save(self, path: Path) -> None:
        """Write an ``.npz``; the same means give the same bytes."""
        save_arrays(path, images=self.images, masks=np.packbits(self.masks, axis=-1), spread=self.spread)

    @classmethod
    def load(cls, path: Path, shape: tuple[int, int, int, int]) -> Means:
        """Read what ``save`` wrote of (T, H, W, C). Raises ModelError where it is missing or of something else."""
        try:
            arrays = load_arrays(path)
            masks = np.unpackbits(arrays["masks"], axis=-1, count=shape[2]).astype(bool)
            found = cls(arrays["images"], masks, arrays["spread"])
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run train again") from error
        if found.images.shape != shape or masks.shape != shape[:-1] or found.spread.shape != shape[-1:]:
            raise ModelError(f"{path} does not match this model: it is of {found.images.shape}; run train again")
        return found
