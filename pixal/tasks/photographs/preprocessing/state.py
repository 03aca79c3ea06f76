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

from pixal.config.section import result_settings
from pixal.errors import ModelError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.channels import FILTER_RADIUS, compute_channels
from pixal.tasks.photographs.network_input.consensus import nearest_inside
from pixal.tasks.photographs.network_input.illumination import match_light, unit_range
from pixal.tasks.photographs.network_input.pooling import average_pool
from pixal.tasks.photographs.settings import Preprocessing

_HALF = 0.5  # a pooled cell belongs to the part when more than half of it does


@dataclass(frozen=True)
class PreprocessingState:
    """The fitted preprocessing of one type.

    reference: the frame. consensus: (H, W) bool, the type's mask in that frame. ignored: (H, W) bool, what of it never
    counts. box: the crop (x, y, width, height). background_model_sha256: that of rembg's weights, where it was used.
    settings: the preprocessing settings used.
    """

    type_name: str
    reference: Reference
    consensus: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    box: Box
    background_model_sha256: str | None
    settings: Preprocessing

    @property
    def method(self) -> str:
        """The background method used."""
        return self.settings.remove_background.method

    @cached_property
    def part(self) -> NDArray[np.bool_]:
        """The pixels (H, W) of the reference frame that are compared."""
        margin = self.settings.preprocessor.edge_margin
        depth = cv2.distanceTransform(self.consensus.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return (depth > margin) & ~self.ignored

    @property
    def shape(self) -> tuple[int, int, int]:
        """The input's (H, W, C)."""
        pool = self.settings.preprocessor.pool_size
        return -(-self.box.height // pool), -(-self.box.width // pool), len(self.settings.preprocessor.channels)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The input's pixels (H, W) that show the part."""
        return np.asarray(average_pool(self._crop(self.part).astype(np.float32), self._pool) > _HALF)

    def to_input(self, aligned: NDArray[Any]) -> NDArray[np.float32]:
        """An aligned photograph (H, W, 3), uncut, as the network's input (h, w, C): cut, lit alike, channels, pooled.

        Beyond the consensus mask, and in ignored regions, the part's nearest pixel goes on before light or any filter
        sees them, and the result is 0.
        """
        image = unit_range(self._crop(aligned))
        pixels, (beside, nearest) = image.reshape(-1, 3), self._continued
        pixels[beside] = pixels[nearest]
        image = match_light(image, self._lit, self._crop(self.part), self.settings.preprocessor.light_matching)
        channels = compute_channels(image, self.settings.preprocessor.channels)
        return average_pool(channels, self._pool) * self.mask[..., None]

    def photo_to_input(self, homography: NDArray[np.float64]) -> NDArray[np.float64]:
        """The 3x3 matrix from the photograph's pixels (x, y) to the input's, for one photograph's homography."""
        pool = self._pool
        # Pixel centres: input pixel i averages crop pixels i * pool ... i * pool + pool - 1.
        shift = np.array([[1, 0, -self.box.x], [0, 1, -self.box.y], [0, 0, 1]], np.float64)
        scale = np.array([[1 / pool, 0, 0.5 / pool - 0.5], [0, 1 / pool, 0.5 / pool - 0.5], [0, 0, 1]], np.float64)
        return scale @ shift @ homography

    def save(self, path: Path) -> None:
        """Write the state to an ``.npz`` (no pickle)."""
        settings = {
            "type": self.type_name,
            "background_model_sha256": self.background_model_sha256,
            "settings": result_settings(self.settings),
        }
        save_arrays(
            path,
            image=self.reference.image,
            mask=self.reference.mask,
            points=self.reference.features.points,
            descriptors=self.reference.features.descriptors,
            consensus=self.consensus,
            ignored=self.ignored,
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
                file["ignored"],
                Box(*file["box"].tolist()),
                text["background_model_sha256"],
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
        return image[self.box.window]

    @cached_property
    def _continued(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The crop's pixels beside the part that an input pixel can see, and the part's pixel nearest to each: flat."""
        part = self._crop(self.part)
        cells = np.kron(self.mask, np.ones((self._pool, self._pool), bool)).astype(np.uint8)
        reach = np.ones((2 * FILTER_RADIUS + 1, 2 * FILTER_RADIUS + 1), np.uint8)
        seen = cv2.dilate(cells[: part.shape[0], : part.shape[1]], reach) > 0
        beside = np.flatnonzero(seen & ~part)
        return beside, nearest_inside(part).ravel()[beside]

    @cached_property
    def _lit(self) -> NDArray[np.float32]:
        return unit_range(self._crop(self.reference.image))


def input_to_photo(
    values: NDArray[np.float32], photo_to_input: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float32]:
    """A map (h, w) in the input's frame as (H, W) = ``size`` in the photograph's frame; 0 outside the part."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(values, photo_to_input, (size[1], size[0]), flags=flags), np.float32)
