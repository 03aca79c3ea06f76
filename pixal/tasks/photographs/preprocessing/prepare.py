"""Make a model's input of one photograph: the same functions for ``preprocess`` and ``validate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import AlignmentError, InputError
from pixal.io.files import data_hash, file_stat
from pixal.io.images import SizeError, as_uint8, decode_image
from pixal.tasks.photographs.alignment.align import AlignmentResult, Reference, align_photograph
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.foreground.methods import find_foreground
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.consensus import fraction_outside
from pixal.tasks.photographs.parts import PhotographRecord, PreparedPart, pose_values
from pixal.tasks.photographs.preprocessing.conditions import LightAndFocus, measure_light_and_focus
from pixal.tasks.photographs.preprocessing.figures import AlignmentFigures
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings, RemoveBackground

_MAX_OUTSIDE_SHARE = 0.005  # of a part's mask may lie outside the crop box: its outline is not known more exactly


@dataclass(frozen=True)
class AlignedPart:
    """A photograph in the reference frame.

    Attributes:
        image: The aligned photograph, (H, W, 3), 8- or 16-bit RGB.
        mask: Its foreground mask in the reference frame, (H, W).
        alignment: How it was aligned.
    """

    image: NDArray[Any]
    mask: NDArray[np.bool_]
    alignment: AlignmentResult


@dataclass(frozen=True)
class AlignmentFailure:
    """Why a photograph could not be aligned.

    Attributes:
        reason: The reason, for the user.
        alignment: The alignment that was not accepted; None if no pose was found.
        was_compared: Whether the photograph was matched with the reference, so that it can have figures.
    """

    reason: str
    alignment: AlignmentResult | None = None
    was_compared: bool = True


@dataclass(frozen=True)
class ModelInput:
    """The model input of one photograph, and its measured properties.

    Attributes:
        values: The input, (h, w, C) float32.
        light_and_focus: How the photograph was taken.
        cut_note: A sentence if the crop box cuts off some of the part, else "".
    """

    values: NDArray[np.float32]
    light_and_focus: LightAndFocus
    cut_note: str


def align_part(
    image: NDArray[Any],
    mask: NDArray[np.bool_],
    reference: Reference,
    settings: AlignmentSettings,
    *,
    name: str,
    figures: AlignmentFigures | None,
) -> AlignedPart | AlignmentFailure:
    """Align a photograph to the reference, check the result, and write its figures.

    Args:
        image: The photograph, (H, W, 3), 8- or 16-bit RGB.
        mask: Its foreground mask, (H, W).
        reference: The reference of its type.
        settings: How to align, and the limits that an alignment must keep.
        name: Stem of the figures' files.
        figures: Writes the figures; None for no figures.
    """
    try:
        alignment = align_photograph(image, mask, reference, settings)
    except InputError as error:
        return AlignmentFailure(str(error), was_compared=False)
    except AlignmentError as error:
        if figures is not None:
            figures.save_failure(name, image, mask, str(error))
        return AlignmentFailure(str(error))
    if figures is not None:
        figures.save(name, image, mask, alignment)
    if alignment.reason:
        return AlignmentFailure(alignment.reason, alignment)
    return AlignedPart(alignment.aligned, alignment.mask, alignment)


def make_model_input(image: NDArray[Any], mask: NDArray[np.bool_], state: PreprocessingState) -> ModelInput:
    """Make the model's input of an aligned photograph.

    Args:
        image: The aligned photograph, (H, W, 3), 8- or 16-bit RGB.
        mask: Its foreground mask in the reference frame, (H, W).
        state: The fitted preprocessing of its type.
    """
    return ModelInput(
        state.to_input(image), measure_light_and_focus(image, state.part_mask), _cut_note(mask, state.box)
    )


def prepare_photograph(
    photograph: Photograph,
    *,
    state: PreprocessingState,
    background: RemoveBackground,
    alignment: AlignmentSettings,
    figures: AlignmentFigures | None,
    keep_photo: bool = False,
) -> PreparedPart:
    """Make the model's input of a photograph from the camera. An error becomes the ``reason`` of the record.

    Args:
        photograph: Which file, and what its part is called.
        state: The fitted preprocessing of its type.
        background: How to find the foreground; the method must not be "auto".
        alignment: How to align, and the limits that an alignment must keep.
        figures: Writes the figures of the alignment; None for no figures.
        keep_photo: Whether to return the decoded photograph.
    """
    if figures is not None:
        figures.remove(photograph.name)  # they show an earlier content of the file
    record = PhotographRecord(image=photograph.image, name=photograph.name, source=photograph.source, status="failed")
    try:
        record = record.replace(stat=file_stat(photograph.path))
        data = photograph.read()
        record = record.replace(sha256=data_hash(data))
        decoded = decode_image(data, size=(state.reference.mask.shape[0], state.reference.mask.shape[1]))
    except SizeError as error:
        height, width = error.size
        return PreparedPart(record.replace(reason=str(error), width=width, height=height))
    except InputError as error:
        return PreparedPart(record.replace(reason=photograph.problem or str(error)), is_readable=False)
    record = record.replace(width=decoded.shape[1], height=decoded.shape[0])
    image = np.ascontiguousarray(decoded[..., :3])
    photo = as_uint8(image) if keep_photo else None
    try:
        foreground = find_foreground(decoded, background)
    except InputError as error:
        return PreparedPart(record.replace(reason=str(error)), photo=photo)
    aligned = align_part(image, foreground.mask, state.reference, alignment, name=photograph.name, figures=figures)
    if figures is not None:
        record = record.replace(figures=figures.written(photograph.name))
    if aligned.alignment is not None:
        record = record.replace(**pose_values(aligned.alignment))
    if isinstance(aligned, AlignmentFailure):
        return PreparedPart(record.replace(reason=aligned.reason), photo=photo)
    model_input = make_model_input(aligned.image, aligned.mask, state)
    notes = [other_part_note(box) for box in foreground.others]
    if model_input.cut_note:
        notes.append(model_input.cut_note)
    record = record.replace(status="ok", notes=tuple(notes), **vars(model_input.light_and_focus))
    return PreparedPart(record, model_input.values, photo)


def other_part_note(box: Sequence[int]) -> str:
    """A sentence about another part on the photograph, in the box (x, y, width, height)."""
    return "another part, at x {}, y {}, {}x{} pixels, is left out".format(*box)


def _cut_note(mask: NDArray[np.bool_], box: Box) -> str:
    share = fraction_outside(mask, box)
    if share <= _MAX_OUTSIDE_SHARE:
        return ""
    return f"{share:.1%} of the part lies outside the crop box and is not looked at"
