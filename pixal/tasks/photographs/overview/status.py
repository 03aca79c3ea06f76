"""``pixal status``: the types, models and batches of a component, what is out of date and why, and what to run next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pixal.errors import InputError, ModelError
from pixal.io.records import read_record
from pixal.outcome import verdict_counts
from pixal.tasks.photographs.learning.learning_status import LearningStatus, learning_status
from pixal.tasks.photographs.overview.changes import (
    StoredResults,
    batch_changes,
    common_folder,
    input_changes,
    model_changes,
    own_sources,
)
from pixal.tasks.photographs.preprocessing.folders import INPUT, OutputFolder
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.batches import Batches, StoredBatch
from pixal.train_model.specification import ModelRecord
from pixal.train_model.stored_model import MODEL_RECORD, load_stored


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class InputStatus(_Row):
    """The input of a model: ``out.npz``.

    Attributes:
        photographs: The number of photographs in it; 0 if it cannot be used.
        source: The folder of the photographs; None if it is not known.
        created: When it was made, ISO 8601; None if it cannot be used.
        stale: Why it should be made again.
        sha256: The SHA-256 of the file; None if it cannot be used.
    """

    photographs: int = 0
    source: str | None = None
    created: str | None = None
    stale: tuple[str, ...] = ()
    sha256: str | None = None


class ModelStatus(_Row):
    """A trained model.

    Attributes:
        family: The model family; None if the model cannot be used.
        good_parts: The number of good parts that it learned from.
        trained: When training ended, ISO 8601; None if the model cannot be used.
        stale: Why it should be trained again.
    """

    family: str | None = None
    good_parts: int = 0
    trained: str | None = None
    stale: tuple[str, ...] = ()


class TypeStatus(_Row):
    """A type, or all types that one model serves.

    Attributes:
        name: The type; the component if one model serves all types.
        types: The types that the model serves.
        input: Its input; None if ``preprocess`` was not run.
        model: Its model; None if ``train`` was not run.
        learning: Accepted parts and the candidate.
    """

    name: str
    types: tuple[str, ...]
    input: InputStatus | None
    model: ModelStatus | None
    learning: LearningStatus


class BatchStatus(_Row):
    """A batch.

    Attributes:
        name: Its name.
        source: The folder of its photographs; "" if it is not known.
        started: When its first run began, ISO 8601.
        newest: Whether ``validate/COMPONENT`` shows it.
        report: The path of its report; None if the run was interrupted.
        parts: The number of parts.
        failed: The number of parts that fail.
        errors: The number of photographs that could not be processed.
        stale: Why the verdicts should be repeated.
    """

    name: str
    source: str
    started: str
    newest: bool
    report: str | None = None
    parts: int = 0
    failed: int = 0
    errors: int = 0
    stale: tuple[str, ...] = ()


class NextCommand(_Row):
    """The next step.

    Attributes:
        command: The command; None if there is nothing to run.
        reason: Why, or what else to do.
    """

    command: str | None
    reason: str


class Status(_Row):
    """The state of a component.

    Attributes:
        component: Its name.
        settings: The folder of the settings.
        models_folder: The folder of the models.
        results_folder: The folder of the results.
        types: Its types.
        batches: Its batches, the newest first.
        next: What to run next.
    """

    component: str
    settings: str
    models_folder: str
    results_folder: str
    types: tuple[TypeStatus, ...]
    batches: tuple[BatchStatus, ...]
    next: NextCommand

    @property
    def problems(self) -> Sequence[str]:
        """Empty: what is out of date is no problem of the command."""
        return ()

    def as_json(self) -> dict[str, Any]:
        """The content for ``json.dumps``."""
        return self.model_dump(mode="json")

    def summary(self) -> str:
        """The state as text."""
        lines = [
            f"component {self.component}",
            f"  settings  {self.settings}",
            f"  models    {self.models_folder}",
            f"  results   {self.results_folder}",
            "",
            "types" if self.types else "types: none yet",
        ]
        for row in self.types:
            lines += [f"  {row.name}", f"    input   {_input_text(row.input)}", f"    model   {_model_text(row.model)}"]
            lines += [f"    {line}" for line in row.learning.lines]
        lines += ["", "batches" if self.batches else "batches: none yet"]
        for batch in self.batches:
            lines += [f"  {batch.name}{' (newest)' * batch.newest}", f"    {_batch_text(batch)}"]
        command = f"{self.next.command}   ({self.next.reason})" if self.next.command else self.next.reason
        return "\n".join([*lines, "", f"next: {command}"])


def status(config: PhotographConfig) -> Status:
    """Read the state of the component from the records of its output folders. Nothing is written."""
    paths = config.paths
    models: dict[str, ModelRecord | None] = {}
    types = []
    for owner in _owners(config):
        row, record = _type_status(config, owner)
        types.append(row)
        models |= dict.fromkeys(row.types, record)
    batches = tuple(_batch_status(config, batch, models) for batch in _batches(config))
    return Status(
        component=paths.component,
        settings=str(config.source),
        models_folder=str(paths.resolve("component_model_path")),
        results_folder=str(paths.resolve("component_validate_path")),
        types=tuple(types),
        batches=batches,
        next=_next(paths.component, types, batches),
    )


def _owners(config: PhotographConfig) -> list[str | None]:
    """The types with an input or a model; None stands for all types with one model."""
    root = config.paths.resolve("component_model_path")
    names: list[str | None] = [None] if config.model_training.one_hot_encoding else []
    if not names:
        names = [path.name for path in sorted(root.glob("*")) if path.is_dir()]
    return [name for name in names if any(_has(config, name, file) for file in (INPUT.file, MODEL_RECORD))]


def _has(config: PhotographConfig, owner: str | None, file: str) -> bool:
    return (config.paths.resolve("metadata_path", owner) / file).is_file()


def _type_status(config: PhotographConfig, owner: str | None) -> tuple[TypeStatus, ModelRecord | None]:
    name = owner or config.paths.component
    made, types = _input_status(config, owner)
    record, model = None, None
    if _has(config, owner, MODEL_RECORD):
        try:
            record = load_stored(config, owner).record
        except ModelError as error:
            model = ModelStatus(stale=(str(error),))
        else:
            stale = model_changes(config, record, made.sha256 if made else None)
            model = ModelStatus(
                family=record.model, good_parts=record.n_images, trained=record.created, stale=tuple(stale)
            )
    served = record.types if record else types or (name,)
    learning = learning_status(config.paths, owner, served, record)
    return TypeStatus(name=name, types=served, input=made, model=model, learning=learning), record


def _input_status(config: PhotographConfig, owner: str | None) -> tuple[InputStatus | None, tuple[str, ...]]:
    """The input of a type, and the types in it."""
    folder = OutputFolder(owner, config)
    if not folder.has(INPUT):
        return None, ()
    try:
        record, created = folder.read(INPUT), str(read_record(folder.metadata / INPUT.file)["created"])
        stale = input_changes(config, record, created)
    except (InputError, KeyError, ValueError) as error:
        return InputStatus(stale=(f"{folder.metadata / INPUT.file} cannot be used: {error}",)), ()
    if not folder.input.is_file():
        stale = [f"{folder.input} is missing", *stale]
    sources = [path for paths in own_sources(config, record).values() for path in paths]
    source = common_folder(sources)
    made = InputStatus(
        photographs=record.n_images,
        source=None if source is None else str(source),
        created=created,
        stale=tuple(stale),
        sha256=record.sha256,
    )
    return made, tuple(record.types)


def _batches(config: PhotographConfig) -> list[StoredBatch]:
    batches = Batches(config.paths)
    newest = batches.newest()
    kept = sorted(batches.kept(), key=lambda batch: batch.record.started, reverse=True)
    return kept if newest is None else [newest, *kept]


def _batch_status(
    config: PhotographConfig, batch: StoredBatch, models: Mapping[str, ModelRecord | None]
) -> BatchStatus:
    record, row = batch.record, {}
    results = StoredResults.read(batch.folder / "results.json")
    if results is None:
        stale = ["interrupted before its results were written"]
    else:
        stale = batch_changes(config, results, models)
        for key in ("parts", "failed", "errors"):
            row[key] = sum(getattr(summary, key) for summary in results.types.values())
    return BatchStatus(
        name=record.name,
        source=record.source,
        started=record.started,
        newest=batch.is_newest,
        report=None if results is None else str(batch.folder / "report.html"),
        stale=tuple(stale),
        **row,
    )


def _next(component: str, types: Sequence[TypeStatus], batches: Sequence[BatchStatus]) -> NextCommand:
    """The first step that is missing or out of date."""
    if not types:
        return NextCommand(command=f"pixal preprocess -i photos/{component}", reason="nothing was preprocessed yet")
    for row in types:
        if row.input is None and row.model is None:
            return NextCommand(command=f"pixal preprocess -i photos/{component}", reason=f"{row.name} has no input")
        if row.input is not None and row.input.stale:
            folder = _quoted(_source_of(types) or f"photos/{component}")
            return NextCommand(command=f"pixal preprocess -i {folder}", reason=row.input.stale[0])
    for row in types:
        if row.model is None or row.model.stale:
            reason = row.model.stale[0] if row.model else f"{row.name} has no model"
            return NextCommand(command="pixal train", reason=reason)
    for row in types:
        if (learn := row.learning.command(row.name)) is not None:
            return NextCommand(command=learn[0], reason=learn[1])
    if not batches:
        return NextCommand(command=f"pixal validate -i batch/{component}", reason="no batch was validated yet")
    newest = batches[0]
    if newest.stale:
        command = "pixal detect" if newest.report else f"pixal validate --batch {_quoted(newest.name)}"
        return NextCommand(command=command, reason=newest.stale[0])
    return NextCommand(command=None, reason=f"everything is up to date; open {newest.report}")


def _source_of(types: Sequence[TypeStatus]) -> str | None:
    """The folder of the photographs of all types."""
    folders = [Path(row.input.source) for row in types if row.input is not None and row.input.source]
    above = {folder if len(row.types) > 1 else folder.parent for folder, row in zip(folders, types, strict=False)}
    return str(above.pop()) if len(above) == 1 else None


def _quoted(text: str) -> str:
    return shlex.quote(text)


def _input_text(row: InputStatus | None) -> str:
    if row is None:
        return "none; run pixal preprocess"
    return _with_state(f"{row.photographs} photographs of {row.source}", row.stale)


def _model_text(row: ModelStatus | None) -> str:
    if row is None:
        return "none; run pixal train"
    if row.trained is None:
        return f"cannot be used: {'; '.join(row.stale)}"
    return _with_state(f"{row.family}, {row.good_parts} good parts, trained {_day(row.trained)}", row.stale)


def _batch_text(row: BatchStatus) -> str:
    return _with_state(f"{verdict_counts(row.parts, row.failed, row.errors)}, begun {_day(row.started)}", row.stale)


def _with_state(text: str, stale: Sequence[str]) -> str:
    return f"{text} - out of date: {'; '.join(stale)}" if stale else f"{text} - up to date"


def _day(moment: str) -> str:
    return moment[:16].replace("T", " ")
