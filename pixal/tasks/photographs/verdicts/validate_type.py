"""Validate the photographs of one type, and skip those that have a valid stored verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.config.paths import BATCHES_FOLDER
from pixal.errors import InputError
from pixal.execution import map_parallel, worker_count
from pixal.io import ownership
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.files import FileStat, data_hash, file_stat
from pixal.io.logs import log_to_file
from pixal.io.names import comparable
from pixal.report.document import BatchOrigin
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.parts import PhotographRecord, PreparedPart
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts import part_files
from pixal.tasks.photographs.verdicts.batch_record import BATCH_RECORD
from pixal.tasks.photographs.verdicts.group_work import GROUP, GroupWork
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, StoredVerdict, VerdictStore
from pixal.validation.scoring import Summary

_log = logging.getLogger(__name__)

PARTS_PER_WORKER = 4  # in a chunk at most; a run that is killed loses the verdicts of its chunk
_CHUNK_BYTES = 256_000_000  # decoded photographs in a chunk; two chunks are in memory at a time
_SUMS_FILE = "sums.npz"

IsDeferred = Callable[[Photograph, PreparedPart], bool]
"""Whether the validation of a photograph has to wait, for example because its file is not complete."""


class TypeValidation:
    """Validates the photographs of one type, and stores each verdict as soon as it is complete.

    Attributes:
        name: The type.
        verdicts: Scores the parts, and holds the results of the batch.
        store: The stored verdicts.
        key: Fingerprint of everything that a verdict depends on, except the photograph.
    """

    def __init__(self, verdicts: TypeVerdicts) -> None:
        """Raise ModelError if the background model used at training is not available."""
        self.verdicts, self.name, self._config = verdicts, verdicts.name, verdicts.config
        name, config = self.name, self._config
        self._preparation = Preparation(name, verdicts.model, config, keep_photos=True)
        self.key = self.verdicts.key(self._preparation.key)
        self._folder = config.paths.resolve("component_validate_path", name)
        self._metadata = config.paths.resolve("validate_metadata_path", name)
        self._counted: set[str] = set()  # the parts in the summary
        self._batch: list[StoredVerdict] = []
        self._is_stopped = False

    def resume(
        self, photographs: list[Photograph], *, force: bool = False, keep_deleted_in: Path | None = None
    ) -> None:
        """Keep the valid verdicts of an earlier run, and delete everything else that it wrote.

        A verdict is valid while the photograph, its names, the model and the settings are the same.

        Args:
            photographs: The photographs of the type.
            force: Keep nothing.
            keep_deleted_in: Keep verdicts of deleted photographs that were inside this folder.
        """
        self.store = self._open_store()
        by_source = {_source(photo): photo for photo in photographs}
        names = {photo.image for photo in photographs} | {comparable(photo.name) for photo in photographs}
        valid = {}
        for source, stored in self.store.verdicts.items():
            photo, verdict = by_source.get(source), stored
            if photo is not None:
                current = _up_to_date(stored, photo)
                is_valid = current is not None
                verdict = current or stored
            else:
                is_name_free = not {stored.record.image, comparable(stored.record.name)} & names
                is_deleted = keep_deleted_in is not None and Path(source).is_relative_to(keep_deleted_in.absolute())
                is_valid = is_deleted and is_name_free
            if is_valid and not force and (complete := self._with_files(verdict)) is not None:
                valid[source] = complete
        ownership.remove(self._metadata / PREPROCESSING_RECORD)  # it says that the batch is complete
        self._keep(valid)

    def has_verdict(self, photo: Photograph, stat: FileStat | None) -> bool:
        """Whether a photograph has a stored verdict that is valid. ``stat``: of its file now; None if not known."""
        stored = self.store.verdicts.get(_source(photo))
        if stored is None:
            return False
        if stored.stat == stat:
            return _has_names_of(stored, photo)
        current = _up_to_date(stored, photo)
        # The file may have had another content in between, for which figures were drawn.
        complete = None if current is None else self._with_files(current)
        if complete is not None:
            self.store.verdicts[complete.source] = complete  # with the new times: the bytes are not compared again
        return complete is not None

    def without_verdict(self, photographs: list[Photograph]) -> list[Photograph]:
        """The photographs that have no stored verdict."""
        return [photo for photo in photographs if _source(photo) not in self.store.verdicts]

    def validate(self, photographs: list[Photograph], is_deferred: IsDeferred | None = None) -> Iterator[StoredVerdict]:
        """Validate photographs chunk by chunk; yield each verdict when all its files are on disk.

        Args:
            photographs: The photographs, in the order of the verdicts.
            is_deferred: Photographs for which this is True are skipped.
        """
        if not photographs:
            return
        if self._config.execution.backend == "dask" and is_deferred is None:
            yield from self._validate_in_cluster(photographs)
            return
        size = worker_count(self._config.execution)  # of the first chunk, as the photographs' size is not known yet
        log = log_to_file(self._config.paths.resolve("validate_log_path", self.name), "validate")
        with log, self.store, ThreadPoolExecutor(1) as background, self._stopping_preparation():
            start, chunk = size, photographs[:size]
            future = background.submit(self._prepare, chunk)
            _ = self.verdicts.family  # load the model while the first chunk is prepared
            while chunk:
                parts = future.result()
                size = self._chunk_size(parts)
                following = photographs[start : start + size]
                start += size
                if following:
                    future = background.submit(self._prepare, following)
                if is_deferred is not None:
                    pairs = zip(chunk, parts, strict=True)
                    parts = [part for photo, part in pairs if not is_deferred(photo, part)]
                yield from self._validate_chunk(parts)
                chunk = following

    def _validate_in_cluster(self, photographs: list[Photograph]) -> Iterator[StoredVerdict]:
        """Validate photographs where workers of a cluster prepare, score and draw them."""
        work = GroupWork(self._preparation, self.verdicts, self.key)
        groups = [photographs[start : start + GROUP] for start in range(0, len(photographs), GROUP)]
        results = map_parallel(work, groups, self._config.execution, step=self.name, quiet=True)
        with log_to_file(self._config.paths.resolve("validate_log_path", self.name), "validate"), self.store:
            for group, found in zip(groups, results, strict=True):
                for verdict in found.verdicts:
                    for note in verdict.record.notes:
                        _log.warning("%s/%s: %s", self.name, verdict.record.image, note)
                self.verdicts.counts = self.verdicts.counts + found.counts
                yield from self._store(
                    [_source(photo) for photo in group], zip(found.verdicts, found.inputs, strict=True), found.summary
                )

    def discard(self, source: str) -> None:
        """Remove the verdict of a photograph that now has another type or name."""
        if (removed := self.store.verdicts.get(source)) is not None:
            self._subtract([removed])
            del self.store.verdicts[source]
            self.store.rewrite_journal()

    def update_batch(self) -> None:
        """Make the stored verdicts the batch that the results show, in the order of their photographs."""
        self._batch = sorted(self.store.verdicts.values(), key=lambda verdict: Path(verdict.source))
        self.verdicts.set_batch(self._batch)

    def write_alignment_table(self) -> None:
        """Write the table of alignments of the batch."""
        self._preparation.write_table([verdict.record for verdict in self._batch])

    def update_summary(self) -> None:
        """Update the sums to the batch: add the parts that are missing. Recompute them if other parts are in them."""
        usable = [verdict for verdict in self._batch if verdict.record.is_ok]
        if self._counted - {_identity(verdict.record) for verdict in usable}:
            self._reset_summary()
        missing = [verdict for verdict in usable if _identity(verdict.record) not in self._counted]
        self._add(self._summarize(missing), missing)
        self._save_summary()

    def draw_figures(self) -> None:
        """Draw the figures of the batch. Call ``update_summary`` before."""
        self._preparation.draw_metrics([verdict.record for verdict in self._batch])
        self.verdicts.draw_figures()

    def finish(self, batch: BatchOrigin) -> None:
        """Write what a complete batch has: the table of alignments, ``out.npz`` and the record."""
        self.write_alignment_table()
        self.store.write_inputs([verdict for verdict in self._batch if verdict.record.is_ok])
        self._preparation.write_record([verdict.record for verdict in self._batch], batch)

    def _open_store(self) -> VerdictStore:
        return VerdictStore(
            self._metadata,
            self._folder / self._config.preprocessing.preprocessor.file_name,
            shape=self.verdicts.shape,
            channels=self.verdicts.channels,
            type_name=self.name,
            types=self.verdicts.types,
        )

    def _keep(self, valid: dict[str, StoredVerdict]) -> None:
        """Remove all verdicts but the ``valid`` ones, and their files."""
        if not valid:
            if self._folder.is_dir():
                # In some layouts it is the folder of the component, too.
                ownership.remove_tree(self._folder, keep={self._folder / BATCH_RECORD, self._folder / BATCHES_FOLDER})
                ownership.claim(self._folder)
                self.store = self._open_store()
            return
        self._load_summary()
        self._subtract([verdict for source, verdict in self.store.verdicts.items() if source not in valid])
        self.store.verdicts = valid
        self.store.rewrite_journal()
        folders = self.verdicts.folders
        maps = self._config.paths.resolve("validate_anomaly_maps_path", self.name)
        part_files.remove_other_files(valid.values(), figures=folders.figures, maps=maps, report=folders.report)
        self._preparation.remove_other_figures({verdict.record.name for verdict in valid.values()})
        self.verdicts.count_stored_maps([verdict.record for verdict in valid.values()])

    def _with_files(self, verdict: StoredVerdict) -> StoredVerdict | None:
        """Return a verdict that still holds, with today's times of its files; None if settings or files changed."""
        folders = self.verdicts.folders
        has_maps = self.verdicts.truth is None or folders.maps is not None  # pixels are counted from maps
        if verdict.key != self.key or not has_maps:
            return None
        files = part_files.unchanged_part_files(verdict, folders)
        figures = self._preparation.unchanged_figures(verdict.record)
        if files is None or figures is None:
            return None
        record = verdict.record.model_copy(update={"figures": figures})
        return verdict.model_copy(update={"files": files, "record": record})

    @contextmanager
    def _stopping_preparation(self) -> Iterator[None]:
        """Let ``_prepare`` end early in its thread when the block ends by an exception."""
        self._is_stopped = False
        try:
            yield
        except BaseException:
            self._is_stopped = True
            raise

    def _prepare(self, photographs: list[Photograph]) -> list[PreparedPart]:
        parts = []
        for part in self._preparation(photographs):
            if self._is_stopped:
                break
            parts.append(part)
        return parts

    def _chunk_size(self, parts: Sequence[PreparedPart]) -> int:
        """The size of the next chunk, for photographs as large as those of ``parts``."""
        workers = worker_count(self._config.execution)
        largest = max((3 * part.record.size[0] * part.record.size[1] for part in parts), default=0)
        return int(np.clip(_CHUNK_BYTES // max(largest, 1), workers, PARTS_PER_WORKER * workers))

    def _validate_chunk(self, parts: list[PreparedPart]) -> Iterator[StoredVerdict]:
        summary = self.verdicts.new_summary()
        verdicts = self.verdicts.validate_parts(parts, self.key, summary)
        pairs = ((verdict, part.input) for part, verdict in zip(parts, verdicts, strict=True))
        yield from self._store([str(Path(part.record.source).absolute()) for part in parts], pairs, summary)

    def _store(
        self,
        sources: Sequence[str],
        verdicts: Iterable[tuple[StoredVerdict, NDArray[np.float32] | None]],
        summary: Summary,
    ) -> Iterator[StoredVerdict]:
        """Store new verdicts with their inputs, in place of earlier ones on the same photographs; yield each.

        Args:
            sources: The absolute paths of the photographs.
            verdicts: The verdicts and the inputs of the parts. ``summary`` is complete when all were taken.
            summary: The sums over the parts.
        """
        replaced = [self.store.verdicts.get(source) for source in sources]
        self._subtract([verdict for verdict in replaced if verdict is not None])
        added = []
        for verdict, image in verdicts:
            added.append(self.store.add(verdict, image if verdict.record.is_ok else None))
            yield added[-1]
        self._add(summary, [verdict for verdict in added if verdict.record.is_ok])

    def _load_summary(self) -> None:
        """Load the sums over the parts with a stored verdict. Without them, all parts are added again."""
        self._reset_summary()
        try:
            file = load_arrays(self._metadata / _SUMS_FILE)
            if str(file["key"]) == self.key:
                self.verdicts.summary.load_arrays(file)
                self._counted = {str(identity) for identity in file["counted"]}
        except (FileNotFoundError, ValueError, KeyError):
            self._reset_summary()
        if self._counted - {_identity(verdict.record) for verdict in self.store.verdicts.values()}:
            self._reset_summary()  # a part whose input is damaged cannot be subtracted

    def _save_summary(self) -> None:
        counted = np.array(sorted(self._counted), str)
        sums = self.verdicts.summary.as_arrays()
        save_arrays(self._metadata / _SUMS_FILE, key=np.array(self.key), counted=counted, **sums)

    def _reset_summary(self) -> None:
        self._counted, self.verdicts.summary = set(), self.verdicts.new_summary()

    def _add(self, summary: Summary, verdicts: Sequence[StoredVerdict]) -> None:
        self.verdicts.summary.merge(summary)
        self._counted |= {_identity(verdict.record) for verdict in verdicts}

    def _subtract(self, verdicts: Sequence[StoredVerdict]) -> None:
        """Take parts out of the sums before their inputs are removed."""
        counted = [verdict for verdict in verdicts if _identity(verdict.record) in self._counted]
        if not counted:
            return
        if 2 * len(counted) > len(self._counted):  # adding the others again takes less time
            self._reset_summary()
        else:
            self.verdicts.summary.subtract(self._summarize(counted))
            self._counted -= {_identity(verdict.record) for verdict in counted}
        self._save_summary()

    def _summarize(self, verdicts: Sequence[StoredVerdict]) -> Summary:
        """The sums over parts whose inputs are stored."""
        summary = self.verdicts.new_summary()
        for start in range(0, len(verdicts), PARTS_PER_WORKER):
            chunk = verdicts[start : start + PARTS_PER_WORKER]
            parts = [PreparedPart(verdict.record, self.store.read_input(verdict)) for verdict in chunk]
            self.verdicts.score(parts, summary)
        return summary


def planned_files(name: str, photographs: Sequence[Photograph], config: PhotographConfig) -> list[Path]:
    """The files that the validation of a type is going to write, except its figures."""
    paths = config.paths
    metadata, metrics = (
        paths.resolve(entry, name) for entry in ("validate_metadata_path", "validate_aligned_metrics_path")
    )
    figures, maps = (paths.resolve(entry, name) for entry in ("validate_figures_path", "validate_anomaly_maps_path"))
    return [
        *(metadata / file for file in (PREPROCESSING_RECORD, JOURNAL, _SUMS_FILE)),
        *(figures / f"{part_files.OVERLAY_PREFIX}{photo.name}.png" for photo in photographs),
        *(maps / f"{photo.name}.tiff" for photo in photographs),
        metrics / "results.csv",
        paths.resolve("validate_log_path", name) / "validate.log",
        paths.resolve("component_validate_path", name) / config.preprocessing.preprocessor.file_name,
    ]


def _source(photo: Photograph) -> str:
    return str(Path(photo.source).absolute())


def _identity(record: PhotographRecord) -> str:
    """The file that a verdict is about, and the hash of its content."""
    return f"{record.sha256} {record.source}"


def _has_names_of(verdict: StoredVerdict, photo: Photograph) -> bool:
    """Whether a photograph still has its names; other photographs in the folder can change them."""
    return (verdict.record.image, verdict.record.name) == (photo.image, photo.name)


def _up_to_date(verdict: StoredVerdict, photo: Photograph) -> StoredVerdict | None:
    """Return the verdict if it is still valid for this photograph; None if the file or its names have changed.

    A file has not changed if its size and times are the same. If only a time differs (it was copied or touched), the
    bytes are compared, and the verdict is returned with the current times.
    """
    if not _has_names_of(verdict, photo):
        return None
    try:
        stat = file_stat(photo.path)
        if verdict.stat == stat:
            return verdict
        if verdict.stat is None or verdict.stat[0] != stat[0] or verdict.record.sha256 != data_hash(photo.read()):
            return None
    except InputError:  # the file cannot be read
        return None
    return verdict.model_copy(update={"stat": stat, "record": verdict.record.model_copy(update={"stat": stat})})
