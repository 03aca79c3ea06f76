"""Which files an address may lead to: those that PIXAL wrote in the folders of a component, and no others."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from pixal.io import ownership

MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".json": "application/json",
    ".yaml": "text/plain; charset=utf-8",
}
"""The kinds of files that are shown, by their endings."""

_MOST_FIGURES = 2000


def resolve(root: Path, path: str) -> Path | None:
    """The file that an address below a folder stands for; None if it may not be shown.

    It must be a regular file that PIXAL wrote below the folder. No part of the path may be hidden, or lead upwards.
    Links that lead out of the folder are not followed.

    Args:
        root: The folder.
        path: The path below it, with slashes, already decoded.
    """
    parts = PurePosixPath(path).parts
    if not parts or any(_is_forbidden(part) for part in parts) or path.startswith("/"):
        return None
    file = root.joinpath(*parts)
    if file.suffix.lower() not in MEDIA_TYPES:
        return None
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(root.resolve(strict=True)) or not real.is_file():
            return None
    except (OSError, ValueError, RuntimeError):
        return None
    return real if ownership.owns(file) or ownership.owns(real) else None


def list_figures(root: Path, *, skip: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The figures (PNG and JPEG files) that PIXAL wrote below a folder, by their folder, as addresses below the root.

    Args:
        root: The folder.
        skip: Names of folders that are left out, and beginnings of file names.
    """
    found: dict[str, list[str]] = {}
    count = 0
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in skip and not _is_forbidden(name))
        for name in sorted(names):
            path = Path(parent, name)
            if path.suffix.lower() not in (".png", ".jpg") or name.startswith(skip) or _is_forbidden(name):
                continue
            if count < _MOST_FIGURES and ownership.owns(path):
                folder = path.parent.relative_to(root).as_posix()
                found.setdefault("" if folder == "." else folder, []).append(path.relative_to(root).as_posix())
                count += 1
    return found


def list_pages(root: Path, name: str) -> list[str]:
    """The pages of a name that PIXAL wrote below a folder, as addresses below the root, the newest first."""
    found: list[Path] = []
    for parent, folders, names in os.walk(root):
        folders[:] = [folder for folder in folders if not _is_forbidden(folder)]
        path = Path(parent, name)
        if name in names and ownership.owns(path):
            found.append(path)
    found.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return [path.relative_to(root).as_posix() for path in found]


def list_inspections(folder: Path) -> list[str]:
    """The names of the folders that ``pixal inspect`` wrote its page into."""
    if not folder.is_dir():
        return []
    names = sorted(os.listdir(folder))  # noqa: PTH208
    return [name for name in names if resolve(folder, f"{name}/inspection.html") is not None]


def _is_forbidden(part: str) -> bool:
    return part.startswith(".") or any(character in part for character in "/\\:\0")
