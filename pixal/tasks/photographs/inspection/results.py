"""The result of ``inspect``, and its files: a page, a table with one row per photograph, and a record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.locking import lock_folder
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.outcome import Failure, Tabular
from pixal.report.inspection import Thumbnail, write_inspection_page
from pixal.report.inspection_document import Finding, InspectionDocument
from pixal.tasks.photographs.inspection.image_figures import ImageFigures
from pixal.tasks.photographs.inspection.photographs import InspectedType
from pixal.tasks.photographs.inspection.split import Use

FIGURE_COLUMNS = tuple(column.name for column in fields(ImageFigures))
COLUMNS = (
    *("type", "image", "source", "format", "bytes", "width", "height", "bits"),
    *FIGURE_COLUMNS,
    *("hash", "sha256", "findings", "use", "reason"),
)


@dataclass(frozen=True)
class InspectionFiles:
    """The folder of the results, and the files in it.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / "inspection.html"

    @property
    def table(self) -> Path:
        """The table, one row per photograph."""
        return self.folder / "photographs.csv"

    @property
    def record(self) -> Path:
        """The summary, for programs."""
        return self.folder / "inspection.yaml"

    def check(self, sources: Sequence[Path]) -> None:
        """Raise ``InputError`` if the folder is, holds or lies in a folder of photographs, or holds other files."""
        folder = self.folder.resolve()
        for source in sources:
            photographs = source.resolve() if source.is_dir() else source.resolve().parent
            if folder == photographs or folder in photographs.parents or photographs in folder.parents:
                raise InputError(
                    f"the results would lie in {self.folder}, next to or inside the photographs ({source}); "
                    "name another folder: -o DIR"
                )
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; name another folder for the results: -o DIR")
        ownership.refuse_strangers([self.page, self.table, self.record])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Claim the folder, and lock it while the block runs."""
        ownership.claim(self.folder)
        with lock_folder(self.folder):
            ownership.remove_unfinished(self.folder)
            yield


@dataclass(frozen=True)
class Inspection(Tabular):
    """The result of ``pixal.inspect``.

    Attributes:
        files: The files that were written: ``files.page``, ``files.table``, ``files.record``.
        document: The content of the page.
        failures: The files that cannot be read.
        photographs: One row of the table per photograph.
    """

    files: InspectionFiles
    document: InspectionDocument
    failures: tuple[Failure, ...]
    photographs: tuple[Mapping[str, Any], ...]

    failed = 0
    """Number of items with the verdict "fail"; an inspection gives none."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of ``photographs.csv``."""
        return COLUMNS

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """The rows of ``photographs.csv``."""
        return self.photographs

    @property
    def written(self) -> tuple[Path, ...]:
        """The page, the table and the record."""
        return self.files.page, self.files.table, self.files.record

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings, the most important first."""
        return self.document.findings

    @property
    def all_failed(self) -> bool:
        """Whether no photograph could be read."""
        return len(self.failures) == len(self.rows)

    @property
    def headline(self) -> str:
        """One line: how many photographs, and how many findings."""
        count, findings = self.document.photographs, len(self.findings)
        of_all = f" of {self.document.found}" if self.document.found > count else ""
        what = {0: "nothing remarkable", 1: "one finding"}.get(findings, f"{findings} findings")
        return f"{count}{of_all} photograph{'' if count == 1 else 's'}, {what}"

    def summary(self) -> str:
        """The findings, one per line, and the suggested split."""
        lines = [self.headline, *map(str, self.findings)]
        for item in self.document.types:
            split = ", ".join(f"{use}: {count}" for use, count in item.split.items())
            lines.append(f"{item.name}: suggested use: {split}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The findings, the first rows and the files, for a notebook."""
        items = "".join(f"<li>{escape(str(finding))}</li>" for finding in self.findings)
        return f"<ul>{items}</ul>{super()._repr_html_()}"


def photograph_rows(
    types: Mapping[str, InspectedType], findings: Sequence[Finding], uses: Mapping[str, Mapping[str, Use]]
) -> Iterator[dict[str, Any]]:
    """Yield one row of the table per photograph."""
    kinds: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in findings:
        for name in finding.photographs:
            kinds[finding.type, name].append(finding.kind)
    for name, inspected in types.items():
        for photo in inspected.photographs:
            use = uses[name][photo.image]
            yield {
                "type": name,
                "image": photo.image,
                "source": photo.photograph.source,
                **{column: getattr(photo, column) or None for column in ("format", "bytes", "width", "height", "bits")},
                **(asdict(photo.figures) if photo.figures else {}),
                "hash": photo.hash,
                "sha256": photo.file_hash,
                "findings": "+".join(kinds[name, photo.image]),
                "use": use.use,
                "reason": photo.problem or use.reason,
            }


def write_files(inspection: Inspection, thumbnails: Mapping[tuple[str, str], Thumbnail], component: str) -> None:
    """Write the table, the record and the page.

    Args:
        inspection: What was found.
        thumbnails: Images for the page, by type and name.
        component: The component that the photographs belong to; "" if the settings name none.
    """
    document = inspection.document
    write_table(inspection.files.table, COLUMNS, inspection.rows)
    content = {
        "component": component,
        "source": document.source,
        "against": document.against,
        "photographs": document.photographs,
        "found": document.found,
        "notes": document.notes,
        "findings": [asdict(finding) for finding in document.findings],
        "types": {
            item.name: {
                "photographs": item.photographs,
                "unreadable": item.unreadable,
                "sizes": item.sizes,
                "formats": item.formats,
                "split": item.split,
            }
            for item in document.types
        },
    }
    write_record(inspection.files.record, provenance() | content)
    write_inspection_page(inspection.files.page, document, thumbnails)
