"""The files with the sensitivity of a type, and what the record among them says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from pixal.config import Config
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.records import read_record


@dataclass(frozen=True)
class SensitivityFiles:
    """The files of one type.

    Attributes:
        record: ``sensitivity.yaml``.
        table: ``sensitivity.csv``, one row per planted defect.
        map: ``sensitivity_map.npz``, the smallest size that is found at each pixel of the reference frame.
        journal: The outcomes so far while the measurement runs.
        curves: The figure of the probability of detection by size.
        map_figure: The figure of the map.
    """

    record: Path
    table: Path
    map: Path
    journal: Path
    curves: Path
    map_figure: Path

    @classmethod
    def of_type(cls, config: Config, name: str) -> SensitivityFiles:
        """The files of a type."""
        metadata, figures = (config.paths.resolve(entry, name) for entry in ("metadata_path", "figures_path"))
        return cls(
            metadata / "sensitivity.yaml",
            metadata / "sensitivity.csv",
            metadata / "sensitivity_map.npz",
            metadata / "sensitivity.journal",
            figures / "sensitivity.png",
            figures / "sensitivity_map.png",
        )

    def __iter__(self) -> Iterator[Path]:
        return iter(astuple(self))

    def remove_results(self) -> None:
        """Remove all files but the journal."""
        for path in self:
            if path != self.journal:
                ownership.remove(path)

    def read(self, name: str, value: str) -> list[str] | None:
        """Return the sentences of the record if its entry ``name`` is ``value``; None if it is missing or differs."""
        try:
            content = read_record(self.record)
        except InputError:
            return None
        sentences = content.get("sentences")
        if content.get(name) != value or not isinstance(sentences, list):
            return None
        return [str(sentence) for sentence in sentences]
