"""The history of a component: which files the database is made from, and when it is written."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixal.config.paths import INSPECTIONS_FOLDER, Paths
from pixal.errors import InputError, PixalError, StorageError
from pixal.io.files import file_stat
from pixal.io.locking import lock_folder
from pixal.io.output_folders import claim_outputs
from pixal.io.records import RECORD_HASH, read_record
from pixal.report.document import read_results
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import state_file
from pixal.tasks.photographs.verdicts.batches import HISTORY_DATABASE, Batches, StoredBatch
from pixal.train_model.stored_model import MODEL_RECORD

if TYPE_CHECKING:
    from pixal.database.history import History
    from pixal.database.rates import Grouping
    from pixal.database.recording import BatchContent, BatchFiles
    from pixal.database.selection import Selection
    from pixal.database.store import Store

_log = logging.getLogger(__name__)


def database_file(paths: Paths) -> Path:
    """The database of a component."""
    return paths.resolve("component_validate_path") / HISTORY_DATABASE


def record_history(paths: Paths) -> None:
    """Write batches that have changed into the database.

    Verdicts never depend on it: a problem is a warning, and the next run or ``pixal history`` adds what is missing.
    """
    try:
        from pixal.database.store import Store

        _record(Store(database_file(paths)), paths)
    except (PixalError, OSError) as error:
        _log.warning("the verdicts are complete, but not in the history yet: %s", error)


def record_inspection(paths: Paths, folder: Path) -> None:
    """Write an inspection into the database, with all batches and inspections that have changed.

    Args:
        paths: The folders of the component. That of the results is created if it does not exist.
        folder: The folder of the inspection.
    """
    try:
        from pixal.database.store import Store

        claim_outputs(paths, "component_validate_path", [None])
        _record(Store(database_file(paths)), paths, inspections=[str(folder.absolute())])
    except (PixalError, OSError) as error:
        _log.warning("the inspection is complete, but not in the history yet: %s", error)


def history(
    config: PhotographConfig,
    *,
    by: Grouping,
    selection: Selection,
    marks: str | Path | None = None,
    rebuild: bool = False,
) -> History:
    """See ``pixal.history``."""
    from pixal.database.history import History

    paths = config.paths
    folder = paths.resolve("component_validate_path")
    store = open_history(paths, marks, rebuild=rebuild)
    return History.read(store, paths.component, folder, by, selection, partial(_model_input, config))


def open_history(paths: Paths, marks: str | Path | None = None, *, rebuild: bool = False) -> Store:
    """The database with all batches.

    Args:
        paths: The folders of the component.
        marks: A table of marks to be stored first.
        rebuild: Make it again from the files of the batches.

    Raises:
        InputError: There are no verdicts, or the database or the table is damaged.
    """
    folder = paths.resolve("component_validate_path")
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist, because there are no verdicts yet; run validate first")
    store = up_to_date(paths, rebuild=rebuild)
    if marks is not None:
        _import_marks(store, Path(marks))
    return store


def up_to_date(paths: Paths, *, rebuild: bool = False, elsewhere: Callable[[], Store] | None = None) -> Store:
    """The database with all batches.

    Args:
        paths: The folders of the component; that of its results exists.
        rebuild: Whether to make it again.
        elsewhere: Gives a database to use where that of the component cannot be written. Default: one in memory.

    Raises:
        InputError: It is damaged, or another run is writing while it should be rebuilt.
    """
    from pixal.database.store import DamagedError, Store, set_aside

    path = database_file(paths)
    try:
        if not rebuild:
            return _record(Store(path), paths)
        with lock_folder(path.parent):
            claim_outputs(paths, "component_validate_path", [None])
            try:
                return _record(Store(path), paths, rebuild=True)
            except DamagedError:
                _log.warning("%s is damaged; it is kept as %s", path, set_aside(path))
                return _record(Store(path), paths, rebuild=True)
    except StorageError as error:
        if elsewhere is None:
            _log.warning("%s; the history is read from the files of the batches instead", error)
        return _record(Store(None) if elsewhere is None else elsewhere(), paths)


def _import_marks(store: Store, path: Path) -> None:
    from pixal.database.mark_table import import_marks

    if store.path is None:
        raise InputError(f"the marks of {path} cannot be stored; see the warning above")
    with store.writing() as connection:
        found = import_marks(connection, path)
    _log.info("%s: %d marks stored, %d known before", path, found.stored, found.known)
    if found.unknown:
        _log.warning(
            "%s: %d marks belong to no verdict of the history, for example %s; they are left out",
            path,
            len(found.unknown),
            found.unknown[0],
        )


def reference_of_model(config: PhotographConfig, type_name: str, model_sha256: str) -> PreprocessingState | None:
    """The preprocessing of a type, with its reference photograph; None if the model is not stored any more."""
    owner = None if config.model_training.one_hot_encoding else type_name
    try:
        record = read_record(config.paths.resolve("metadata_path", owner) / MODEL_RECORD)
        if not model_sha256 or record.get(RECORD_HASH) != model_sha256:
            return None
        return PreprocessingState.load(state_file(config.paths.resolve("model_path", owner), type_name))
    except PixalError:
        return None


def _model_input(config: PhotographConfig, type_name: str, model_sha256: str) -> NDArray[np.uint8] | None:
    """The part of the reference photograph that is the input of a model; None as for ``reference_of_model``."""
    state = reference_of_model(config, type_name, model_sha256)
    return None if state is None else state.reference.image[state.box.window]


def _record(store: Store, paths: Paths, *, rebuild: bool = False, inspections: Sequence[str] = ()) -> Store:
    """Write batches and inspections that have changed; with ``rebuild``, all. ``inspections``: folders that are new."""
    from pixal.database.inspections import inspection_folders, record_inspections
    from pixal.database.recording import forget_batches, record_batches

    with store.writing() as connection:
        known = {*inspection_folders(connection), *inspections}
        if rebuild:
            forget_batches(connection)
        record_batches(connection, batch_files(paths))
        if known or Path(INSPECTIONS_FOLDER).is_dir():
            from pixal.tasks.photographs.inspection.stored import stored_inspections

            record_inspections(connection, stored_inspections(paths.component, known))
    return store


def batch_files(paths: Paths) -> Iterator[BatchFiles]:
    """The files of each batch that has results, the earliest batch first."""
    batches = Batches(paths)
    newest = batches.newest()
    stored = [*batches.kept(), *([] if newest is None else [newest])]
    for batch in sorted(stored, key=lambda batch: batch.record.started):
        files = _files_of(batch, database_file(paths).parent)
        if files is not None:
            yield files


def _files_of(batch: StoredBatch, root: Path) -> BatchFiles | None:
    from pixal.database.recording import BatchFiles

    path = batch.folder / "results.json"
    if not path.is_file():  # its run has not ended, or was stopped
        return None
    size, modified, _ = file_stat(path)
    folder = Path(os.path.relpath(batch.folder, root)).as_posix() if batch.folder.is_relative_to(root) else None
    return BatchFiles(
        origin=batch.record.origin,
        folder=folder or str(batch.folder.absolute()),
        size=size,
        modified=modified,
        read=lambda: _read(batch, path),
    )


def _read(batch: StoredBatch, path: Path) -> BatchContent:
    from pixal.database.recording import BatchContent, PhotographFacts

    facts = {
        (name, verdict.record.image): PhotographFacts(
            path=verdict.source,
            sha256=verdict.record.sha256,
            modified=None if verdict.stat is None else verdict.stat[1],
        )
        for name, verdict in batch.verdicts()
    }
    return BatchContent(read_results(path), facts)
