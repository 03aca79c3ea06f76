"""The parts on which a candidate and the model in use are compared: all that were marked, and the last batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.tasks.photographs.learning.accepted import AcceptedPart, AcceptedParts, PhotographBox
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.preprocessing.folders import read_validation_inputs
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.batches import Batches, StoredBatch

if TYPE_CHECKING:
    from pixal.database.stored_marks import Mark


@dataclass(frozen=True)
class PastPart:
    """A part of an earlier batch.

    Attributes:
        image: File name of its photograph.
        batch: Name of its batch.
        sha256: SHA-256 of its photograph.
        source: Where the photograph is, or was.
        mark: What the inspector said; "" if nothing.
        boxes: Boxes around its known defects, in pixels of the photograph; empty if not known.
        record: How it was prepared; None if its batch does not exist any more.
        archive: The file with its input; None if its batch does not exist any more.
        preprocessing_sha256: The hash of the preprocessing state that made the input.
    """

    image: str
    batch: str
    sha256: str
    source: Path
    mark: str = ""
    boxes: tuple[PhotographBox, ...] = ()
    record: PhotographRecord | None = None
    archive: Path | None = None
    preprocessing_sha256: str = ""

    @property
    def is_defective(self) -> bool:
        """Whether an inspector said that it is defective."""
        return self.mark in ("confirmed", "missed")

    @property
    def is_good(self) -> bool:
        """Whether an inspector said that it is good."""
        return self.mark in ("false alarm", "confirmed good")

    def read_input(self) -> NDArray[np.float32] | None:
        """Its stored input, (H, W, C); None if there is none."""
        if self.archive is None or self.record is None:
            return None
        with suppress(InputError, ValueError):
            inputs = InputSet.load(self.archive)
            row = inputs.names.index(self.record.image)
            image: NDArray[np.float32] = inputs.images(slice(row, row + 1))[0]
            return image
        return None


def past_parts(config: PhotographConfig, type_name: str, marks: Sequence[Mark], *, batches: int) -> list[PastPart]:
    """The parts that were marked, and those of the last batches, each photograph once.

    Args:
        config: The settings.
        type_name: The type.
        marks: All marks of the type.
        batches: Number of batches, the newest ones, whose parts count although nobody marked them.
    """
    stored = _stored_batches(config)
    newest = {batch.record.name for batch in stored[-batches:]} if batches else set()
    by_hash: dict[str, PastPart] = {}
    for batch in stored:
        for part in _parts_of(batch, type_name, config):
            by_hash[part.sha256] = part
    copies = AcceptedParts.read(config.paths, type_name)
    accepted = {part.sha256: part for part in copies.record.parts}
    marked: dict[str, PastPart] = {}
    for mark in marks:
        found = _marked_part(mark, by_hash, accepted)
        if found is not None:
            marked[found.sha256] = found
    for sha256, taken in accepted.items():  # also where the database was lost
        if sha256 not in marked and sha256 not in {mark.photograph for mark in marks}:
            marked[sha256] = _accepted_part(taken, by_hash.get(sha256))
    others = [part for part in by_hash.values() if part.batch in newest and part.sha256 not in marked]
    return [*(_with_copy(part, accepted, copies) for part in marked.values() if part.mark), *others]


def parts_by_batch(config: PhotographConfig, type_name: str) -> dict[str, list[PastPart]]:
    """The parts of each batch that were prepared for the model of the type, the oldest batch first."""
    stored = _stored_batches(config)
    return {batch.record.name: list(_parts_of(batch, type_name, config)) for batch in stored}


def _stored_batches(config: PhotographConfig) -> list[StoredBatch]:
    """All batches, the newest last."""
    batches = Batches(config.paths)
    newest = batches.newest()
    kept = sorted(batches.kept(), key=lambda batch: batch.record.started)
    return [*kept, *([] if newest is None else [newest])]


def _parts_of(batch: StoredBatch, type_name: str, config: PhotographConfig) -> Iterator[PastPart]:
    """The parts of a batch that have an input, made for the model of the type itself."""
    if type_name not in batch.prepared_types:
        return
    try:
        inputs = read_validation_inputs(batch.paths.resolve("validate_metadata_path", type_name))
    except InputError:  # damaged
        return
    if inputs.judged_by is not None:
        return
    archive = batch.type_folder(type_name) / config.preprocessing.preprocessor.file_name
    for record in inputs.images:
        if record.is_ok and record.sha256:
            yield PastPart(
                image=record.image,
                batch=batch.record.name,
                sha256=record.sha256,
                source=Path(record.source),
                record=record,
                archive=archive,
                preprocessing_sha256=inputs.preprocessing_sha256,
            )


def _marked_part(mark: Mark, by_hash: dict[str, PastPart], accepted: dict[str, AcceptedPart]) -> PastPart | None:
    part = by_hash.get(mark.photograph)
    if part is None and not mark.photograph:
        same = [part for part in by_hash.values() if (part.batch, part.image) == (mark.batch, mark.image)]
        part = same[-1] if same else None
    if part is None:
        if mark.photograph not in accepted:
            return None
        taken = accepted[mark.photograph]
        part = PastPart(taken.image, taken.batch, taken.sha256, Path(taken.source))
    boxes = (accepted[part.sha256].boxes if part.sha256 in accepted else ()) or mark.boxes
    return replace(part, mark=mark.mark, boxes=boxes if mark.is_defective else ())


def _accepted_part(taken: AcceptedPart, part: PastPart | None) -> PastPart:
    part = part or PastPart(taken.image, taken.batch, taken.sha256, Path(taken.source))
    return replace(part, mark=taken.mark, boxes=taken.boxes)


def _with_copy(part: PastPart, accepted: dict[str, AcceptedPart], copies: AcceptedParts) -> PastPart:
    """The part with the path of its accepted copy, which stays when the photograph is deleted."""
    taken = accepted.get(part.sha256)
    return part if taken is None else replace(part, source=copies.path(taken))
