"""Make the model's input of a photograph with planted defects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.defects import plant
from pixal.errors import InputError
from pixal.tasks.photographs.alignment.align import move_to_reference
from pixal.tasks.photographs.preprocessing.background_step import read_rgba
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.sensitivity.plan import PlannedPhotograph


@dataclass(frozen=True)
class HeldOutPart:
    """A good part that some model has not seen.

    Attributes:
        image: The file name of its photograph.
        cut_out: The photograph as preprocessing wrote it: its pixels, with the foreground mask as alpha.
        homography: 3x3 matrix from the photograph's pixels (x, y) to the reference frame.
        fold: The index of the fold that holds it.
    """

    image: str
    cut_out: Path
    homography: NDArray[np.float64]
    fold: int


@dataclass(frozen=True)
class Neighbourhood:
    """The pixels of a model's input at which a planted defect can be found.

    Attributes:
        top: First row of the window.
        left: First column of the window.
        pixels: (h, w), the pixels of the window within some distance from the defect.
    """

    top: int
    left: int
    pixels: NDArray[np.bool_]

    def peak(self, anomaly_map: NDArray[np.float32]) -> float:
        """The largest value of an anomaly map (H, W) in the neighbourhood; 0 if it is wholly outside."""
        height, width = self.pixels.shape
        window = anomaly_map[self.top : self.top + height, self.left : self.left + width]
        return float(window[self.pixels].max(initial=0.0))


@dataclass(frozen=True)
class DrawnDefect:
    """A defect as it was drawn.

    Attributes:
        contrast: Its contrast as drawn.
        neighbourhood: Where it can be found.
    """

    contrast: float
    neighbourhood: Neighbourhood


@dataclass(frozen=True)
class PlantedInput:
    """The model's input of a photograph with planted defects.

    Attributes:
        values: The input, (h, w, C).
        drawn: One item per planned defect; the reason where it could not be drawn.
    """

    values: NDArray[np.float32]
    drawn: tuple[DrawnDefect | str, ...]


def make_planted_input(
    photograph: PlannedPhotograph, *, parts: list[HeldOutPart], state: PreprocessingState, margin: int
) -> PlantedInput:
    """Plant the defects of a photograph, and make the model's input of it.

    The defects are drawn on the photograph. Then it is moved to the reference frame by the homography that
    preprocessing found for it: a defect of a few pixels does not change it. Light matching, channels and pooling are
    computed as for any photograph.

    Args:
        photograph: What to plant.
        parts: The held-out parts.
        state: The preprocessing of the type.
        margin: Width of a neighbourhood around its defect, in input pixels.

    Raises:
        InputError: The photograph as preprocessing wrote it is missing or damaged.
    """
    part = parts[photograph.part]
    clean, _ = read_rgba(part.cut_out)
    image = clean.copy()
    to_input = state.photo_to_input(part.homography)
    drawn: list[DrawnDefect | str] = []
    for defect in photograph.defects:
        try:
            planted = plant(clean, defect, part.homography, state.consensus)
        except InputError as error:
            drawn.append(str(error))
            continue
        if not planted.mask.any():
            drawn.append(f"{defect.kind}: no pixel changes at this place")
            continue
        image[planted.mask] = planted.image[planted.mask]
        neighbourhood = _neighbourhood(planted.mask, to_input, state.shape, margin)
        drawn.append(DrawnDefect(planted.contrast, neighbourhood))
    if state.settings.alignment.moves_photographs:
        image = move_to_reference(image, part.homography, state.reference)
    return PlantedInput(state.to_input(image), tuple(drawn))


def _neighbourhood(
    mask: NDArray[np.bool_], to_input: NDArray[np.float64], shape: tuple[int, int, int], margin: int
) -> Neighbourhood:
    """The input pixels within ``margin`` of the pixels of a mask (H, W) in the photograph."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    rows, columns = np.nonzero(mask[y : y + height, x : x + width])
    points = np.stack([columns + x, rows + y], -1).astype(np.float64)
    moved = np.rint(cv2.perspectiveTransform(points[None], to_input)[0]).astype(int)
    left, top = np.maximum(moved.min(0) - margin, 0)
    right, bottom = np.clip(moved.max(0) + margin + 1, (left, top), shape[1::-1])
    # The window before it is cut at the edges of the input, so that every point lies in it.
    low = moved.min(0) - margin
    pixels = np.zeros((moved.max(0) - low + margin + 1)[::-1], np.uint8)
    pixels[tuple((moved - low).T[::-1])] = 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    pixels = cv2.dilate(pixels, disc)
    cut = pixels[top - low[1] : bottom - low[1], left - low[0] : right - low[0]]
    return Neighbourhood(int(top), int(left), cut > 0)
