"""Defects that were missed, in the frame of a model's input, and the places where they recur."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.recurrence import Box, Places, recurring_places
from pixal.config import Paths
from pixal.io.files import data_hash
from pixal.tasks.photographs.learning.accepted import AcceptedPart, AcceptedParts
from pixal.tasks.photographs.preprocessing.state import PreprocessingState

_log = logging.getLogger(__name__)

KNOWN_PLACES = "known_places"
"""Where the record of a model has the hash of the places of each type that has any."""

MissedDefects = tuple[str, list[Box]]
"""A photograph with missed defects: its SHA-256, and their boxes in pixels of the model's input."""

_MARGIN = 2  # input pixels by which a box that was drawn by hand may lie beside its defect


def missed_defects(paths: Paths, type_name: str, state: PreprocessingState) -> list[MissedDefects]:
    """The missed defects of a type.

    Boxes of other known defects are regions that a model has found. Not all of them need be defects, and what is found
    needs no gain.

    Args:
        paths: The folders of the component.
        type_name: The type.
        state: Its preprocessing. Known defects whose boxes are in another reference frame do not count.
    """
    accepted = AcceptedParts.read(paths, type_name).of("known_defects")
    known = [part for part in accepted if part.mark == "missed" and part.reference_boxes]
    frame = data_hash(state.reference.image.tobytes()) if known else ""
    same = [part for part in known if part.reference_sha256 == frame]
    if len(same) < len(known):
        _log.info(
            "%s: %d known defects are boxes in another reference frame, and tell nothing about places",
            type_name,
            len(known) - len(same),
        )
    return [(part.sha256, _input_boxes(part, state)) for part in same]


def places_of(missed: Sequence[MissedDefects], mask: NDArray[np.bool_], *, without: Sequence[str] = ()) -> Places:
    """The places where defects recur that were missed.

    Args:
        missed: What ``missed_defects`` returned.
        mask: The pixels of the part in the model's input, (H, W).
        without: The SHA-256 of photographs whose defects do not count.
    """
    return recurring_places([boxes for sha256, boxes in missed if sha256 not in without], mask)


def hash_places(places: Mapping[str, Places]) -> dict[str, str]:
    """SHA-256 of the places of each type."""
    return {name: data_hash(values.tobytes()) for name, values in places.items()}


def _input_boxes(part: AcceptedPart, state: PreprocessingState) -> list[Box]:
    """The boxes of a part in pixels of the model's input, a little larger."""
    boxes, (left, top) = [], (state.box.x, state.box.y)
    for x, y, width, height in part.reference_boxes:
        low = np.floor(np.array([x - left, y - top]) / state.pooling).astype(int) - _MARGIN
        high = np.ceil(np.array([x - left + width, y - top + height]) / state.pooling).astype(int) + _MARGIN
        boxes.append((int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])))
    return boxes
