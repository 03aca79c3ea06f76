"""The batches of a component: the newest one, and the earlier ones, which are kept in ``batches/NAME``."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pixal.config.paths import BATCHES_FOLDER, Paths
from pixal.errors import InputError
from pixal.io.handover import Move, finish, hand_over, is_unfinished, plan_move
from pixal.io.image_time import time_taken
from pixal.io.locking import lock_folder
from pixal.io.output_folders import Side, claim_outputs, output_folders
from pixal.notifications.notifier import OUTBOX
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.verdicts.batch_record import (
    BatchRecord,
    check_batch_name,
    default_name,
    free_name,
    name_problem,
    read_batch_record,
    source_text,
    write_batch_record,
)
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, StoredVerdict, read_journal

_log = logging.getLogger(__name__)

HISTORY_DATABASE = "history.db"
HISTORY_FILES = (HISTORY_DATABASE, "history.html", "history.csv", OUTBOX)
"""Files of all batches, in the folder of the component's results. They stay there when a batch moves."""

_SIDE: Side = "component_validate_path"


@dataclass(frozen=True)
class StoredBatch:
    """A batch on the disk.

    Attributes:
        record: Its record.
        paths: Where its results are.
        is_newest: Whether these are the results that ``validate/COMPONENT`` shows.
    """

    record: BatchRecord
    paths: Paths
    is_newest: bool

    @property
    def folder(self) -> Path:
        """The folder of its results."""
        return self.paths.resolve(_SIDE)

    @property
    def real_folders(self) -> list[Path]:
        """The folder of its results, and those of its types, without links."""
        return [self.folder.resolve(), *(self.type_folder(name).resolve() for name in self.record.types)]

    def type_folder(self, name: str) -> Path:
        """The folder of the results of a type."""
        return self.paths.resolve(_SIDE, name)

    @property
    def prepared_types(self) -> list[str]:
        """The types whose inputs ``validate`` has stored."""
        return [name for name in self.record.types if (self._metadata(name) / PREPROCESSING_RECORD).is_file()]

    def verdicts(self) -> Iterator[tuple[str, StoredVerdict]]:
        """Each stored verdict, with its type."""
        for name in self.record.types:
            yield from ((name, verdict) for verdict in read_journal(self._metadata(name) / JOURNAL))

    def _metadata(self, type_name: str) -> Path:
        return self.paths.resolve("validate_metadata_path", type_name)


class Batches:
    """The batches of a component."""

    def __init__(self, paths: Paths) -> None:
        self._paths, self._root = paths, paths.resolve(_SIDE)

    def newest(self, source: Path | None = None) -> StoredBatch | None:
        """The batch that ``validate/COMPONENT`` shows; None if it shows none.

        Args:
            source: What is about to be validated. Results of a version of PIXAL that recorded no batches count as
                those of this folder if all their photographs are in it.
        """
        record = read_batch_record(self._root) or self._unrecorded(source)
        return None if record is None else StoredBatch(record, self._paths, is_newest=True)

    def kept(self) -> list[StoredBatch]:
        """The earlier batches. Their names are those of their folders, which the user may have renamed."""
        folder = self._root / BATCHES_FOLDER
        names = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208
        records = ((name, read_batch_record(folder / name, name)) for name in names if not name.startswith("."))
        return [
            StoredBatch(record, self._paths.for_batch(name), is_newest=False)
            for name, record in records
            if record is not None
        ]

    def named(self, name: str) -> StoredBatch:
        """The batch of a name. Raise ``InputError``, which lists the known ones, if there is none."""
        batch = self._by_name(name)
        if batch is None:
            known = [f"{known.record.name}{' (newest)' * known.is_newest}" for known in self._all()]
            names = f"known: {', '.join(known)}" if known else "there are no batches yet; run validate first"
            raise InputError(f"{self._root} holds no batch {name} ({names})")
        return batch

    def source(self, path: str | Path | None, name: str | None) -> Path:
        """The photographs to validate: those that the user gave, or else those of the batch ``name``.

        Raises:
            InputError: Neither is given, or there is no such batch.
        """
        self.finish_handover()
        if path is not None:
            return Path(path)
        if name is None:
            raise InputError("no photographs are given; add -i DIR-or-IMAGE, or --batch NAME of a known batch")
        batch = self.named(name)
        if not batch.record.source:
            raise InputError(f"the folder of the photographs of batch {name} is not known; add -i DIR-or-IMAGE")
        return Path(batch.record.source)

    def prepared(self, path: str | Path | None, name: str | None) -> tuple[StoredBatch, list[str]]:
        """A batch and those of its types whose inputs ``validate`` has stored.

        Args:
            path: The folder of its results, or that of one type in it, which is then the only one. Default: the batch
                ``name``.
            name: The name of the batch. Default: the newest one, or the one that ``path`` lies in.

        Raises:
            InputError: There are no stored inputs.
        """
        folder = None if path is None else Path(path).resolve()
        if name is not None:
            batch: StoredBatch | None = self.named(name)
        else:
            inside = [kept for kept in self.kept() if folder in kept.real_folders]
            batch = inside[0] if inside else self.newest()
        if batch is None:
            raise InputError(f"{self._root} holds no inputs stored by validate; run validate first")
        names = batch.prepared_types
        if not names:
            raise InputError(f"{batch.folder} holds no inputs stored by validate; run validate first")
        if folder is not None and folder != batch.folder.resolve():
            names = [type_name for type_name in names if batch.type_folder(type_name).resolve() == folder]
            if not names:
                raise InputError(
                    f"{path} holds no inputs stored by validate; give {batch.folder} or the folder of a type in it"
                )
        return batch, names

    def check_unchanged(self, batch: StoredBatch) -> None:
        """Raise ``InputError`` if another run has moved or continued a batch since it was read."""
        now = self.newest() if batch.is_newest else self._by_name(batch.record.name)
        if now is None or (now.record, now.is_newest) != (batch.record, batch.is_newest):
            raise InputError(f"another run has changed the batch in {batch.folder}; run the same command again")

    def find(self, source: Path, name: str | None) -> StoredBatch | None:
        """The batch that a validation of ``source`` continues; None if it begins a new one.

        Args:
            source: The folder of the photographs, or the photograph.
            name: The name that the user gave. Without one, a batch of the same source is continued: the newest one, or
                else the one that began last.

        Raises:
            InputError: The name cannot be used, or is that of a batch with another source. To continue that one would
                remove its verdicts, whose photographs are not in ``source``.
        """
        text = source_text(source)
        if name is None:
            same = [batch for batch in self._all(source) if batch.record.source == text]
            return max(same, key=lambda batch: (batch.is_newest, batch.record.started), default=None)
        check_batch_name(name)
        batch = self._by_name(name, source)
        if batch is not None and batch.record.source != text:
            raise InputError(
                f"batch {name} ({batch.folder}) has the photographs of {batch.record.source or 'an unknown folder'}, "
                f"not of {text}; choose another name for --batch"
            )
        return batch

    def begin(self, source: Path, name: str | None, types: Collection[str], first: Path) -> BatchRecord:
        """Make the batch of ``source`` the newest one. Another batch moves out, with all files that PIXAL wrote.

        Call it while the component's results are locked.

        Args:
            source: The folder of the photographs, or the photograph.
            name: The name that the user gave; None: a batch of the same source, or a default name.
            types: The types of its photographs.
            first: Its first photograph; its time is in the default name.

        Returns:
            The record of the batch, which is written.

        Raises:
            InputError: See ``find``; or files of the user are where an earlier batch has to go back.
        """
        self._complete()
        claim_outputs(self._paths, _SIDE, [None])
        newest, found = self.newest(source), self.find(source, name)
        if found is not None:
            record = found.record
        else:
            record = BatchRecord(
                name=name or self._default_name(source, first), source=source_text(source), started=_now()
            )
        if found is None or not found.is_newest:
            self._replace(newest, found)
        record = record.with_types({*record.types, *types})
        write_batch_record(self._root, record)
        return record

    def finish_handover(self) -> None:
        """Complete a move of a batch that was interrupted. Raise ``InputError`` while another run works on it."""
        if is_unfinished(self._root):
            with lock_folder(self._root):
                self._complete()

    def _complete(self) -> None:
        if finish(self._root):
            _log.info("completed an interrupted move of a batch in %s", self._root)

    def _replace(self, newest: StoredBatch | None, found: StoredBatch | None) -> None:
        """Move the newest batch out, and the one that was found in its place."""
        moves: list[Move] = []
        if newest is not None:
            claim_outputs(self._paths, _SIDE, [None, *newest.record.types])
            write_batch_record(self._root, newest.record)
            name, moves = self._moves_out(newest)
        if found is not None:
            claim_outputs(found.paths, _SIDE, [None, *found.record.types])
            write_batch_record(found.folder, found.record)  # the user may have renamed its folder
            moves += self._moves(found.record.types, found.paths, self._paths)
        hand_over(self._root, moves)
        if newest is not None:
            _log.info("the earlier batch %s is in %s", name, self._paths.for_batch(name).resolve(_SIDE))

    def _moves_out(self, newest: StoredBatch) -> tuple[str, list[Move]]:
        """The folder in ``batches`` for the newest batch, in which no file is in the way, and what moves there."""
        parent = self._root / BATCHES_FOLDER
        if parent.exists() and not parent.is_dir():
            raise InputError(f"{parent} is a file, but earlier batches are kept in a folder of that name; move it away")
        blocked: list[str] = []
        while True:
            name = free_name(newest.record.name, blocked)
            moves = self._moves(newest.record.types, self._paths, self._paths.for_batch(name))
            is_file = os.path.lexists(parent / name) and not (parent / name).is_dir()
            if not is_file and not any(os.path.lexists(path) for move in moves for path in move.targets):
                return name, moves
            blocked.append(name)

    def _moves(self, types: Collection[str], source: Paths, target: Paths) -> list[Move]:
        folders = (output_folders(paths, _SIDE, [None, *types]) for paths in (source, target))
        stay = [self._root / name for name in HISTORY_FILES]
        return [plan_move(old, new, stay=stay) for old, new in zip(*folders, strict=True)]

    def _all(self, source: Path | None = None) -> list[StoredBatch]:
        newest = self.newest(source)
        return [*([] if newest is None else [newest]), *self.kept()]

    def _by_name(self, name: str, source: Path | None = None) -> StoredBatch | None:
        return next((batch for batch in self._all(source) if batch.record.name == name), None)

    def _default_name(self, source: Path, first: Path) -> str:
        known = [batch.record.name for batch in self._all()]
        return default_name(Path(source_text(source)), time_taken(first), [*known, *self._taken_names()])

    def _taken_names(self) -> list[str]:
        """The names in ``batches``, also of the user's own files."""
        folder = self._root / BATCHES_FOLDER
        return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208

    def _unrecorded(self, source: Path | None) -> BatchRecord | None:
        """The record of results without one, which an earlier version wrote; None if there are no results."""
        journals = [path for path in sorted(self._root.glob(f"*/metadata/{JOURNAL}")) if _is_of_type(path)]
        if not journals:
            return None
        photographs = [Path(verdict.source).resolve() for path in journals for verdict in read_journal(path)]
        folder = Path(os.path.commonpath([path.parent for path in photographs] or [self._root.resolve()]))
        if source is not None and all(path.is_relative_to(source.resolve()) for path in photographs):
            folder = source
        written = datetime.fromtimestamp(max(path.stat().st_mtime for path in journals), timezone.utc)
        taken = time_taken(photographs[0] if photographs else journals[0])
        return BatchRecord(
            name=default_name(folder, taken, self._taken_names()),
            source=source_text(folder),
            started=written.isoformat(timespec="seconds"),
            types=tuple(path.parent.parent.name for path in journals),
        )


def _is_of_type(journal: Path) -> bool:
    return name_problem(journal.parent.parent.name) is None


def _now() -> str:
    """The time with milliseconds, by which batches that began in the same second are told apart."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
