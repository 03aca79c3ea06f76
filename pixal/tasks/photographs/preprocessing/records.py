"""The records of the three preprocessing steps: YAML files that list the outputs and what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.errors import InputError
from pixal.io.files import data_hash, read_bytes
from pixal.io.journal import OutputRecord
from pixal.io.names import printable
from pixal.io.provenance import provenance
from pixal.io.records import read_record, write_record
from pixal.report.document import BatchOrigin
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.parts import AlignedImageRecord, ImageRecord, PhotographRecord
from pixal.tasks.photographs.settings import AlignmentSettings, Preprocessing, RemoveBackground


class BackgroundRecord(OutputRecord, ImageRecord):
    """A photograph in ``background.yaml``. ``file`` is the cut-out photograph.

    Attributes:
        name: The stem of the photograph's output files.
        size: Width and height in pixels; None if the photograph could not be decoded.
        foreground: Fraction of the pixels that belong to the part.
        others: Boxes of other parts on the photograph; None if there are none.
    """

    name: str
    size: tuple[int, int] | None = None
    foreground: float | None = None
    others: tuple[Box, ...] | None = None


class AlignmentRecord(OutputRecord, AlignedImageRecord):
    """A photograph in ``alignment.yaml``. ``file`` is the aligned photograph.

    Attributes:
        name: The stem of the photograph's output files.
    """

    name: str


class SharedRecord(OutputRecord):
    """The common data of the aligned photographs of a type, in ``alignment.yaml``. ``file`` is ``reference.npz``.

    Attributes:
        left_out_of_consensus: Photographs whose mask has no vote, each with its IoU with the majority.
        choice: Fingerprint of everything that the choice of the reference depends on.
        reference: File name of the photograph that is the reference.
    """

    left_out_of_consensus: tuple[tuple[str, float], ...] = ()
    choice: str
    reference: str


class InputRecord(ImageRecord):
    """A photograph in ``preprocessing.yaml``.

    Attributes:
        inlier_ratio: Fraction of the matches that agree with the homography.
        ssim: Mean structural similarity to the reference over the part.
        mse: Mean squared difference from the reference over the part, in squared 8-bit grey levels.
        red: Mean of the red channel over the part, in [0, 1].
        green: Mean of the green channel over the part, in [0, 1].
        blue: Mean of the blue channel over the part, in [0, 1].
        sharpness: Standard deviation of the Laplacian divided by that of the grey levels.
        note: A sentence if the crop box cuts off some of the part; None if not.
    """

    inlier_ratio: float | None = None
    ssim: float | None = None
    mse: float | None = None
    red: float | None = None
    green: float | None = None
    blue: float | None = None
    sharpness: float | None = None
    note: str | None = None


class InputFileRecord(OutputRecord):
    """An ``out.npz`` in ``preprocessing.yaml``.

    Attributes:
        images: One record per photograph, by type.
    """

    images: dict[str, tuple[InputRecord, ...]]


class TypeRecord(BaseModel):
    """The fitted preprocessing of one type, in ``preprocessing.yaml``.

    Attributes:
        background_method: The background method used.
        pool_size: Side in pixels of the windows that were averaged to one input pixel.
        crop_box: Where the input lies in the reference frame.
        shape: The type's own input shape (H, W, C), without padding to a shape that all types share.
        part_pixels: Number of input pixels that show the part.
        state_sha256: The SHA-256 of the type's ``preprocessing.npz``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    background_method: str
    pool_size: int
    crop_box: Box
    shape: tuple[int, int, int]
    part_pixels: int
    state_sha256: str

    def as_row(self) -> dict[str, Any]:
        """The values for YAML."""
        return self.model_dump() | {"crop_box": self.crop_box._asdict()}


class StepRecord(BaseModel):
    """The record of a step, without the versions and times that the file also holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def content(self) -> dict[str, Any]:
        """The content of the file."""
        raise NotImplementedError

    def outputs(self) -> Sequence[OutputRecord]:
        """The records of the files that the step made."""
        raise NotImplementedError

    def made_of(self) -> list[dict[str, Any]]:
        """What later steps depend on: the outputs, their photographs, and the photographs that failed."""
        return [record.model_dump() for record in self.outputs()]

    def write(self, path: Path) -> None:
        """Write the file, with versions and time."""
        write_record(path, provenance() | self.content())


class Layout(BaseModel):
    """How the parts of a type are found and aligned, with ``auto`` replaced by what it stands for.

    Attributes:
        method: The background method.
        apply_alignment: As in the settings of the alignment.
        reason: Why ``auto`` chose this; "" if the settings leave no choice.
        key: Fingerprint of everything that the choice depends on; None if there was none.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    method: str
    apply_alignment: bool | Literal["texture"]
    reason: str = ""
    key: str | None = None


class BackgroundStep(StepRecord):
    """``background.yaml``.

    Attributes:
        method: The background method used; never "auto".
        layout: How the parts are found and aligned.
        model_sha256: The SHA-256 of the network's file, if one was used.
        settings: The settings used.
        images: One record per photograph.
    """

    method: str
    layout: Layout
    model_sha256: str | None
    settings: RemoveBackground
    images: tuple[BackgroundRecord, ...]

    def alignment_settings(self, settings: AlignmentSettings) -> AlignmentSettings:
        """The settings of the alignment, with ``auto`` replaced by what it stands for."""
        if settings.apply_alignment != "auto":
            return settings
        return settings.model_copy(update={"apply_alignment": self.layout.apply_alignment})

    def content(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "method": self.method,
            "layout": self.layout.model_dump(),
            "model_sha256": self.model_sha256,
            "settings": self.settings.model_dump(),
            "images": [record.as_row() for record in self.images],
        }

    def outputs(self) -> Sequence[BackgroundRecord]:
        """The records of the cut-out photographs."""
        return [record for record in self.images if record.has_output]

    def made_of(self) -> list[dict[str, Any]]:
        """See ``StepRecord``. The same photographs may lie in another folder."""
        layout = self.layout.model_dump(include={"method", "apply_alignment"})
        return [layout, *(record.model_dump(exclude={"source"}) for record in self.images)]


class AlignmentStep(StepRecord):
    """``alignment.yaml``.

    Attributes:
        reference: File name of the photograph that is the reference.
        settings: The settings used.
        images: One record per photograph that has a foreground.
        made: What the aligned photographs have in common; one record.
    """

    reference: str
    settings: AlignmentSettings
    images: tuple[AlignmentRecord, ...]
    made: tuple[SharedRecord]

    @property
    def aligned(self) -> list[AlignmentRecord]:
        """The records of the photographs that were aligned."""
        return [record for record in self.images if record.is_ok]

    def content(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "reference": self.reference,
            "settings": self.settings.model_dump(),
            "images": [record.as_row() for record in self.images],
            "made": [record.model_dump() for record in self.made],
        }

    def outputs(self) -> Sequence[AlignmentRecord | SharedRecord]:
        """The records of the aligned photographs and of ``reference.npz``."""
        return [*(record for record in self.images if record.has_output), *self.made]

    def made_of(self) -> list[dict[str, Any]]:
        """See ``StepRecord``. The same photographs may lie in another folder."""
        return [record.model_dump(exclude={"source"}) for record in (*self.images, *self.made)]


class InputStep(StepRecord):
    """``preprocessing.yaml``, as ``make_input`` writes it.

    Attributes:
        component: The component.
        input: Name of the ``out.npz``.
        input_dim: Number of values of one input.
        shape: Shape (H, W, C) of one input.
        channels: Names of the channels.
        n_images: Number of inputs.
        sha256: The SHA-256 of the ``out.npz``.
        photographs: Number of photographs of each type, failed ones included.
        types: What was fitted, by type.
        settings: The settings used.
        made: The ``out.npz``; one record.
    """

    component: str
    input: str
    input_dim: int
    shape: tuple[int, int, int]
    channels: tuple[str, ...]
    n_images: int
    sha256: str
    photographs: dict[str, int] = {}
    types: dict[str, TypeRecord]
    settings: Preprocessing
    made: tuple[InputFileRecord, ...] = ()

    def images(self, type_name: str) -> list[InputRecord]:
        """The records of the photographs of a type."""
        return [record for made in self.made for record in made.images.get(type_name, ())]

    def content(self) -> dict[str, Any]:
        """The content of the file."""
        content = self.model_dump(exclude={"photographs", "types", "settings", "made"})
        types = {name: record.as_row() for name, record in self.types.items()}
        if len(types) == 1:
            content["crop_box"] = next(iter(types.values()))["crop_box"]
        made = [
            record.model_dump()
            | {"images": {name: [image.as_row() for image in images] for name, images in record.images.items()}}
            for record in self.made
        ]
        return content | {
            "photographs": self.photographs,
            "types": types,
            "settings": self.settings.model_dump(),
            "made": made,
        }

    def outputs(self) -> Sequence[InputFileRecord]:
        """The record of the ``out.npz``."""
        return self.made


class ValidationInputs(StepRecord):
    """``preprocessing.yaml`` in a results folder: how ``validate`` made the inputs of one type.

    Attributes:
        batch: The batch when the inputs were complete; None in records of earlier versions.
        type: The type.
        model: The type of the model; the component if one model serves all types.
        judged_by: The model as ``--model`` named it; None if it is the model of the type.
        key: Fingerprint of everything that an input depends on, except the photograph.
        preprocessing_sha256: The SHA-256 of the file with the preprocessing state.
        background_method: The background method used.
        channels: Names of the channels.
        shape: Shape (H, W, C) of one input.
        settings: The settings used.
        images: One record per photograph.
    """

    batch: BatchOrigin | None = None
    type: str
    model: str
    judged_by: str | None = None
    key: str
    preprocessing_sha256: str
    background_method: str
    channels: tuple[str, ...]
    shape: tuple[int, int, int]
    settings: Preprocessing
    images: tuple[PhotographRecord, ...]

    def content(self) -> dict[str, Any]:
        """The content of the file."""
        return self.model_dump() | {"images": [record.as_row() for record in self.images]}

    def outputs(self) -> Sequence[OutputRecord]:
        """Empty: the inputs of all photographs are in one file, which the journal of verdicts describes."""
        return ()


Step = TypeVar("Step", bound=StepRecord)


def read_step(path: Path, step: type[Step], command: str) -> Step:
    """Read the record of a step.

    Args:
        path: The file.
        step: Its model.
        command: The command that writes the file, for the error message.

    Raises:
        InputError: If the file is missing or damaged.
    """
    try:
        return step.model_validate(read_record(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(map(str, first["loc"])))
        raise InputError(f"{path} is damaged ({where}: {first['msg']}); run {command} again") from error
    except InputError as error:
        raise InputError(f"{error}; run {command} again") from error


def step_hash(path: Path, command: str) -> str:
    """Return the SHA-256 of the record of a step; arguments and errors as of ``read_step``."""
    try:
        return data_hash(read_bytes(path))
    except InputError as error:
        raise InputError(f"{path}: {error}; run {command} again") from error
