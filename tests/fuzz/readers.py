"""Every function of PIXAL that reads a file which a stranger may have made, and the errors that it may raise."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from helpers import PATHS

from pixal.config import load_config
from pixal.config.loading import DEFAULTS
from pixal.errors import PixalError
from pixal.inputs import InputSet
from pixal.io import ownership
from pixal.io.arrays import load_arrays
from pixal.io.growing import GrowingRows
from pixal.io.images import decode_image, read_size
from pixal.io.journal import Journal
from pixal.io.ownership import MANIFEST
from pixal.io.png import read_fingerprint
from pixal.io.records import has_valid_hash, read_record
from pixal.io.torch_files import read_state_dict
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    AlignmentStep,
    BackgroundRecord,
    BackgroundStep,
    InputStep,
    SharedRecord,
    StepRecord,
    ValidationInputs,
    read_step,
)
from pixal.tasks.photographs.preprocessing.reference_file import ReferenceFile
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.training.stored import PhotographModelRecord
from pixal.tasks.photographs.verdicts.truth import read_truth
from pixal.tasks.photographs.verdicts.verdict_store import read_journal
from pixal.tracking.waiting_runs import FOLDER, kept_runs
from pixal.train_model.state_file import read_state

MAX_PIXELS_BYTES = 20_000_000  # of an image: smaller than in use, so that a try takes milliseconds
ROW_LENGTH = 12  # of the growing rows in ``seeds.py``


@dataclass(frozen=True)
class Reader:
    """A function that reads a file.

    Attributes:
        read: Takes a file's bytes and an empty folder to write them to.
        errors: What it may raise; its callers expect these. Anything else is a fault.
    """

    read: Callable[[bytes, Path], object]
    errors: tuple[type[Exception], ...] = (PixalError,)


def accepts(name: str, data: bytes, folder: Path) -> bool:
    """Whether a reader accepts a file. A message of more than one line is a fault, and so is any other exception."""
    reader = READERS[name]
    try:
        reader.read(data, folder)
    except reader.errors as error:
        if isinstance(error, PixalError) and "\n" in str(error):
            raise AssertionError(f"not one line: {error}") from error
        return False
    return True


def _written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _settings(name: str) -> Reader:
    def read(data: bytes, folder: Path) -> None:
        _written(folder, "paths.yaml", PATHS.encode())
        _written(folder, f"{name}.yaml", data)
        load_config(folder)

    return Reader(read)


def _override(data: bytes, _: Path) -> None:
    load_config(DEFAULTS, [data.decode(errors="surrogateescape")])


def _step(step: type[StepRecord]) -> Reader:
    def read(data: bytes, folder: Path) -> None:
        read_step(_written(folder, "record.yaml", data), step, "preprocess").made_of()

    return Reader(read)


def _model_record(data: bytes, folder: Path) -> None:
    content = read_record(_written(folder, "model_training.yaml", data))
    has_valid_hash(content)
    PhotographModelRecord.read(content)


def _journal(data: bytes, folder: Path) -> None:
    Journal(_written(folder, "a.journal", data), (BackgroundRecord, AlignmentRecord, SharedRecord))


def _verdicts(data: bytes, folder: Path) -> None:
    list(read_journal(_written(folder, "judged.journal", data)))


def _manifest(data: bytes, folder: Path) -> None:
    """Whatever a manifest says, a file that was there before stays."""
    notes = _written(folder, "inner/notes", b"of the user")
    _written(folder, MANIFEST, data)
    ownership.owns(folder / "a.png")
    ownership.owns(folder / "inner/.0123456789ab.a.png")
    ownership.remove(folder / "inner/other")
    if not notes.is_file():
        raise AssertionError("a file was removed")


def _unsent(data: bytes, folder: Path) -> None:
    """A kept run offers no file that PIXAL did not write."""
    _written(folder, f"{FOLDER}/a.jsonl", data)
    before = Path.cwd()
    os.chdir(folder)
    try:
        runs = list(kept_runs("local"))
    finally:
        os.chdir(before)
    if any(entry.file is not None and entry.file.is_of_pixal for _, _, entries in runs for entry in entries):
        raise AssertionError("a file would be sent")


def _arrays(data: bytes, folder: Path) -> None:
    for values in load_arrays(_written(folder, "a.npz", data)).values():
        np.asarray(values)


def _inputs(data: bytes, folder: Path) -> None:
    inputs = InputSet.load(_written(folder, "out.npz", data))
    for part in inputs.iterate_slices():
        inputs.rows(part)


def _state(data: bytes, folder: Path) -> None:
    PreprocessingState.load(_written(folder, "preprocessing.npz", data))


def _reference(data: bytes, folder: Path) -> None:
    ReferenceFile.load(_written(folder, "reference.npz", data))


def _training_state(data: bytes, folder: Path) -> None:
    read_state(_written(folder, "training_state.npz", data))


def _rows(data: bytes, folder: Path) -> None:
    rows = GrowingRows(folder / "inputs.part", ROW_LENGTH)
    if rows.reopen(_written(folder, "out.npz", data)):
        for row in range(min(len(rows), 10)):
            rows.read(row)


def _labels(data: bytes, folder: Path) -> None:
    _written(folder, "labels.csv", data)
    read_truth(folder, ["front"])


READERS: dict[str, Reader] = {
    "image": Reader(lambda data, _: decode_image(data, max_bytes=MAX_PIXELS_BYTES)),
    "size": Reader(lambda data, folder: read_size(_written(folder, "a.png", data))),
    "fingerprint": Reader(lambda data, folder: read_fingerprint(_written(folder, "a.png", data))),
    "parameters": _settings("parameters"),
    "paths": _settings("paths"),
    "preprocessing": _settings("preprocessing"),
    "override": Reader(_override),
    "background_record": _step(BackgroundStep),
    "alignment_record": _step(AlignmentStep),
    "input_record": _step(InputStep),
    "validation_record": _step(ValidationInputs),
    "model_record": Reader(_model_record),
    "journal": Reader(_journal),
    "verdicts": Reader(_verdicts),
    "manifest": Reader(_manifest),
    "unsent_run": Reader(_unsent),
    "labels": Reader(_labels),
    "arrays": Reader(_arrays, (ValueError,)),
    "inputs": Reader(_inputs),
    "state": Reader(_state),
    "reference": Reader(_reference),
    "training_state": Reader(_training_state, (ValueError, KeyError)),
    "rows": Reader(_rows),
    "checkpoint": Reader(lambda data, _: read_state_dict(data), (ValueError,)),
}
"""By the name of their folder in ``tests/fuzz/corpus``."""
