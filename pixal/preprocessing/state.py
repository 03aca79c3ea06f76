"""What preprocessing learned from a type's good photographs, and applies alike to every later one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Preprocessing
from pixal.errors import ModelError
from pixal.inputs import load_arrays, save_arrays
from pixal.preprocessing.alignment import Features, Reference
from pixal.preprocessing.channels import compute_channels
from pixal.preprocessing.cropping import Box, nearest_inside
from pixal.preprocessing.illumination import light_gain, unit_range
from pixal.preprocessing.pooling import average_pool

_HALF = 0.5  # a pooled cell belongs to the part when more than half of it does


@dataclass(frozen=True)
class PreprocessingState:
    """The fitted preprocessing of one type.

    reference: the frame. consensus: (H, W) bool, the type's mask in that frame. box: the crop (x, y, width, height).
    method: the background method used. settings: the preprocessing settings used.
    """

    type_name: str
    reference: Reference
    consensus: NDArray[np.bool_]
    box: Box
    method: str
    settings: Preprocessing

    @property
    def shape(self) -> tuple[int, int, int]:
        """The input's (H, W, C)."""
        pool = self.settings.preprocessor.pool_size
        return -(-self.box[3] // pool), -(-self.box[2] // pool), len(self.settings.preprocessor.channels)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The input's pixels (H, W) that show the part."""
        return np.asarray(average_pool(self._crop(self.consensus).astype(np.float32), self._pool) > _HALF)

    def to_input(self, aligned: NDArray[Any]) -> NDArray[np.float32]:
        """An aligned photograph (H, W, 3), uncut, as the network's input (h, w, C): cut, lit alike, channels, pooled.

        Beyond the consensus mask the part's own edge is continued before any filter sees it, and the result is 0.
        """
        crop = self._crop(aligned)
        image = unit_range(crop.reshape(-1, 3)[self._nearest])
        if self.settings.preprocessor.light_matching == "gain":
            image = np.clip(image * light_gain(image, self._lit, self._crop(self.consensus)), 0, 1)
        channels = compute_channels(image, self.settings.preprocessor.channels)
        return average_pool(channels, self._pool) * self.mask[..., None]

    def photo_to_input(self, homography: NDArray[np.float64]) -> NDArray[np.float64]:
        """The 3x3 matrix from the photograph's pixels (x, y) to the input's, for one photograph's homography."""
        x, y = self.box[:2]
        pool = self._pool
        # Pixel centres: input pixel i averages crop pixels i * pool ... i * pool + pool - 1.
        shift = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]], np.float64)
        scale = np.array([[1 / pool, 0, 0.5 / pool - 0.5], [0, 1 / pool, 0.5 / pool - 0.5], [0, 0, 1]], np.float64)
        return scale @ shift @ homography

    def save(self, path: Path) -> None:
        """Write the state to an ``.npz`` (no pickle)."""
        settings = {
            "type": self.type_name,
            "method": self.method,
            "settings": self.settings.model_dump(mode="json"),
        }
        save_arrays(
            path,
            image=self.reference.image,
            mask=self.reference.mask,
            points=self.reference.features.points,
            descriptors=self.reference.features.descriptors,
            consensus=self.consensus,
            box=np.array(self.box, np.int64),
            settings=np.frombuffer(json.dumps(settings, sort_keys=True).encode(), np.uint8),
        )

    @classmethod
    def load(cls, path: Path) -> PreprocessingState:
        """Read a state. Raises ModelError when it is missing or damaged."""
        try:
            file = load_arrays(path)
            text = json.loads(file["settings"].tobytes())
            features = Features(file["points"], file["descriptors"])
            return cls(
                text["type"],
                Reference(file["image"], file["mask"], features),
                file["consensus"],
                tuple(int(n) for n in file["box"]),  # type: ignore[arg-type]
                text["method"],
                Preprocessing.model_validate(text["settings"]),
            )
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run preprocess, then train") from error
        except (ValueError, KeyError) as error:
            raise ModelError(f"{path} is damaged ({error}); run preprocess, then train again") from error

    @property
    def _pool(self) -> int:
        return self.settings.preprocessor.pool_size

    def _crop(self, image: NDArray[Any]) -> NDArray[Any]:
        x, y, width, height = self.box
        return image[y : y + height, x : x + width]

    @cached_property
    def _nearest(self) -> NDArray[np.intp]:
        return nearest_inside(self._crop(self.consensus))

    @cached_property
    def _lit(self) -> NDArray[np.float32]:
        return unit_range(self._crop(self.reference.image))


def input_to_photo(
    values: NDArray[np.float32], photo_to_input: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float32]:
    """A map (h, w) in the input's frame as (H, W) = ``size`` in the photograph's frame; 0 outside the part."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(values, photo_to_input, (size[1], size[0]), flags=flags), np.float32)
