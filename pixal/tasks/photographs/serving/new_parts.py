"""Show verdicts of a running ``validate --watch`` at once: it stores each one, and writes its results less often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pixal.database.part_list import verdicts_of
from pixal.database.recording import PhotographFacts, add_parts
from pixal.database.schema import BATCHES
from pixal.database.store import Store
from pixal.tasks.photographs.serving.journal_index import JournalIndex
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.batch_record import read_batch_record
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, StoredVerdict

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping


class NewParts:
    """Adds the verdicts of the newest batch that are newer than its results to the database."""

    def __init__(self, config: PhotographConfig, index_of: Callable[[Path], JournalIndex]) -> None:
        """``index_of`` gives the index of a journal."""
        self._paths, self._pattern, self._index_of = config.paths, config.validation.part_pattern, index_of
        self._seen: dict[Path, tuple[int, int]] = {}  # times of a journal and of the results, when it was read last

    def add(self, store: Store) -> None:
        """Add what is new. It costs little if nothing is."""
        record = read_batch_record(self._paths.resolve("component_validate_path"))
        if record is None:
            return
        with store.reading() as connection:
            origin = (BATCHES.c.source == record.source, BATCHES.c.started == record.started)
            batch = connection.execute(BATCHES.select().where(*origin)).mappings().first()
            new = [] if batch is None else self._find(connection, batch, record.types)
        if batch is not None and new:
            with store.writing() as connection:
                add_parts(connection, batch, [(verdict.part, _facts(verdict)) for verdict in new], self._pattern)

    def _find(self, connection: Connection, batch: RowMapping, types: tuple[str, ...]) -> list[StoredVerdict]:
        new: list[StoredVerdict] = []
        for name in types:
            path = self._paths.resolve("validate_metadata_path", name) / JOURNAL
            journal = self._index_of(path)
            times = (journal.modified, batch["results_modified"])
            if times[0] <= times[1] or times == self._seen.get(path):
                continue
            known = verdicts_of(connection, batch["id"])
            for image, stored in journal.verdicts().items():
                if known.get((name, image)) != stored:
                    verdict = journal.find(image)
                    new += [] if verdict is None else [verdict]
            self._seen[path] = times
        return new


def _facts(verdict: StoredVerdict) -> PhotographFacts:
    modified = None if verdict.stat is None else verdict.stat[1]
    return PhotographFacts(verdict.source, verdict.record.sha256, modified)
