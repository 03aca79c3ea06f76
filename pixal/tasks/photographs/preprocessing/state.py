"""The fitted preprocessing of a type: stored with the model, and applied to every later photograph."""

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
from pixal.io.json_text import parse_json
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.channels import compute_channels
from pixal.tasks.photographs.network_input.consensus import nearest_inside
from pixal.tasks.photographs.network_input.illumination import LightMatching, match_light, restore_saturated, unit_range
from pixal.tasks.photographs.network_input.local_registration import (
    RegistrationLevel,
    find_displacement,
    is_from,
    registration_levels,
    undo_displacement,
)
from pixal.tasks.photographs.network_input.pooling import average_pool
from pixal.tasks.photographs.settings import Preprocessing

_HALF = 0.5  # a pooled pixel shows the part if more than half of its area does


@dataclass(frozen=True)
class PreprocessingState:
    """The fitted preprocessing of one type.

    Attributes:
        type_name: The type.
        reference: The photograph that defines the reference frame.
        consensus: The consensus mask, (H, W), in the reference frame.
        ignored: The pixels that are never compared, (H, W), in the reference frame.
        box: The crop box in the reference frame.
        background_model_sha256: The SHA-256 of the network's file, if the background was removed with one.
        settings: The settings used.
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

    @property
    def pooling(self) -> int:
        """Side in pixels of the windows that are averaged to one input pixel."""
        settings = self.settings
        return settings.preprocessor.pooling(self.consensus.size, texture=settings.alignment.is_texture)

    @cached_property
    def part_mask(self) -> NDArray[np.bool_]:
        """The pixels of the reference frame that are compared, (H, W): no edge margin, no ignored regions."""
        margin = self.settings.preprocessor.edge_margin
        depth = cv2.distanceTransform(self.consensus.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return (depth > margin) & ~self.ignored

    @cached_property
    def used_box(self) -> Box:
        """The box around all pixels of an aligned photograph that are used: the crop box, and that of the part."""
        return self.box.joined(Box.around(self.part_mask)) if self.part_mask.any() else self.box

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (h, w, C) of an input."""
        pool = self.pooling
        return -(-self.box.height // pool), -(-self.box.width // pool), len(self.settings.preprocessor.channels)

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of an input that show the part, (h, w)."""
        return np.asarray(average_pool(self._crop(self.part_mask).astype(np.float32), self.pooling) > _HALF)

    def to_input(self, aligned: NDArray[Any]) -> NDArray[np.float32]:
        """Make the model's input of an aligned photograph: crop, register, match the light, compute the channels, pool.

        Pixels outside the part, and ignored ones, get the colour of the nearest pixel of the part before anything else:
        no step sees the background. In the input they are 0. Pixels that local registration would take from outside the
        part are those of the reference.

        Args:
            aligned: The photograph in the reference frame, (H, W, 3), 8- or 16-bit RGB.

        Returns:
            The input, (h, w, C).
        """
        settings, is_texture = self.settings.preprocessor, self.settings.alignment.is_texture
        part, image, reference = self._crop(self.part_mask), unit_range(self._crop(aligned)), self._reference_crop
        _fill(image, self._nearest_of_outside)
        unseen = np.zeros_like(part)
        if settings.local_registration and not is_texture:
            field = find_displacement(image, self._registration_levels)
            image, unseen = undo_displacement(image, field), part & ~is_from(part, field)
        matched = match_light(image, reference, part, self._light_matching)
        if not is_texture:
            matched = restore_saturated(matched, image, reference)
        matched[unseen] = reference[unseen]
        _fill(matched, self._nearest_of_outside)
        channels = compute_channels(matched, settings.channels)
        return average_pool(channels, self.pooling) * self.mask[..., None]

    def photo_to_input(self, homography: NDArray[np.float64]) -> NDArray[np.float64]:
        """The 3x3 matrix from a photograph's pixels (x, y) to the input's pixels.

        Args:
            homography: The 3x3 homography from the photograph's pixels to the reference frame.
        """
        pool = self.pooling
        # Pixel centres: input pixel i is the mean of the crop's pixels i * pool to i * pool + pool - 1.
        shift = np.array([[1, 0, -self.box.x], [0, 1, -self.box.y], [0, 0, 1]], np.float64)
        scale = np.array([[1 / pool, 0, 0.5 / pool - 0.5], [0, 1 / pool, 0.5 / pool - 0.5], [0, 0, 1]], np.float64)
        return scale @ shift @ homography

    def save(self, path: Path) -> None:
        """Write the state to an ``.npz`` file, without the settings that change no result."""
        settings = {
            "type": self.type_name,
            "background_model_sha256": self.background_model_sha256,
            "settings": result_settings(self.settings),
        }
        save_arrays(
            path,
            **self.reference.as_arrays(),
            consensus=self.consensus,
            ignored=self.ignored,
            box=np.array(self.box, np.int64),
            settings=np.frombuffer(json.dumps(settings, sort_keys=True).encode(), np.uint8),
        )

    @classmethod
    def load(cls, path: Path) -> PreprocessingState:
        """Read a state. Raise ``ModelError`` if the file is missing or damaged."""
        try:
            file = load_arrays(path)
            text = parse_json(file["settings"].tobytes())
            state = cls(
                text["type"],
                Reference.from_arrays(file),
                file["consensus"],
                file["ignored"],
                Box(*file["box"].tolist()),
                text["background_model_sha256"],
                Preprocessing.model_validate(text["settings"]),
            )
            state._check()
        except FileNotFoundError as error:
            raise ModelError(f"{path} does not exist; run preprocess, then train") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"{path} is damaged ({reason}); run preprocess, then train again") from error
        return state

    def _check(self) -> None:
        """Raise ValueError if the arrays do not belong together, or nothing of the part is left."""
        frame, features = self.reference.mask.shape, self.reference.features
        for name, mask in (("mask", self.reference.mask), ("consensus", self.consensus), ("ignored", self.ignored)):
            if mask.ndim != 2 or mask.dtype != np.bool_ or mask.shape != frame:
                raise ValueError(f"{name} is {mask.dtype} of shape {mask.shape}")
        image = self.reference.image
        if image.dtype != np.uint8 or image.shape != (*frame, 3):
            raise ValueError(f"image is {image.dtype} of shape {image.shape}")
        for name, values, columns in (("points", features.points, 2), ("descriptors", features.descriptors, 128)):
            if values.dtype != np.float32 or values.shape != (len(features.points), columns):
                raise ValueError(f"{name} is {values.dtype} of shape {values.shape}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds values that are not finite")
        x, y, width, height = self.box
        if min(x, y) < 0 or min(width, height) < 1 or x + width > frame[1] or y + height > frame[0]:
            raise ValueError(f"the crop box {tuple(self.box)} is not inside the frame")
        if not self.mask.any():
            raise ValueError("no pixel of the consensus mask is left to compare")

    @property
    def _light_matching(self) -> LightMatching:
        """The value of ``light_matching``. ``auto``: one gain for textures, because they differ from the reference."""
        method = self.settings.preprocessor.light_matching
        if method != "auto":
            return method
        return "gain" if self.settings.alignment.is_texture else "local"

    def _crop(self, image: NDArray[Any]) -> NDArray[Any]:
        return image[self.box.window]

    @cached_property
    def _nearest_of_outside(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Flat indices of the crop's pixels outside the part, and of the part's nearest pixels."""
        part = self._crop(self.part_mask)
        outside = np.flatnonzero(~part)
        return outside, nearest_inside(part).ravel()[outside]

    @cached_property
    def _reference_crop(self) -> NDArray[np.float32]:
        return unit_range(self._crop(self.reference.image))

    @cached_property
    def _registration_levels(self) -> list[RegistrationLevel]:
        return registration_levels(self._reference_crop, self._crop(self.part_mask))


def _fill(image: NDArray[np.float32], nearest_of: tuple[NDArray[np.intp], NDArray[np.intp]]) -> None:
    """Give pixels (flat indices) of an image (H, W, 3) the colours of others, in place."""
    pixels, (filled, nearest) = image.reshape(-1, 3), nearest_of
    pixels[filled] = np.take(pixels, nearest, axis=0)  # faster than indexing


def input_to_photo(
    values: NDArray[np.float32], photo_to_input: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float32]:
    """Move a map from the input's frame to the photograph's frame.

    Args:
        values: The map, (h, w).
        photo_to_input: The 3x3 matrix from the photograph's pixels to the input's pixels.
        size: Height and width of the photograph.

    Returns:
        The map, (H, W); 0 outside the part.
    """
    moved, box = np.zeros(size, np.float32), input_box(values.shape, photo_to_input, size)
    if box is not None:
        shift = np.array([[1, 0, box.x], [0, 1, box.y], [0, 0, 1]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved[box.window] = cv2.warpPerspective(values, photo_to_input @ shift, (box.width, box.height), flags=flags)
    return moved


def input_box(shape: tuple[int, ...], photo_to_input: NDArray[np.float64], size: tuple[int, int]) -> Box | None:
    """The box on the photograph outside which ``input_to_photo`` gives 0; None if this is everywhere.

    Args:
        shape: Height and width of the input.
        photo_to_input: The 3x3 matrix from the photograph's pixels to the input's pixels.
        size: Height and width of the photograph.
    """
    # Interpolation reaches one pixel beyond the centres of the outermost pixels.
    x, y = (-1, shape[1]), (-1, shape[0])
    corners = np.array([[x[i], y[j], 1] for i in (0, 1) for j in (0, 1)], np.float64) @ np.linalg.inv(photo_to_input).T
    if not (corners[:, 2] > 0).all():
        return Box(0, 0, size[1], size[0])
    corners = corners[:, :2] / corners[:, 2:]
    left, top = np.maximum(np.floor(corners.min(0)), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(corners.max(0)) + 1, size[::-1]).astype(int).tolist()
    return Box(left, top, right - left, bottom - top) if right > left and bottom > top else None
