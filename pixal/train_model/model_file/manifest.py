"""The manifest of a model file: what the file holds, and from which versions it comes."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pixal.errors import InputError
from pixal.io.json_text import parse_json
from pixal.io.names import printable
from pixal.io.records import has_valid_hash, with_hash
from pixal.train_model.stored_model import MODEL_RECORD
from pixal.version import __version__

FORMAT = 1
"""The version of the layout of a model file. It is raised when an earlier PIXAL cannot read the file."""

MANIFEST = "manifest.json"
RECORD = f"metadata/{MODEL_RECORD}"
MODEL_FOLDER = "model"
LICENCES_FOLDER = "licences"

_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\\]|^[A-Za-z]:")  # control characters, and paths of Windows


class Member(BaseModel):
    """A file inside a model file.

    Attributes:
        size: Its size in bytes.
        sha256: The SHA-256 of its content.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """The manifest of a model file.

    Attributes:
        format: The version of the layout, see ``FORMAT``.
        pixal_version: The version of PIXAL that wrote the file.
        task: The task that the model is for.
        component: The component that it was trained for.
        type: The type that it is for; None for one model of all types.
        model: Its family.
        trained: When it was trained, in ISO 8601.
        versions: The libraries that trained it.
        weights: Source, SHA-256 and licence of the pretrained weights in it; empty if there are none.
        files: All other files, by their path.
        record_sha256: The SHA-256 of everything else in the manifest, see ``pixal.io.records.with_hash``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    pixal_version: str
    task: str
    component: str
    type: str | None
    model: str
    trained: str
    versions: dict[str, str]
    weights: dict[str, str]
    files: dict[str, Member]
    record_sha256: str

    @field_validator("component", "type")
    @classmethod
    def _is_name(cls, name: str | None) -> str | None:
        """Names become folders."""
        if name is not None and (not is_safe(name) or "/" in name):
            raise ValueError(f"{printable(name)!r} cannot be the name of a folder")
        return name

    @property
    def label(self) -> str:
        """The model for messages: its component and type."""
        return "/".join(filter(None, (self.component, self.type)))

    @classmethod
    def create(cls, **content: Any) -> Manifest:
        """A manifest with its hash."""
        return cls.model_validate(with_hash({"format": FORMAT, "pixal_version": __version__, **content}))

    def as_bytes(self) -> bytes:
        """The content of the manifest's file."""
        return (json.dumps(self.model_dump(), indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            InputError: A newer version wrote it, or it is not what PIXAL wrote.
        """
        try:
            content = parse_json(data)
        except ValueError as error:
            raise InputError(f"its {MANIFEST} is not JSON") from error
        if not isinstance(content, dict):
            raise InputError(f"its {MANIFEST} is not a mapping")
        number, version = content.get("format"), str(content.get("pixal_version"))
        if (isinstance(number, int) and number > FORMAT) or _numbers(version) > _numbers(__version__):
            raise InputError(f"PIXAL {printable(version)} wrote it, and this is {__version__}; install that version")
        if not has_valid_hash(content):
            raise InputError(f"its {MANIFEST} was changed; export the model again")
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = printable(".".join(map(str, first["loc"])))
            raise InputError(f"its {MANIFEST} has a bad value for {key} ({first['msg']})") from error


def is_safe(name: str) -> bool:
    """Whether a path with ``/`` stays inside a folder on any system."""
    parts = name.split("/")
    return not (
        _UNUSABLE.search(name)
        or PurePosixPath(name).is_absolute()
        or any(part in ("", ".", "..") or len(part.encode(errors="surrogatepass")) > 255 for part in parts)
    )


def _numbers(version: str) -> list[int]:
    """The numbers of a version, for comparison."""
    return [int(number) for number in re.findall(r"\d+", version)[:4]]
