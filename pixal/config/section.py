"""What every section of the settings is built from: the base class, common types, and marks on single settings."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Mark(Enum):
    """What a setting is exempt from; written as ``Annotated[bool, Mark.NO_RESULT]`` where the setting is defined."""

    NO_RESULT = "changes no stored result: what a figure shows, where work runs, how a file is named"
    PER_BATCH = "validation takes it from today's configuration; all other settings it takes from training"


class Section(BaseModel):
    """A section of the settings. Read-only; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


def marked(section: type[BaseModel], mark: Mark) -> frozenset[str]:
    """Names of the settings of ``section`` that carry ``mark``."""
    return frozenset(name for name, field in section.model_fields.items() if mark in field.metadata)


def result_settings(section: BaseModel) -> dict[str, Any]:
    """The settings that a stored result depends on, as JSON values: all but those marked ``Mark.NO_RESULT``.

    A result whose fingerprint holds these is made again whenever one of them changes, also one that is added later.
    """
    left_out = marked(type(section), Mark.NO_RESULT)
    found = section.model_dump(mode="json", exclude=set(left_out))
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if name not in left_out and isinstance(inner, BaseModel):
            found[name] = result_settings(inner)
    return found
