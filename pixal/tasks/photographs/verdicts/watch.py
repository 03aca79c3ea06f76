"""Watch a folder: validate each new photograph, and keep the results up to date."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixal.errors import InputError
from pixal.io.files import FileStat, file_stat
from pixal.io.names import comparable
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.notifications.notifier import Notifier, notifying
from pixal.tasks.photographs.discovery import EXTENSIONS, Photograph, list_photographs
from pixal.tasks.photographs.parts import PreparedPart
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.adaptation import RateAdapter
from pixal.tasks.photographs.verdicts.batch_record import BatchRecord, name_problem, source_text
from pixal.tasks.photographs.verdicts.batches import Batches
from pixal.tasks.photographs.verdicts.group_work import on_this_computer
from pixal.tasks.photographs.verdicts.history import record_history
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.reporting import (
    WrittenBatch,
    exclusive_run,
    log_outcome,
    remove_old_results,
    track_batch,
    write_results,
)
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.validate_type import TypeValidation
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict

_log = logging.getLogger(__name__)

PATIENCE = 30.0  # seconds after which an unchanged file that cannot be read is an error
_TABLE_INTERVAL, _FIGURE_INTERVAL = 5.0, 60.0  # least seconds between two updates of tables and report, of figures
_LONGEST_SHARE = 10  # an interval is at least this many times the duration of the last update


def watch(
    input_path: str | Path | None = None,
    *,
    batch: str | None = None,
    model: str | None = None,
    config: PhotographConfig,
    force: bool = False,
    pause: Callable[[float], None] = time.sleep,
) -> Batch:
    """See ``pixal.watch``. ``pause`` waits between two scans of the folder."""
    batches = Batches(config.paths)
    folder = batches.source(input_path, batch)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; --watch needs one")
    check_outputs(config.paths, "component_validate_path", [None], source=folder)
    batches.find(folder, batch)  # a name that cannot be used is reported before the watch starts
    if config.execution.backend == "dask":
        _log.info("--watch judges each part on this computer as it arrives, not on the Dask cluster")
        config = on_this_computer(config)
    watcher = _Watcher(folder, config, model, batch)
    results = config.paths.resolve("component_validate_path")
    with exclusive_run(config) as tracker, notifying(results, config.validation.notify) as watcher.notifier:
        try:
            watcher.resume(force)
            while True:
                watcher.scan()
                pause(config.validation.watch_interval)
        except KeyboardInterrupt:
            _log.info("stopped watching; writing the results")
        written = watcher.finish()
        if written.batch.parts:
            track_batch(tracker, [validation.verdicts for validation in watcher.types.values()], written, config)
    log_outcome(written.batch)
    return written.batch


@dataclass
class _PendingFile:
    """A file without a verdict.

    Attributes:
        stat: Its ``file_stat``; None for a link to nothing.
        unchanged_scans: The number of scans since that changed.
    """

    stat: FileStat | None
    unchanged_scans: int = 0


class _PeriodicUpdate:
    """An update that takes long, and is therefore not repeated too often.

    Attributes:
        is_needed: Whether something has changed since the last update.
    """

    def __init__(self, interval: float, first: float = 0.0) -> None:
        """``first``: seconds until the first update may be made."""
        self._interval, self._next = interval, time.monotonic() + first
        self.is_needed = False

    def run(self, update: Callable[[], object], *, at_once: bool = False) -> None:
        """Call ``update`` if it is needed, and the interval has passed or it is asked for at once."""
        if self.is_needed and (at_once or time.monotonic() >= self._next):
            start = time.monotonic()
            update()
            end = time.monotonic()
            self._next = end + max(self._interval, _LONGEST_SHARE * (end - start))
            self.is_needed = False


class _Watcher:
    """The watched folder and the verdicts on its photographs.

    Attributes:
        folder: The folder.
        types: The validation of each type that has photographs.
        batch: The record of the batch; None until the first photograph is complete.
        notifier: Tells about verdicts; None if nobody is to be told.
    """

    def __init__(self, folder: Path, config: PhotographConfig, model: str | None, name: str | None) -> None:
        self.folder, self._config, self._models = folder, config, Models(config, model)
        self._batches, self._name = Batches(config.paths), name
        self._rates = RateAdapter(config, source_text(folder))
        self.batch: BatchRecord | None = None
        self.notifier: Notifier | None = None
        self.types: dict[str, TypeValidation] = {}
        self._pending: dict[Path, _PendingFile] = {}
        self._warnings: set[str] = set()
        self._is_validating = False  # still true in ``finish`` if a scan was interrupted, with some verdicts stored
        self._tables = _PeriodicUpdate(_TABLE_INTERVAL)
        self._figures = _PeriodicUpdate(
            _FIGURE_INTERVAL, first=_FIGURE_INTERVAL
        )  # the first parts do not wait for them

    def resume(self, force: bool) -> None:
        """Load the valid verdicts of an earlier watch of this folder, and write their results.

        Without an earlier watch, the batch begins with its first photograph. The batch before is shown until then.
        """
        self._models.check_any()
        found = self._batches.find(self.folder, self._name)
        if found is not None:
            batch = self._batches.begin(self.folder, self._name, (), self.folder)
            names = [] if force else [name for name in batch.types if self._models.has_model(name)]
            claim_outputs(self._config.paths, "component_validate_path", [None, *names])
            remove_unfinished(self._config.paths, "component_validate_path", [None, *names])
            self.batch = remove_old_results(self._config, batch, keep=set(names))
            listed = self._list()
            mixed = [photo for photos in listed.values() for photo in photos] if self._models.is_mixed(listed) else []
            for name in names:
                self._open_type(name, mixed or listed.get(name, []), self.folder)
        count = sum(len(validation.store.verdicts) for validation in self.types.values())
        _log.info(
            "watching %s, stop with Ctrl-C; %d part%s already done", self.folder, count, "" if count == 1 else "s"
        )
        self._update(changed=count > 0)

    def scan(self) -> None:
        """Scan the folder once: validate the files that are complete, and update the results."""
        listed = self._list()
        pending: dict[Path, _PendingFile] = {}
        ready = {name: [photo for photo in photos if self._is_ready(photo, pending)] for name, photos in listed.items()}
        self._pending = pending
        if self._models.is_mixed(listed):
            ready = self._models.choose_types(next(iter(ready.values())), quiet=True)
        changed = False
        self._is_validating = True
        for name, photographs in ready.items():
            if not photographs or not self._can_validate(name):
                continue
            if name not in self.types:
                self._open_type(name, [], photographs[0].path)
            for verdict in self.types[name].validate(photographs, self._is_deferred):
                changed = True
                self._pending.pop(Path(verdict.record.source), None)
                self._discard_replaced(name, verdict)
                _log.info("%s", _describe(verdict))
                if len(self.types[name].store.verdicts) == 1:  # pages then show the further ones as they are stored
                    self._tables.is_needed = True
                    self._tables.run(self._write_tables, at_once=True)
                if self.notifier is not None and self.batch is not None:
                    component, origin = self._config.paths.component, self.types[name].verdicts.origin
                    self.notifier.verdict(verdict.part, component, self.batch.origin, origin)
        self._is_validating = False
        self._update(changed)

    def finish(self) -> WrittenBatch:
        """Write everything that a complete batch has. Photographs without a verdict are named in a warning."""
        if self._pending:
            first, count = next(iter(self._pending)), len(self._pending)
            _log.warning("%d photograph%s without a verdict, for example %s", count, "" if count == 1 else "s", first)
        types = self._types_with_verdicts()
        if self.batch is None or not types:
            return WrittenBatch(Batch(self._config.paths.resolve("component_validate_path")))
        for validation in types:
            validation.update_summary()
            validation.finish(self.batch.origin)
            if self._figures.is_needed or self._is_validating:
                validation.draw_figures()
        written = write_results([validation.verdicts for validation in types], self.batch, self._config)
        record_history(self._config.paths)
        return written

    def _list(self) -> dict[str, list[Photograph]]:
        """The photographs in the folder, by type. A problem with the folder is logged once."""
        try:
            return list_photographs(self.folder, test=True)
        except (InputError, OSError) as error:  # for example because a network drive is not connected
            if not self.folder.is_dir() or any(path.suffix.lower() in EXTENSIONS for path in self.folder.rglob("*")):
                self._warn_once(f"{error}; waiting until this changes")
            return {}

    def _is_ready(self, photo: Photograph, pending: dict[Path, _PendingFile]) -> bool:
        """Whether a photograph has no verdict, and its file has not changed since the last scan."""
        stat = None
        try:
            stat = file_stat(photo.path)
        except InputError:
            if not os.path.lexists(photo.path):  # removed since it was listed
                return False
        if any(validation.has_verdict(photo, stat) for validation in self.types.values()):
            return False
        before = self._pending.get(photo.path)
        is_unchanged = before is not None and before.stat == stat
        scans = before.unchanged_scans + 1 if before is not None and is_unchanged else 0
        pending[photo.path] = _PendingFile(stat, scans)
        return is_unchanged

    def _is_deferred(self, photo: Photograph, part: PreparedPart) -> bool:
        """Whether a photograph has to wait: it changed while it was read, or it may still be incomplete."""
        file = self._pending[photo.path]
        if part.record.stat != file.stat:
            return True
        return not part.is_readable and file.unchanged_scans * self._config.validation.watch_interval < PATIENCE

    def _open_type(self, name: str, photographs: list[Photograph], first: Path) -> None:
        """Begin to validate photographs of a type; with the first type, the batch begins.

        Args:
            name: The type.
            photographs: Photographs whose stored verdicts are looked for.
            first: The first photograph of the batch, if it is new.
        """
        self.batch = self._batches.begin(self.folder, self._name, {name}, first)
        claim_outputs(self._config.paths, "component_validate_path", [None, name])
        model = self._models.load(name)
        adaptation = self._rates.adapt(name, model)
        validation = TypeValidation(TypeVerdicts(name, model, None, self._config, adaptation))
        validation.resume(photographs, keep_deleted_in=self.folder)
        self.types[name] = validation

    def _discard_replaced(self, name: str, new: StoredVerdict) -> None:
        """Remove verdicts that a new one replaces: on the same photograph with another type, or with the same name."""
        for validation in self.types.values():
            for source, verdict in list(validation.store.verdicts.items()):
                is_same = source == new.source if validation.name != name else _have_same_name(verdict, new)
                if is_same and verdict is not new:
                    validation.discard(source)

    def _types_with_verdicts(self) -> list[TypeValidation]:
        types = [validation for _, validation in sorted(self.types.items()) if validation.store.verdicts]
        for validation in types:
            validation.update_batch()
        return types

    def _update(self, changed: bool) -> None:
        """Write tables, report and figures if something has changed and it is time to do so."""
        self._tables.is_needed |= changed
        self._figures.is_needed |= changed
        self._tables.run(self._write_tables)
        self._figures.run(self._draw_figures)

    def _write_tables(self) -> None:
        types = self._types_with_verdicts()
        for validation in types:
            validation.write_alignment_table()
        if types and self.batch is not None:
            write_results([validation.verdicts for validation in types], self.batch, self._config, log_notes=False)
            record_history(self._config.paths)

    def _draw_figures(self) -> None:
        for validation in self._types_with_verdicts():
            validation.update_summary()
            validation.draw_figures()

    def _can_validate(self, name: str) -> bool:
        problem = name_problem(name)
        if problem is None and not self._models.has_model(name):
            problem = f"type {name} was never trained; its photographs wait until it is trained"
        if problem is not None:
            self._warn_once(problem)
        return problem is None

    def _warn_once(self, text: str) -> None:
        if text not in self._warnings:
            _log.warning("%s", text)
        self._warnings.add(text)


def _have_same_name(verdict: StoredVerdict, other: StoredVerdict) -> bool:
    first, second = verdict.record, other.record
    return first.image == second.image or comparable(first.name) == comparable(second.name)


def _describe(verdict: StoredVerdict) -> str:
    """A verdict in one line."""
    part = verdict.part
    start = f"{part.verdict:<5}  {part.type}/{part.image}"
    if part.score is None or part.threshold is None:
        return f"{start}  {part.reason}"
    text = f"{start}  score {part.score:.3g}, threshold {part.threshold:.3g}"
    if part.regions:
        worst, count = part.regions[0], len(part.regions)
        box = f"x {worst.x}, y {worst.y}, {worst.width}x{worst.height} pixels"
        text += f"; {count} region{'' if count == 1 else 's'}, the worst at {box}"
    return text
