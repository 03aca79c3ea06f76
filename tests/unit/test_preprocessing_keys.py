"""Each setting of preprocessing changes the key of its step, unless it is marked as changing no result."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

from pixal.config.section import Mark, marked
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.preprocessing.align_photograph import alignment_key
from pixal.tasks.photographs.preprocessing.background_step import background_key
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings, Preprocessing, Preprocessor, RemoveBackground

# Settings whose other value cannot be derived from their type.
OTHER_VALUES: dict[str, Any] = {
    "channels": ["R", "G", "B", "H"],
    "weights": [1.0, 2.0, 3.0, 4.0],
    "ignore_regions": {"front": [[0, 0, 2, 2]]},
    "mask": "mask.png",
    "file_name": "other.npz",
    "pool_size": 3,
}
# The key holds the SHA-256 of the file instead of its name.
BY_HASH = {"model_file", "reference"}


def settings_of(section: type[BaseModel]) -> list[str]:
    return [name for name in section.model_fields if name not in BY_HASH]


def with_other_value(section: BaseModel, name: str) -> BaseModel:
    """Return validated settings in which one setting has another value."""
    value = getattr(section, name)
    kinds = [section.__class__.model_fields[name].annotation]
    while kinds and get_origin(kinds[0]) is not Literal and get_args(kinds[0]):
        kinds = [kind for kind in get_args(kinds[0]) if isinstance(kind, type) or get_args(kind)]
    if name in OTHER_VALUES:
        other = OTHER_VALUES[name]
    elif get_origin(kinds[0]) is Literal:
        other = next(choice for choice in get_args(kinds[0]) if choice not in (value, "auto"))
    elif isinstance(value, bool) or kinds[0] is bool:
        other = not value
    elif isinstance(value, int | float):
        other = value + 1 if isinstance(value, int) else value * 0.9 + 0.06
    elif value is None and kinds[0] is int:
        other = 3
    else:
        other = f"{value}_other"
    assert other != value
    return type(section).model_validate(section.model_dump() | {name: other})


def state_key(preprocessor: Preprocessor, folder: Path) -> str:
    """The hash of the stored state, which the key of ``out.npz`` and of verdicts holds."""
    mask = np.ones((8, 8), bool)
    nothing = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    settings = Preprocessing().model_copy(update={"preprocessor": preprocessor})
    reference = Reference(np.zeros((8, 8, 3), np.uint8), mask, nothing)
    state = PreprocessingState("front", reference, mask, ~mask, Box(0, 0, 8, 8), None, settings)
    state.save(folder / "state.npz")
    return hashlib.sha256((folder / "state.npz").read_bytes()).hexdigest()


def check(section: type[BaseModel], name: str, before: str, after: str) -> None:
    assert (before == after) == (name in marked(section, Mark.NO_RESULT)), name


@pytest.mark.parametrize("name", settings_of(RemoveBackground))
def test_background_settings(name: str) -> None:
    settings = RemoveBackground(method="rembg")
    other = with_other_value(settings, name)
    assert isinstance(other, RemoveBackground)
    check(RemoveBackground, name, background_key("a", settings, "b"), background_key("a", other, "b"))


@pytest.mark.parametrize("name", settings_of(AlignmentSettings))
def test_alignment_settings(name: str) -> None:
    settings = AlignmentSettings()
    other = with_other_value(settings, name)
    assert isinstance(other, AlignmentSettings)
    check(AlignmentSettings, name, alignment_key("a", "b", "r.png", settings), alignment_key("a", "b", "r.png", other))


@pytest.mark.parametrize("name", settings_of(Preprocessor))
def test_preprocessor_settings(name: str, tmp_path: Path) -> None:
    settings = Preprocessor()
    other = with_other_value(settings, name)
    assert isinstance(other, Preprocessor)
    check(Preprocessor, name, state_key(settings, tmp_path), state_key(other, tmp_path))


def test_the_content_of_files_counts_and_not_their_place() -> None:
    moved = RemoveBackground(method="rembg", model_file="/elsewhere/u2net.onnx")
    assert background_key("a", moved, "b") == background_key("a", RemoveBackground(method="rembg"), "b")
    assert background_key("a", moved, "b") != background_key("a", moved, "c")
    assert background_key("a", moved, "b") != background_key("c", moved, "b")
    named = AlignmentSettings(reference="image_000.jpg")
    assert alignment_key("a", "b", "r.png", named) == alignment_key("a", "b", "r.png", AlignmentSettings())
    assert alignment_key("a", "b", "r.png", named) != alignment_key("a", "c", "r.png", named)
    assert alignment_key("a", "b", "r.png", named) != alignment_key("a", "b", "s.png", named)  # the figures name it
    assert alignment_key("a", "b", "r.png", named) != alignment_key("c", "b", "r.png", named)
