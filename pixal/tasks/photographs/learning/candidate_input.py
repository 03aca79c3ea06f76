"""Make the model input of a candidate: that of the model in use, and the accepted good parts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSetWriter
from pixal.io.files import file_hash, read_bytes, write_bytes
from pixal.io.provenance import fingerprint
from pixal.outcome import Failure
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.learning.accepted import AcceptedParts
from pixal.tasks.photographs.preprocessing.align_photograph import AlignmentJob, PhotographAligner
from pixal.tasks.photographs.preprocessing.background_step import remove_one_background
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT,
    BACKGROUND,
    INPUT,
    REFERENCE_FILE,
    STATE_FILE,
    OutputFolder,
    TypeFolder,
)
from pixal.tasks.photographs.preprocessing.input_step import make_input_of_aligned, on_canvas
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    BackgroundRecord,
    InputFileRecord,
    InputRecord,
    InputStep,
)
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.training_data import TrainingData

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AddedPart:
    """An accepted photograph that is added to the input.

    Attributes:
        record: How it was prepared.
        values: Its input, (h, w, C).
    """

    record: InputRecord
    values: NDArray[np.float32]


def write_candidate_input(
    data: TrainingData, config: PhotographConfig, candidate: PhotographConfig
) -> tuple[int, list[Failure]]:
    """Write the input of a candidate, with the records that belong to it.

    The preprocessing stays that of ``data``: reference, consensus mask and light. So places on the part are the same
    for both models. Accepted photographs are prepared like those of training.

    Args:
        data: What the model in use, or the next one without a candidate, is trained on.
        config: The settings.
        candidate: The settings whose folders are those of the candidate.

    Returns:
        The number of photographs that were added, and those that could not be prepared.
    """
    failures: list[Failure] = []
    added: dict[str, list[AddedPart]] = {}
    for name, state in data.states.items():
        known = {record.image for record in data.records(name)}
        new = [photo for photo in AcceptedParts.read(config.paths, name).photographs() if photo.image not in known]
        added[name], failed = _prepare(name, new, state, config, candidate)
        failures += failed
    count = sum(map(len, added.values()))
    _write_rows(data, added, candidate)
    _write_records(data, added, candidate)
    if count:
        _log.info("%s: %d accepted photographs added", data.owner or config.paths.component, count)
    return count, failures


def _prepare(
    name: str,
    photographs: Sequence[Photograph],
    state: PreprocessingState,
    config: PhotographConfig,
    candidate: PhotographConfig,
) -> tuple[list[AddedPart], list[Failure]]:
    """Cut out and align photographs; write the records of these steps for the candidate."""
    source, target = TypeFolder(name, config), TypeFolder(name, candidate)
    background, alignment = source.read(BACKGROUND), source.read(ALIGNMENT)
    cut_outs: list[BackgroundRecord] = []
    aligned: list[AlignmentRecord] = []
    parts: list[AddedPart] = []
    failures: list[Failure] = []
    if photographs:
        reference = next(record for record in background.images if record.image == alignment.reference)
        aligner = PhotographAligner.prepare(target, reference, alignment.settings)
    for photograph in photographs:
        cut_out = remove_one_background(target, photograph, background)
        cut_outs.append(cut_out)
        if not cut_out.is_ok:
            failures.append(Failure(name, photograph.image, "background", cut_out.reason))
            continue
        record = aligner(AlignmentJob(cut_out, None, None)).record
        aligned.append(record)
        if not record.is_ok:
            failures.append(Failure(name, photograph.image, "alignment", record.reason))
            continue
        made, values = make_input_of_aligned(record, folder=target.aligned, state=state)
        if values is None:
            failures.append(Failure(name, photograph.image, "input", made.reason))
        else:
            parts.append(AddedPart(made, values))
    background.model_copy(update={"images": (*background.images, *cut_outs)}).write(target.metadata / BACKGROUND.file)
    alignment.model_copy(update={"images": (*alignment.images, *aligned)}).write(target.metadata / ALIGNMENT.file)
    for file in (REFERENCE_FILE, STATE_FILE):
        write_bytes(target.metadata / file, read_bytes(source.metadata / file))
    return parts, failures


def _write_rows(data: TrainingData, added: dict[str, list[AddedPart]], candidate: PhotographConfig) -> None:
    """Write ``out.npz``: the rows of each type, and then its added parts."""
    inputs, target = data.inputs, OutputFolder(data.owner, candidate).input
    if not any(added.values()):
        write_bytes(target, read_bytes(data.path))
        return
    with InputSetWriter(target, inputs.shape, inputs.channels, inputs.types) as out:
        for index, name in enumerate(data.states):
            for row in inputs.rows_of_type(index):
                out.append(inputs.images(row[None])[0], inputs.names[row], name)
            for part in added[name]:
                image = f"{name}/{part.record.image}" if inputs.types else part.record.image
                out.append(on_canvas(part.values, inputs.shape), image, name)


def _write_records(data: TrainingData, added: dict[str, list[AddedPart]], candidate: PhotographConfig) -> None:
    """Write ``preprocessing.yaml`` of the input, and in one-hot mode that of each type."""
    owner = OutputFolder(data.owner, candidate)
    sha256, count = file_hash(owner.input), sum(map(len, added.values()))
    images = {name: (*data.records(name), *(part.record for part in added[name])) for name in data.states}
    made = InputFileRecord(
        file=owner.input.name,
        key=fingerprint(
            "candidate", data.sha256, {name: [r.sha256 for r in records] for name, records in images.items()}
        ),
        file_sha256=sha256,
        images=images,
    )
    step = data.record.model_copy(
        update={
            "sha256": sha256,
            "n_images": data.record.n_images + count,
            "photographs": {
                name: number + len(added.get(name, ())) for name, number in data.record.photographs.items()
            },
            "made": (made,),
        }
    )
    step.write(owner.metadata / INPUT.file)
    if data.owner is None:
        for name in data.states:
            _of_type(step, name).write(TypeFolder(name, candidate).metadata / INPUT.file)


def _of_type(step: InputStep, name: str) -> InputStep:
    """The part of the record of all types that is about one of them."""
    made = tuple(record.model_copy(update={"images": {name: record.images[name]}}) for record in step.made)
    return step.model_copy(
        update={
            "types": {name: step.types[name]},
            "photographs": {name: step.photographs.get(name, 0)},
            "n_images": sum(record.is_ok for records in made for record in records.images[name]),
            "made": made,
        }
    )
