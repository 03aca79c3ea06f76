"""A component of photographs as ``pixal serve`` shows it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

from pixal.config.paths import Paths
from pixal.database.selection import Selection
from pixal.database.store import Store
from pixal.errors import PixalError
from pixal.server.site import PartKey, Picture, PictureKind
from pixal.tasks.photographs.serving.journal_index import JournalIndex
from pixal.tasks.photographs.serving.new_parts import NewParts
from pixal.tasks.photographs.serving.pictures import (
    PictureCache,
    aligned_reference,
    outlines_of_map,
    photograph,
    reduced,
    stored_picture,
)
from pixal.tasks.photographs.serving.reconstructions import Reconstructions
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.history import database_file, reference_of_model, up_to_date
from pixal.tasks.photographs.verdicts.part_files import map_name
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, StoredVerdict

_log = logging.getLogger(__name__)

_MOST_JOURNALS = 8  # in memory: some 3 kB per part
_FRESH = 1.0  # seconds in which the files of the batches are not looked at again


class ServedComponent:
    """See ``pixal.server.site.Component``."""

    def __init__(self, config: PhotographConfig, cache: PictureCache) -> None:
        self._config, self._paths, self._cache = config, config.paths, cache
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._next_look = 0.0
        self._temporary: Path | None = None
        self._journals_lock = threading.Lock()
        self._journals: dict[Path, JournalIndex] = {}
        self._new_parts = NewParts(config, self._index_of)
        self._reconstructions = Reconstructions(config)
        self._state_of = lru_cache(maxsize=4)(partial(reference_of_model, config))

    @property
    def name(self) -> str:
        """The name of the component."""
        return self._paths.component

    @property
    def roots(self) -> Mapping[str, Path]:
        """The folders of the results and of the models."""
        return {
            "results": self._paths.resolve("component_validate_path"),
            "models": self._paths.resolve("component_model_path"),
        }

    @property
    def read_only(self) -> str:
        """Why marks cannot be stored."""
        return "" if self._temporary is None else f"{database_file(self._paths)} cannot be written"

    def store(self) -> Store | None:
        """The database, brought up to date with the files at most once per second."""
        with self._lock:
            if time.monotonic() >= self._next_look:
                if not self.roots["results"].is_dir():
                    return None
                self._store = up_to_date(self._paths, elsewhere=self._elsewhere)
                self._new_parts.add(self._store)
                self._next_look = time.monotonic() + _FRESH
            return self._store

    def picture(self, kind: PictureKind, part: PartKey) -> Picture | None:
        """A picture of a part; None if it is not there, or its photograph is damaged."""
        verdict = self._verdict(part)
        if verdict is None:
            return None
        report = self._of_batch(part).resolve("component_validate_path", part.type) / "report"
        found = stored_picture(verdict, kind, report)
        if found is not None or kind == "tint":
            return found
        try:
            if kind == "full":
                return photograph(verdict.record)
            key = (kind, part, verdict.record.sha256)
            return self._cache.get(key, partial(self._make, kind, part, verdict))
        except PixalError as error:
            _log.warning("%s of %s/%s cannot be shown: %s", kind, part.type, part.image, error)
            return None

    def outlines(self, part: PartKey, threshold: float) -> list[list[tuple[float, float]]]:
        """The outlines on the stored anomaly map; none if maps are not stored."""
        verdict = self._verdict(part)
        if verdict is None or not verdict.record.is_ok:
            return []
        maps = self._of_batch(part).resolve("validate_anomaly_maps_path", part.type)
        # With a numeric loss_cut the score may be the logarithm of the loss, and a map never is.
        level = 10.0**threshold if threshold <= 0 else threshold
        return outlines_of_map(maps / map_name(verdict.record), level)

    def write_history(self) -> Path:
        """Write ``history.html``."""
        from pixal.tasks.photographs.verdicts.history import history

        return history(self._config, by="batch", selection=Selection()).write_page()

    def has_reconstruction(self, part: PartKey) -> bool:
        """Whether the model that scored the part is still in use, and reconstructs parts."""
        return self._reconstructions.are_there(part)

    def _make(self, kind: PictureKind, part: PartKey, verdict: StoredVerdict) -> Picture | None:
        if kind == "reconstruction":
            return self._reconstructions.draw(part, verdict, self._of_batch(part))
        if kind != "reference":
            return reduced(verdict.record, kind)
        state = self._state_of(part.type, part.model_sha256)
        return None if state is None else aligned_reference(state.reference.image, verdict.record)

    def _verdict(self, part: PartKey) -> StoredVerdict | None:
        journal = self._of_batch(part).resolve("validate_metadata_path", part.type) / JOURNAL
        return self._index_of(journal).find(part.image)

    def _index_of(self, journal: Path) -> JournalIndex:
        with self._journals_lock:
            index = self._journals.pop(journal, None) or JournalIndex(journal)
            self._journals[journal] = index
            if len(self._journals) > _MOST_JOURNALS:
                del self._journals[next(iter(self._journals))]
            return index

    def _of_batch(self, part: PartKey) -> Paths:
        """The paths of the results of a batch, whose folder the database has."""
        return self._paths if part.folder == "." else self._paths.for_batch(Path(part.folder).name)

    def _elsewhere(self) -> Store:
        """A database that this process keeps for itself, where the folder of the results cannot be written."""
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="pixal-"))
            weakref.finalize(self, shutil.rmtree, self._temporary, ignore_errors=True)
        return Store(self._temporary / database_file(self._paths).name)
