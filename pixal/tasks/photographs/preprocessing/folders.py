"""The folders and files of the preprocessing of a type, and the order of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pixal.config.paths import PathEntry
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import read_bytes, require_writable, write_bytes
from pixal.io.journal import Journal, OutputRecord, write_journal
from pixal.io.names import shorten_stem
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    AlignmentStep,
    BackgroundRecord,
    BackgroundStep,
    InputFileRecord,
    InputStep,
    SharedRecord,
    StepRecord,
    ValidationInputs,
    read_step,
)
from pixal.tasks.photographs.settings import PhotographConfig

PREPROCESSING_RECORD = "preprocessing.yaml"
REFERENCE_FILE = "reference.npz"
STATE_FILE = "preprocessing.npz"

_JOURNAL = ".journal"

Record = TypeVar("Record", bound=StepRecord)
Entry = TypeVar("Entry", bound=OutputRecord)


@dataclass(frozen=True)
class Step(Generic[Record, Entry]):
    """A step of preprocessing.

    Attributes:
        file: Name of the YAML file with its record.
        command: The command that runs it.
        record: The model of its record.
        entries: The models of the entries of its journal.
    """

    file: str
    command: str
    record: type[Record]
    entries: tuple[type[Entry], ...]


BACKGROUND = Step("background.yaml", "remove_bg", BackgroundStep, (BackgroundRecord,))
ALIGNMENT: Step[AlignmentStep, AlignmentRecord | SharedRecord] = Step(
    "alignment.yaml", "align", AlignmentStep, (AlignmentRecord, SharedRecord)
)
INPUT = Step(PREPROCESSING_RECORD, "make_input", InputStep, (InputFileRecord,))
_STEPS: tuple[Step[Any, Any], ...] = (BACKGROUND, ALIGNMENT, INPUT)


@dataclass(frozen=True)
class EarlierRun(Generic[Record]):
    """The records of a step and of the later steps that an earlier run wrote.

    Attributes:
        record: The record of the step; None if there is none.
        later: The content of the records of the later steps, by file.
    """

    record: Record | None
    later: dict[Path, bytes]

    def keep_later(self, record: Record) -> None:
        """Restore the records of the later steps if the step has the same outputs as before.

        Args:
            record: The new record of the step.
        """
        if self.record is None or self.record.made_of() != record.made_of():
            return
        for path, content in self.later.items():
            write_bytes(path, content)
            ownership.remove(path.with_suffix(_JOURNAL))


@dataclass(frozen=True)
class OutputFolder:
    """The output folders of a type, or of the whole component if one model serves all types.

    Attributes:
        name: The type; None for the component.
        config: The settings.
    """

    name: str | None
    config: PhotographConfig

    @property
    def background_removed(self) -> Path:
        """Folder of the cut-out photographs."""
        return self._resolve("background_removed_path")

    @property
    def aligned(self) -> Path:
        """Folder of the aligned photographs."""
        return self._resolve("aligned_images_path")

    @property
    def metadata(self) -> Path:
        """Folder of the records, and of the arrays that one step passes to the next."""
        return self._resolve("metadata_path")

    @property
    def figures(self) -> Path:
        """Folder of the figures about all photographs of the type."""
        return self._resolve("figures_path")

    @property
    def aligned_metrics(self) -> Path:
        """Folder of the table and the figures of the alignment."""
        return self._resolve("aligned_metrics_path")

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self._resolve("log_path")

    @property
    def input(self) -> Path:
        """The file with the model's inputs."""
        return self._resolve("component_model_path") / self.config.preprocessing.preprocessor.file_name

    def has(self, step: Step[Record, Entry]) -> bool:
        """Whether a step has ended and written its record."""
        return (self.metadata / step.file).is_file()

    def read(self, step: Step[Record, Entry]) -> Record:
        """Read the record of a step. Raise ``InputError``, which names the command to run, if it is not there."""
        return read_step(self.metadata / step.file, step.record, step.command)

    def earlier_run(self, step: Step[Record, Entry]) -> EarlierRun[Record]:
        """Read the record of a step, and those of the later steps, before the step runs again."""
        try:
            record = self.read(step) if self.has(step) else None
        except InputError:  # it is damaged
            record = None
        paths = [self.metadata / later.file for later in _STEPS[_STEPS.index(step) + 1 :]]
        return EarlierRun(record, {path: read_bytes(path) for path in paths if path.is_file()})

    def start(self, step: Step[Record, Entry], *, force: bool) -> Journal[Entry]:
        """Start a step: return its journal, which holds what earlier runs have made.

        A record says that the files of its step, and the files these were made of, are complete. So the records of this
        step and of the later ones are removed until each step has run again; a killed run leaves none. Their entries
        are kept in journals. ``EarlierRun.keep_later`` writes the later records back if nothing has changed.

        Args:
            step: The step.
            force: Whether to forget what earlier runs have made.

        Raises:
            StorageError: A folder of the outputs cannot be written to; nothing was removed.
        """
        require_writable(self.background_removed, self.aligned, self.aligned_metrics, self.figures, self.input.parent)
        for later in _STEPS[_STEPS.index(step) :]:
            path, journal = self.metadata / later.file, self._journal(later)
            if force:
                ownership.remove(journal)
            elif path.is_file():
                write_journal(journal, self._outputs(later))
            ownership.remove(path)
        return Journal(self._journal(step), step.entries)

    def _outputs(self, step: Step[Any, Any]) -> list[OutputRecord]:
        """The outputs in the record of a step; empty if the record cannot be read, so that they are made again."""
        try:
            return list(self.read(step).outputs())
        except InputError:
            return []

    def _journal(self, step: Step[Any, Any]) -> Path:
        return (self.metadata / step.file).with_suffix(_JOURNAL)

    def _resolve(self, entry: PathEntry) -> Path:
        return self.config.paths.resolve(entry, self.name)


@dataclass(frozen=True)
class TypeFolder(OutputFolder):
    """The output folders of one type.

    Attributes:
        name: The type.
        config: The settings.
    """

    name: str

    @property
    def reference(self) -> str | None:
        """The photograph that the settings name as the reference of this type; None if they name none."""
        name = self.config.preprocessing.alignment.reference
        return name.get(self.name) if isinstance(name, dict) else name


def check_is_current(metadata: Path, *, is_type: bool) -> None:
    """Check that the last step has ended after the steps before it.

    Args:
        metadata: Folder of the records of a type, or of the component.
        is_type: Whether it is a type's. The component's has no records of the steps before.

    Raises:
        InputError: If the record of the last step is missing. The message names the commands to run.
    """
    if not (metadata / INPUT.file).is_file():
        steps = _STEPS if is_type else _STEPS[-1:]
        commands = [step.command for step in steps if not (metadata / step.file).is_file()]
        raise InputError(
            f"{metadata / INPUT.file} does not exist: a step was not run, was interrupted, or has changed its "
            f"results since; run {' and '.join(commands)}{', or preprocess' if len(commands) > 1 else ''}"
        )


def read_validation_inputs(metadata: Path) -> ValidationInputs:
    """Read the record of the inputs of one type that ``validate`` stored.

    Args:
        metadata: The type's metadata folder in the results.

    Raises:
        InputError: If the record is missing or damaged.
    """
    return read_step(metadata / PREPROCESSING_RECORD, ValidationInputs, "validate")


def planned_files(folder: TypeFolder, names: Sequence[str]) -> list[Path]:
    """The files that preprocessing is going to write, except its figures.

    Args:
        folder: The type's folders.
        names: The names of its photographs.
    """
    rename = folder.config.preprocessing.remove_background.rename_images
    stems = [cut_out_stem(folder.name, index, name, rename=rename) for index, name in enumerate(names)]
    metadata = [folder.metadata / step.file for step in _STEPS]
    return [
        *(folder.background_removed / f"{stem}_no_bg.png" for stem in stems),
        *(folder.aligned / f"{stem}_aligned.png" for stem in stems),
        *metadata,
        *(path.with_suffix(".journal") for path in metadata),
        *(folder.metadata / name for name in (REFERENCE_FILE, STATE_FILE)),
        *(folder.logs / f"{step.command}.log" for step in _STEPS),
        folder.aligned_metrics / "results.csv",
        folder.input,
    ]


def cut_out_stem(type_name: str, index: int, name: str, *, rename: bool | None) -> str:
    """The start of the file names of a cut-out photograph: its own name, or that of its type and a number."""
    return f"{shorten_stem(type_name)}_{index:03d}" if rename else name


def remove_other_images(folder: Path, names: set[str]) -> None:
    """Delete the PNG files of an earlier run that are not among ``names``, so that they are not taken for results."""
    for path in folder.glob("*.png"):
        if path.name not in names:
            ownership.remove(path)
