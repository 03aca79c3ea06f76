"""``pixal check``: look for what would stop or spoil a run, and say what would be done. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pixal.config.schema import AUTO_MODEL, ModelTraining
from pixal.errors import InputError, PixalError
from pixal.io.images import read_size
from pixal.io.output_folders import check_outputs
from pixal.registry import MODELS
from pixal.tasks.photographs.discovery import Photograph, list_photographs
from pixal.tasks.photographs.preprocessing.folders import BACKGROUND, TypeFolder
from pixal.tasks.photographs.preprocessing.pipeline import refuse_folder_above
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.training_data import RECOMMENDED
from pixal.train_model.family import checked_options, family_named
from pixal.train_model.stored_model import trained_types


class TypeCheck(BaseModel):
    """The photographs of a type.

    Attributes:
        name: The type.
        photographs: Their number.
        size: Width and height of most of them, in pixels; None if none can be read.
        prepared: How many of them ``preprocess`` has already processed.
        trained: Whether the type has a model.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    photographs: int
    size: tuple[int, int] | None
    prepared: int
    trained: bool


class Check(BaseModel):
    """The result of ``pixal.check``.

    Attributes:
        component: The name of the component.
        settings: The folder of the settings.
        model: The model family.
        types: The photographs in the folder that was given; empty without one.
        problems: What would stop a run, or refuse photographs.
        warnings: What would make the results worse.
        plan: What the commands would do.
    """

    model_config = ConfigDict(frozen=True)

    component: str
    settings: str
    model: str
    types: tuple[TypeCheck, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    plan: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The content for ``json.dumps``."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """The check as text."""
        lines = [f"settings {self.settings}: valid; component {self.component}, model {self.model}"]
        for row in self.types:
            size = f"{row.size[0]}x{row.size[1]} pixels" if row.size else "unreadable"
            state = "has a model" if row.trained else "has no model"
            lines.append(f"  {row.name}: {row.photographs} photographs, {size}, {row.prepared} prepared; {state}")
        for title, texts in (("problem", self.problems), ("warning", self.warnings), ("plan", self.plan)):
            lines += [f"{title}: {text}" for text in texts]
        return "\n".join(lines)


def check(source: str | Path | None, config: PhotographConfig) -> Check:
    """Find problems of a run on the photographs in ``source``; None: check only the settings.

    Raises:
        InputError: There are no photographs.
    """
    findings = _Findings()
    with findings.collected():
        _check_family(config.model_training)
    types: list[TypeCheck] = []
    if source is not None:
        photographs = list_photographs(source)
        files = [photo.path for photos in photographs.values() for photo in photos]
        with findings.collected():
            refuse_folder_above(source, photographs, config.paths.component)
        with findings.collected():
            check_outputs(config.paths, "component_model_path", list(photographs), source=source, files=files)
        trained = _trained(config)
        types = [_check_type(name, photos, config, name in trained, findings) for name, photos in photographs.items()]
    return Check(
        component=config.paths.component,
        settings=str(config.source),
        model=config.model_training.model,
        types=tuple(types),
        problems=tuple(findings.problems),
        warnings=tuple(findings.warnings),
        plan=() if findings.problems else tuple(_plan(source, types, config)),
    )


def _check_family(settings: ModelTraining) -> None:
    """Raise ``ConfigError`` for an unknown model family, or for options that it does not have."""
    if settings.model == AUTO_MODEL:
        return
    MODELS.class_path(settings.model)
    if settings.model_options:  # importing a family takes seconds
        checked_options(family_named(settings.model), settings)


@dataclass
class _Findings:
    """Problems and warnings, in the order in which they were found."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Collect what the block raises as a problem."""
        try:
            yield
        except PixalError as error:
            self.problems.append(str(error))


def _check_type(
    name: str, photographs: Sequence[Photograph], config: PhotographConfig, is_trained: bool, findings: _Findings
) -> TypeCheck:
    sizes = {photo: None if photo.problem else read_size(photo.path) for photo in photographs}
    usual = Counter(size for size in sizes.values() if size).most_common(1)
    size = usual[0][0] if usual else None
    for photo, own in sizes.items():
        if own is None:
            findings.problems.append(f"{name}/{photo.image}: {photo.problem or 'is not an image that can be read'}")
        elif size and sorted(own) != sorted(size):  # EXIF may turn it
            findings.problems.append(
                f"{name}/{photo.image}: is {own[1]}x{own[0]}, most photographs of its type are {size[1]}x{size[0]}"
            )
    usable = sum(own is not None for own in sizes.values())
    if not is_trained and usable < RECOMMENDED:
        findings.warnings.append(f"{name}: {usable} photographs; for training, {RECOMMENDED} or more are recommended")
    return TypeCheck(
        name=name,
        photographs=len(photographs),
        size=None if size is None else (size[1], size[0]),
        prepared=len(_prepared(name, config) & {photo.source for photo in photographs}),
        trained=is_trained,
    )


def _prepared(type_name: str, config: PhotographConfig) -> set[str]:
    """The paths of the photographs whose background was removed."""
    with suppress(InputError):
        return {row.source for row in TypeFolder(type_name, config).read(BACKGROUND).images if row.is_ok}
    return set()


def _trained(config: PhotographConfig) -> list[str]:
    with suppress(PixalError):  # damaged: status says more
        return trained_types(config)
    return []


def _plan(source: str | Path | None, types: Sequence[TypeCheck], config: PhotographConfig) -> list[str]:
    models, results = (config.paths.resolve(entry) for entry in ("component_model_path", "component_validate_path"))
    if source is None:
        return [f"models go to {models}, results to {results}; name a folder (-i) to check photographs"]
    missing = sum(row.photographs - row.prepared for row in types)
    names = ", ".join(row.name for row in types)
    family = config.model_training.model
    prepare = f"prepare {missing} photographs ({names}) in {models}" if missing else "find all photographs prepared"
    lines = [
        f"for training: pixal preprocess -i {source} would {prepare}; then pixal train would train {family} on them"
    ]
    if all(row.trained for row in types):
        count = sum(row.photographs for row in types)
        lines.append(f"as a batch: pixal validate -i {source} would give {count} parts a verdict in {results}")
    return lines
