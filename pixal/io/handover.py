"""Move files that PIXAL wrote to other folders. A move that is interrupted is completed later.

What moves is written down before the first file is moved. So after a kill or a power cut at any moment, ``finish``
completes the move: no file is lost, and none is in two places.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import (
    file_hash,
    file_stat,
    replace_synced,
    reporting_storage,
    require_writable,
    sync_folder,
    write_bytes,
)
from pixal.io.json_text import parse_json

PLAN = ".pixal-handover.json"
"""Name of the file that lists what moves. It exists until all files have moved."""


@dataclass(frozen=True)
class MovedFile:
    """A file that moves.

    Attributes:
        name: Its path below the folder, before and after.
        size: Its size in bytes.
        modified: Its modification time in nanoseconds.
    """

    name: str
    size: int
    modified: int


@dataclass(frozen=True)
class Move:
    """The files of a claimed folder that move to another folder.

    Attributes:
        source: The folder.
        target: The folder that they move to.
        files: The files.
    """

    source: Path
    target: Path
    files: tuple[MovedFile, ...]

    @property
    def sources(self) -> set[Path]:
        """The files as they are before."""
        return {self.source / file.name for file in self.files}

    @property
    def targets(self) -> list[Path]:
        """The files as they are afterwards."""
        return [self.target / file.name for file in self.files]


def plan_move(source: Path, target: Path, *, stay: Collection[Path] = ()) -> Move:
    """List the files that PIXAL wrote in the claimed folder ``source``, not in claimed folders below it.

    Args:
        source: The folder.
        target: The folder that they move to.
        stay: Files that do not move.
    """
    paths = [path for path in ownership.files_of(source) if path not in stay] if ownership.is_claimed(source) else []
    return Move(source, target, tuple(MovedFile(path.relative_to(source).as_posix(), *_stat(path)) for path in paths))


def hand_over(folder: Path, moves: Sequence[Move]) -> None:
    """Move files, in the order of ``moves``. Files of the user stay where they are.

    Args:
        folder: A claimed folder that is locked by this process; the plan is written here.
        moves: What moves.

    Raises:
        InputError: There is a file where one is to be moved. Nothing has moved then.
        StorageError: A file cannot be moved. Where its folder cannot be written to, nothing has moved; else ``finish``
            completes the rest.
    """
    leaving: set[Path] = set()
    for move in moves:
        ownership.refuse_existing(path for path in move.targets if path not in leaving)
        leaving |= move.sources
    require_writable(*sorted({path.parent for path in leaving}))
    _write_plan(folder, moves)
    finish(folder)


def finish(folder: Path) -> bool:
    """Complete the moves whose plan is in ``folder``. Return whether there were any."""
    if not is_unfinished(folder):
        return False
    moves = _read_plan(folder)
    while moves:
        _move_files(moves[0])
        moves = moves[1:]
        _write_plan(folder, moves)  # a later move may bring other files to the same place
    ownership.remove(folder / PLAN)
    return True


def is_unfinished(folder: Path) -> bool:
    """Whether moves were interrupted."""
    return (folder / PLAN).is_file() and ownership.owns(folder / PLAN)


def _move_files(move: Move) -> None:
    """Move the files of one folder. Those that an interrupted run has moved are known."""
    left = [file.name for file in move.files if _is_left(move.source / file.name, move.target / file.name, file)]
    ownership.adopt(move.target, left)
    for name in left:
        _move_file(move.source / name, move.target / name)
    ownership.disown(move.source, [file.name for file in move.files])
    parents = {path.parent for path in (*move.sources, *move.targets)}
    for folder in (*parents, move.source, move.target):
        sync_folder(folder)
    for folder in sorted({move.source, *parents}, key=lambda path: len(path.parts), reverse=True):
        while ownership.remove_if_empty(folder):
            folder = folder.parent


def _stat(path: Path) -> tuple[int, int]:
    """What stays the same when a file is renamed: its size in bytes and modification time in nanoseconds."""
    size, modified, _ = file_stat(path)
    return size, modified


def _is_left(source: Path, target: Path, file: MovedFile) -> bool:
    """Whether a file has not moved yet. Raise ``InputError`` if another file has taken its place."""
    if not os.path.lexists(source) or not ownership.owns(source):
        return False
    if os.path.lexists(target):
        if _stat(source) != (file.size, file.modified):  # put there by the user after the file had moved
            return False
        if not target.is_file() or file_hash(source) != file_hash(target):  # else it was copied to another disk
            ownership.refuse_existing([target])
    return True


def _move_file(source: Path, target: Path) -> None:
    with reporting_storage(target):
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source.rename(target)
                return
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            _copy(source, target)
        source.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a file to another disk, with its times."""
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.{target.name}")
    try:
        shutil.copy2(source, temporary)
        replace_synced(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_plan(folder: Path, moves: Sequence[Move]) -> None:
    """Write the plan. Folders below ``folder`` are relative to it, so that it can be moved as a whole."""
    content = [
        asdict(move) | {"source": _as_text(move.source, folder), "target": _as_text(move.target, folder)}
        for move in moves
    ]
    write_bytes(folder / PLAN, json.dumps(content).encode())


def _read_plan(folder: Path) -> list[Move]:
    try:
        content = parse_json((folder / PLAN).read_bytes())
        return [
            Move(
                folder / str(move["source"]),
                folder / str(move["target"]),
                tuple(MovedFile(str(file["name"]), int(file["size"]), int(file["modified"])) for file in move["files"]),
            )
            for move in content
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder / PLAN}, which lists files that have to move, is damaged; move what is left of the batch "
            f"from {folder} by hand, and delete this file"
        ) from error


def _as_text(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path.absolute())
