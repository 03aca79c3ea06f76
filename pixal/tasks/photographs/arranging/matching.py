"""Find the file of each row of the tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pixal.errors import InputError
from pixal.tasks.photographs.arranging.tables import Row
from pixal.tasks.photographs.discovery import EXTENSIONS


@dataclass(frozen=True)
class Matches:
    """Rows and files.

    Attributes:
        found: Each row with its file.
        problems: Rows without a file, each with the reason.
        unused: Files that no row names.
    """

    found: list[tuple[Row, Path]]
    problems: list[str]
    unused: list[Path]


def match_files(rows: Sequence[Row], folders: Sequence[Path]) -> Matches:
    """Find the file of each row: by its path below a folder, else by its name, else by its name without extension.

    Args:
        rows: The rows.
        folders: The folders of photographs; those below them are searched, too.

    Raises:
        InputError: A folder does not exist.
    """
    images = {folder: list(_images(folder)) for folder in folders}
    files = [path for found in images.values() for path in found]
    by_path: dict[str, list[Path]] = {}
    by_name: dict[str, list[Path]] = {}
    by_stem: dict[str, list[Path]] = {}
    for folder, of_folder in images.items():
        for path in of_folder:
            by_path.setdefault(path.relative_to(folder).as_posix().lower(), []).append(path)
            by_name.setdefault(path.name.lower(), []).append(path)
            by_stem.setdefault(path.stem.lower(), []).append(path)
    found: list[tuple[Row, Path]] = []
    problems: list[str] = []
    used: dict[Path, Row] = {}
    for row in rows:
        text = row.file.replace("\\", "/").lower().removeprefix("./")
        name = PurePosixPath(text)
        stem = name.stem if name.suffix in EXTENSIONS else name.name
        candidates = by_path.get(text) or by_name.get(name.name) or by_stem.get(stem, [])
        if not candidates:
            problems.append(f"{row.where}: no photograph {row.file}")
        elif len(candidates) > 1:
            names = ", ".join(map(str, candidates[:3]))
            problems.append(f"{row.where}: {row.file} may be any of {len(candidates)} files ({names})")
        elif candidates[0] in used:
            if (before := used[candidates[0]]) != row and (before.is_good, before.kind) != (row.is_good, row.kind):
                problems.append(f"{row.where}: {row.file} contradicts {before.where}")
        else:
            used[candidates[0]] = row
            found.append((row, candidates[0]))
    return Matches(found, problems, [path for path in files if path not in used])


def _images(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    for parent, names, files in os.walk(folder):
        names.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in EXTENSIONS and not name.startswith("."):
                yield Path(parent, name)
