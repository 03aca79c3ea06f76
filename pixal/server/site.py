"""The content of the pages of ``pixal serve``: components, their files and their pictures. A task implements it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pixal.database.store import Store

PictureKind = Literal["photo", "full", "tint", "reference", "thumbnail", "reconstruction"]


@dataclass(frozen=True)
class Picture:
    """An image that a browser can show.

    Attributes:
        data: The bytes of the file.
        media_type: For example ``image/jpeg``.
    """

    data: bytes
    media_type: str = "image/jpeg"


@dataclass(frozen=True)
class PartKey:
    """A photograph of a batch.

    Attributes:
        folder: The folder of the batch, as the database has it.
        type: The image type.
        image: The name of the photograph.
        model_sha256: Hash of the record of the model; "" if not known.
    """

    folder: str
    type: str
    image: str
    model_sha256: str = ""


class Component(Protocol):
    """A component whose results are shown."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def roots(self) -> Mapping[str, Path]:
        """The folders whose files can be shown, by the name that addresses have: ``results`` and ``models``."""

    def store(self) -> Store | None:
        """The database with all batches; None if there are no verdicts yet.

        Raises:
            InputError: The database is damaged.
        """

    @property
    def read_only(self) -> str:
        """Why marks cannot be stored; "" if they can."""

    def picture(self, kind: PictureKind, part: PartKey) -> Picture | None:
        """A picture of a part; None if there is none.

        Args:
            kind: "photo" (reduced to what a screen shows), "full" (the photograph itself), "tint" (with its anomalies
                tinted), "reference" (the good reference in the frame of the photograph), "thumbnail", or
                "reconstruction" (a figure of the input and its reconstruction).
            part: The part.
        """

    def has_reconstruction(self, part: PartKey) -> bool:
        """Whether there is the picture "reconstruction", without making it."""

    def outlines(self, part: PartKey, threshold: float) -> list[list[tuple[float, float]]]:
        """The outlines of what is above the threshold, as closed lines in pixels (x, y) of the photograph."""

    def write_history(self) -> Path:
        """Write the page of the history, and return its path."""


class Site(Protocol):
    """The components, and the folder of inspections."""

    def components(self) -> Mapping[str, Component]:
        """The components by their names."""

    @property
    def inspections(self) -> Path:
        """The folder that holds the results of ``pixal inspect``, one folder each."""
