"""The base class of the sections of the settings, common types, and marks on single settings."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""
Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""
Count = Annotated[int, Field(ge=1)]
"""A whole number from 1."""
Units = Annotated[int, Field(ge=1, le=100_000)]
"""The number of units of a layer; more do not fit into memory."""


class Mark(Enum):
    """Marks a setting as special. Write ``Annotated[bool, Mark.NO_RESULT]`` where the setting is defined.

    Attributes:
        NO_RESULT: The setting changes no stored result: what a figure shows, where work runs, how a file is named.
        PER_BATCH: Validation uses the current value of the setting. Of other settings it uses the value at training.
    """

    NO_RESULT = "no result"
    NOT_IN_TRAINING = "training does not use it; a trained model does not depend on it"
    PER_BATCH = "per batch"


class Section(BaseModel):
    """A section of the settings. It is read-only; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


def marked(section: type[BaseModel], mark: Mark) -> frozenset[str]:
    """Names of the settings of ``section`` that have ``mark``."""
    return frozenset(name for name, field in section.model_fields.items() if mark in field.metadata)


def result_settings(section: BaseModel) -> dict[str, Any]:
    """The settings that a stored result depends on, as JSON values: all but those marked ``Mark.NO_RESULT``.

    They are part of the fingerprint of a result. The result is made again if one of them changes, including settings
    that a later version adds.
    """
    excluded = marked(type(section), Mark.NO_RESULT)
    settings = section.model_dump(mode="json", exclude=set(excluded))
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if name not in excluded and isinstance(inner, BaseModel):
            settings[name] = result_settings(inner)
    return settings
