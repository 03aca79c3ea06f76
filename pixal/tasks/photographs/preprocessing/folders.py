"""Where preprocessing keeps the files of a type, and which records vouch for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixal.config import PathEntry
from pixal.errors import InputError
from pixal.io.journal import Journal, keep_rows
from pixal.io.records import read_record
from pixal.tasks.photographs.settings import PhotographConfig

BACKGROUND_RECORD = "background.yaml"
ALIGNMENT_RECORD = "alignment.yaml"
PREPROCESSING_RECORD = "preprocessing.yaml"
_RECORDS = (BACKGROUND_RECORD, ALIGNMENT_RECORD, PREPROCESSING_RECORD)

REFERENCE_FILE = "reference.npz"
STATE_FILE = "preprocessing.npz"


@dataclass(frozen=True)
class TypeFolder:
    """The folders of type ``name`` (None: of the component, where one model serves all types)."""

    name: str | None
    config: PhotographConfig

    @property
    def background_removed(self) -> Path:
        """The cut-out photographs."""
        return self._of("background_removed_path")

    @property
    def aligned(self) -> Path:
        """The aligned photographs."""
        return self._of("aligned_images_path")

    @property
    def metadata(self) -> Path:
        """The records, and what the steps hand on to each other."""
        return self._of("metadata_path")

    @property
    def figures(self) -> Path:
        """The pictures of the type as a whole."""
        return self._of("figures_path")

    @property
    def aligned_metrics(self) -> Path:
        """The alignment's table and pictures."""
        return self._of("aligned_metrics_path")

    @property
    def logs(self) -> Path:
        """The messages of each step."""
        return self._of("log_path")

    @property
    def input(self) -> Path:
        """The network's input."""
        return self._of("component_model_path") / str(self.config.preprocessing.preprocessor.file_name)

    def has(self, record: str) -> bool:
        """Whether a step has left its record."""
        return (self.metadata / record).is_file()

    def start(self, record: str, *, force: bool) -> Journal:
        """Begin the step that writes ``record``: its journal, which knows what earlier runs have made.

        A record vouches for the files of its step, and of those it was made from: while a step runs, and when the run
        is killed, neither its own record nor a later one does. What they held stays in journals. ``force``: forget it.
        """
        for name in _RECORDS[_RECORDS.index(record) :]:
            path, journal = self.metadata / name, _journal(self.metadata / name)
            if force:
                journal.unlink(missing_ok=True)
            elif path.is_file():
                keep_rows(journal, _made(path))
            path.unlink(missing_ok=True)
        return Journal(_journal(self.metadata / record))

    def _of(self, entry: PathEntry) -> Path:
        return self.config.paths.resolve(entry, self.name)


def _journal(record: Path) -> Path:
    return record.with_suffix(".journal")


def _made(record: Path) -> list[dict[str, Any]]:
    """The rows of a record that name a file; none where it cannot be read (what it vouched for is made again)."""
    try:
        content = read_record(record)
    except InputError:
        return []
    rows = [*content.get("images", []), *content.get("made", [])]
    return [row for row in rows if {"file", "key", "file_sha256"} <= row.keys()]


def remove_others(folder: Path, files: set[str]) -> None:
    """Delete images of an earlier run that are no longer among the inputs, so that nothing takes them for results."""
    for path in folder.glob("*.png"):
        if path.name not in files:
            path.unlink()
