"""From the photographs of one type to verdicts, without judging again what is judged already."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.execution import worker_count
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.files import file_hash, file_stat
from pixal.io.logs import log_to_file
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.parts import PhotographRecord, PreparedPart
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.verdicts import part_files
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.tasks.photographs.verdicts.type_verdicts import PORTION, TypeVerdicts
from pixal.tasks.photographs.verdicts.verdict_store import Entry, JudgedParts
from pixal.validation.scoring import Summary

_log = logging.getLogger(__name__)

Waits = Callable[[Photograph, PreparedPart], bool]
"""Whether a photograph must wait for its verdict, as it and its prepared part show."""


class TypeJudging:
    """Judges the photographs of one type, and keeps the verdicts on disk as they come."""

    def __init__(self, name: str, model: TrainedModel, truth: Truth | None, config: PhotographConfig) -> None:
        """Raises ModelError where the background model of training is not at hand."""
        self.name, self.config = name, config
        self.verdicts = TypeVerdicts(name, model, truth, config)
        self.preparation = Preparation(name, model, config)
        self.key = self.verdicts.key(self.preparation.key)
        self._types = tuple(model.states) if model.owner is None else ()
        self._folder = config.paths.resolve("component_validate_path", name)
        self._metadata = config.paths.resolve("validate_metadata_path", name)
        self._sums_file = self._metadata / "sums.npz"
        self._counted: set[str] = set()  # the parts in the summary

    def take_up(self, photographs: list[Photograph], *, force: bool = False, gone_from: Path | None = None) -> None:
        """Keep the verdicts of an earlier run that still hold, and delete all else that it left.

        A verdict holds while its photograph, its names, the model and the settings are the same. Of a photograph that
        is gone it holds where that lay below ``gone_from``. ``force``: none holds.
        """
        self.judged = self._open()
        by_source = {str(photo.path.absolute()): photo for photo in photographs}
        taken = {photo.image for photo in photographs} | {photo.name.lower() for photo in photographs}
        kept = {}
        for source, entry in self.judged.entries.items():
            photo, record = by_source.get(source), entry["record"]
            if photo is None:
                free = not {record["image"], record["name"].lower()} & taken
                holds = gone_from is not None and Path(source).is_relative_to(gone_from.absolute()) and free
            else:
                holds = _is_named(entry, photo) and _unchanged(entry, photo)
            if holds and not force and entry["key"] == self.key and self._has_files(entry):
                kept[source] = entry
        (self._metadata / PREPROCESSING_RECORD).unlink(missing_ok=True)  # it vouches for a whole batch
        self._keep(kept)

    def holds(self, photo: Photograph, stat: tuple[int, int]) -> bool:
        """Whether a photograph has its verdict; ``stat``: its file's size and time as they are now."""
        entry = self.judged.entries.get(str(photo.path.absolute()))
        return entry is not None and tuple(entry["stat"] or ()) == stat and _is_named(entry, photo)

    def missing(self, photographs: list[Photograph]) -> list[Photograph]:
        """Those that have no verdict yet."""
        return [photo for photo in photographs if str(photo.path.absolute()) not in self.judged.entries]

    def judge(self, photographs: list[Photograph], waits: Waits | None = None) -> Iterator[Entry]:
        """Judge photographs, a portion at a time; yields each entry when all of it is on disk.

        One that ``waits``, as it and its row of the record show, is passed over.
        """
        size = PORTION * worker_count(self.config.execution)
        portions = [photographs[start : start + size] for start in range(0, len(photographs), size)]
        if not portions:
            return
        log = log_to_file(self.config.paths.resolve("validate_log_path", self.name), "validate")
        with log, self.judged, ThreadPoolExecutor(1) as beside:
            prepared = beside.submit(self._prepare, portions[0])
            _ = self.verdicts.family  # loaded meanwhile: TensorFlow takes seconds to start
            for portion, following in zip_longest(portions, portions[1:]):
                rows = prepared.result()
                if following is not None:
                    prepared = beside.submit(self._prepare, following)
                yield from self._judge_portion(portion, rows, waits)

    def forget(self, source: str) -> None:
        """Drop the verdict on a photograph that is to be judged as another type now."""
        if self.judged.entries.pop(source, None) is not None:
            self.judged.rewrite()

    def gather(self) -> None:
        """Make the parts judged so far the batch that the results tell of, in the order of their photographs."""
        self.entries = sorted(self.judged.entries.values(), key=lambda entry: Path(entry["source"]))
        self.records = [entry["record"] for entry in self.entries]
        self.verdicts.gather(self.entries)

    def write_table(self) -> None:
        """Write the alignment's table of all that is gathered."""
        self.preparation.write_table(self._photograph_records())

    def count(self) -> None:
        """Make the sums those of the gathered parts: what is missing is counted; from zero, if any is too much."""
        ok = [entry for entry in self.entries if entry["record"]["status"] == "ok"]
        if self._counted - {_name(entry["record"]) for entry in ok}:
            self._counted, self.verdicts.summary = set(), self.verdicts.new_summary()
        missing = [entry for entry in ok if _name(entry["record"]) not in self._counted]
        for start in range(0, len(missing), PORTION):
            some = missing[start : start + PORTION]
            records, summary = [entry["record"] for entry in some], self.verdicts.new_summary()
            inputs = self._inputs([self.judged.image(entry) for entry in some], records)
            for _ in self.verdicts.score(records, inputs, summary):
                pass
            self._add(summary, {_name(record) for record in records})
        counted = np.array(sorted(self._counted), str)
        save_arrays(self._sums_file, key=np.array(self.key), counted=counted, **self.verdicts.summary.as_arrays())

    def draw(self) -> None:
        """Draw the figures of all that is gathered and counted."""
        self.preparation.draw_metrics(self._photograph_records())
        self.verdicts.draw_summary()

    def finish(self) -> None:
        """Write what only a whole batch has: its inputs as one file, and their record."""
        self.write_table()
        ok = [entry for entry in self.entries if entry["record"]["status"] == "ok"]
        self.judged.write_inputs(ok, self.preparation.channels, self._types, self.name)
        self.preparation.write_record(self._photograph_records())

    def _photograph_records(self) -> list[PhotographRecord]:
        return [PhotographRecord.model_validate(record) for record in self.records]

    def _open(self) -> JudgedParts:
        inputs = self._folder / self.config.preprocessing.preprocessor.file_name
        return JudgedParts(self._metadata, inputs, self.preparation.shape)

    def _keep(self, kept: dict[str, Entry]) -> None:
        v = self.verdicts
        self.judged.entries = kept
        if kept:
            self.judged.rewrite()
            maps = self.config.paths.resolve("validate_anomaly_maps_path", self.name)
            part_files.remove_other_parts(kept.values(), figures=v.figures, maps=maps, report=v.report)
            self.preparation.remove_other_figures({entry["record"]["name"] for entry in kept.values()})
            v.count_again(list(kept.values()))
            self._restore_summary()
        elif self._folder.is_dir():
            shutil.rmtree(self._folder)
            self.judged = self._open()

    def _has_files(self, entry: Entry) -> bool:
        v = self.verdicts
        if v.truth is not None and v.maps is None:  # pixels are counted from maps
            return False
        there = part_files.are_there(entry, figures=v.figures, maps=v.maps, report=v.report)
        return there and self.preparation.figures_exist(PhotographRecord.model_validate(entry["record"]))

    def _prepare(self, photographs: list[Photograph]) -> list[PreparedPart]:
        return list(self.preparation(photographs))

    def _judge_portion(
        self, photographs: list[Photograph], prepared: list[PreparedPart], waits: Waits | None
    ) -> Iterator[Entry]:
        records, images = [], []
        for photo, part in zip(photographs, prepared, strict=True):
            if waits is not None and waits(photo, part):
                continue
            records.append(part.record.as_row())
            if part.input is not None:
                images.append(part.input)
        new, summary = iter(images), self.verdicts.new_summary()
        for entry in self.verdicts.judge(records, self._inputs(images, records), self.key, summary):
            self.judged.add(entry, next(new) if entry["record"]["status"] == "ok" else None)
            yield entry
        self._add(summary, {_name(row) for row in records if row["status"] == "ok"})

    def _inputs(self, images: list[NDArray[np.float32]], records: list[dict[str, Any]]) -> InputSet:
        """Images (H, W, C), those of the records whose status is ok, as the model takes them."""
        return self.preparation.inputs(images, [row["image"] for row in records if row["status"] == "ok"])

    def _restore_summary(self) -> None:
        try:
            file = load_arrays(self._sums_file)
            if str(file["key"]) == self.key:
                self.verdicts.summary.load_arrays(file)
                self._counted = {str(name) for name in file["counted"]}
        except (FileNotFoundError, ValueError, KeyError):  # counted anew, then
            self.verdicts.summary = self.verdicts.new_summary()

    def _add(self, summary: Summary, names: set[str]) -> None:
        self.verdicts.summary.merge(summary)
        self._counted |= names


def _name(record: dict[str, Any]) -> str:
    """A photograph as it was when it was judged."""
    return f"{record['sha256']} {record['source']}"


def _is_named(entry: Entry, photo: Photograph) -> bool:
    """Whether a photograph's names, which others beside it may change, are those that it was judged by."""
    return (entry["record"]["image"], entry["record"]["name"]) == (photo.image, photo.name)


def _unchanged(entry: Entry, photo: Photograph) -> bool:
    """Whether a photograph is as it was: by size and time, or, where it was copied or touched, by its bytes."""
    before, record = entry["stat"], entry["record"]
    try:
        stat = file_stat(photo.path)
        if tuple(before or ()) != stat:
            if before is None or before[0] != stat[0] or record.get("sha256") != file_hash(photo.path):
                return False
            entry["stat"] = record["stat"] = stat
    except (OSError, InputError):  # it cannot be read now
        return False
    return True
