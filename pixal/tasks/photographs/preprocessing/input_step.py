"""Third step: from aligned photographs to the model's input, ``out.npz``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.execution import Submit, map_parallel
from pixal.inputs import InputSet, InputSetWriter
from pixal.io.files import file_hash
from pixal.io.journal import reusable
from pixal.io.provenance import fingerprint
from pixal.outcome import Outcome
from pixal.tasks.photographs.preprocessing import figures
from pixal.tasks.photographs.preprocessing.background_step import read_rgba
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT,
    BACKGROUND,
    INPUT,
    STATE_FILE,
    OutputFolder,
    TypeFolder,
)
from pixal.tasks.photographs.preprocessing.kept_images import KeptImages
from pixal.tasks.photographs.preprocessing.prepare import make_model_input
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    InputFileRecord,
    InputRecord,
    InputStep,
    TypeRecord,
)
from pixal.tasks.photographs.preprocessing.state import PreprocessingState

_log = logging.getLogger(__name__)

Value = TypeVar("Value", bound=np.generic)


def write_inputs(
    owner: OutputFolder,
    folders: Sequence[TypeFolder],
    states: dict[str, PreprocessingState],
    submit: Submit,
    *,
    force: bool,
    quiet: bool,
    kept: KeptImages | None = None,
) -> Outcome:
    """Write one ``out.npz`` with the inputs of one type, or of all types. Skipped if it is already done.

    Args:
        owner: Where the ``out.npz`` goes: the folders of the type, or of the component for all types.
        folders: The folders of the types.
        states: The fitted preprocessing, by type.
        submit: Runs calls that draw figures in the background.
        force: Whether to write it again in any case.
        quiet: Whether to hide the progress bars.
        kept: Aligned photographs that the alignment step has just made.
    """
    shape = common_shape(states.values())
    aligned = {folder.name: folder.read(ALIGNMENT).aligned for folder in folders}
    photographs = {folder.name: len(folder.read(BACKGROUND).images) for folder in folders}
    key = _input_key(owner, folders, aligned, kept, quiet)
    for folder in folders:
        if folder.name != owner.name:
            folder.start(INPUT, force=True)
    with owner.start(INPUT, force=force) as journal:
        made = reusable(journal.entries.get(owner.input.name), key, owner.input.parent)
        if made is not None:
            _log.info("%s: already done with the same photographs and settings", owner.input)
        else:
            images = _write(owner, folders, states, aligned, shape, kept, quiet)
            made = InputFileRecord(file=owner.input.name, key=key, file_sha256=file_hash(owner.input), images=images)
        _draw_channels(owner, folders, states, key, submit, force)
        submit.wait()  # the records say that the figures are complete, too
        for folder in folders:
            _step(owner, [folder], states, made, shape, photographs).write(folder.metadata / INPUT.file)
        if owner.name is None:
            _step(owner, folders, states, made, shape, photographs).write(owner.metadata / INPUT.file)
    outcomes = [Outcome.from_records(name, "input", images) for name, images in made.images.items()]
    return Outcome(
        sum(outcome.done for outcome in outcomes), [failure for outcome in outcomes for failure in outcome.failures]
    )


def common_shape(states: Iterable[PreprocessingState]) -> tuple[int, int, int]:
    """The smallest shape (H, W, C) that holds the inputs of all types."""
    shapes = [state.shape for state in states]
    return max(shape[0] for shape in shapes), max(shape[1] for shape in shapes), shapes[0][2]


def on_canvas(image: NDArray[Value], shape: Sequence[int]) -> NDArray[Value]:
    """Pad an input (h, w, C) at the bottom and the right with zeros to ``shape`` (H, W, C)."""
    if image.shape == tuple(shape):
        return image
    return np.pad(image, ((0, shape[0] - image.shape[0]), (0, shape[1] - image.shape[1]), (0, 0)))


def _input_key(
    owner: OutputFolder,
    folders: Sequence[TypeFolder],
    aligned: dict[str, list[AlignmentRecord]],
    kept: KeptImages | None,
    quiet: bool,
) -> str:
    """Fingerprint of everything that an ``out.npz`` depends on; the settings are in the state."""
    return fingerprint(
        "input and conditions",
        {folder.name: file_hash(folder.metadata / STATE_FILE) for folder in folders},
        {folder.name: _hash_aligned(folder, aligned[folder.name], kept, quiet) for folder in folders},
        owner.name is None,
    )


def _hash_aligned(
    folder: TypeFolder, records: Sequence[AlignmentRecord], kept: KeptImages | None, quiet: bool
) -> list[str | None]:
    """The SHA-256 of each aligned photograph as it is now: it may have been edited or deleted since it was written."""
    paths = [folder.aligned / str(record.file) for record in records]
    step = f"{folder.name}: checking"
    work = partial(_hash_if_exists, kept=kept)
    return list(map_parallel(work, paths, folder.config.execution, step=step, quiet=quiet))


def _hash_if_exists(path: Path, *, kept: KeptImages | None) -> str | None:
    if kept is not None and (known := kept.sha256(path)) is not None:
        return known
    return file_hash(path) if path.is_file() else None


def _write(
    owner: OutputFolder,
    folders: Sequence[TypeFolder],
    states: dict[str, PreprocessingState],
    aligned: dict[str, list[AlignmentRecord]],
    shape: tuple[int, int, int],
    kept: KeptImages | None,
    quiet: bool,
) -> dict[str, tuple[InputRecord, ...]]:
    """Write the inputs of all aligned photographs; return one record per photograph, by type."""
    config = owner.config
    types = list(states) if owner.name is None else ()
    images: dict[str, tuple[InputRecord, ...]] = {}
    with InputSetWriter(owner.input, shape, config.preprocessing.preprocessor.channels, types) as out:
        for folder in folders:
            name = folder.name
            work = partial(make_input_of_aligned, folder=folder.aligned, state=states[name], kept=kept)
            records = []
            for record, values in map_parallel(
                work, aligned[name], config.execution, step=f"{name}: input", quiet=quiet
            ):
                records.append(record)
                if record.note:
                    _log.warning("%s/%s: %s", name, record.image, record.note)
                if values is not None:
                    out.append(on_canvas(values, shape), f"{name}/{record.image}" if types else record.image, name)
            done = sum(record.is_ok for record in records)
            if not done:
                raise InputError(f"{name}: none of its aligned photographs can be read; run align again")
            _log.info("%s: %d photographs in %s", name, done, owner.input)
            images[name] = tuple(records)
    return images


def make_input_of_aligned(
    aligned: AlignmentRecord, *, folder: Path, state: PreprocessingState, kept: KeptImages | None = None
) -> tuple[InputRecord, NDArray[np.float32] | None]:
    """Make the input (h, w, C) of an aligned photograph; None if its file in ``folder`` cannot be read.

    ``kept``: photographs that need not be read.
    """
    record = InputRecord(
        image=aligned.image,
        source=aligned.source,
        status="failed",
        sha256=aligned.sha256,
        inlier_ratio=aligned.inlier_ratio,
        ssim=aligned.ssim,
        mse=aligned.mse,
    )
    try:
        path = folder / str(aligned.file)
        found = None if kept is None else kept.take(path, state.used_box)
        image, mask = read_rgba(path) if found is None else found
    except InputError as error:
        return record.replace(reason=str(error)), None
    model_input = make_model_input(image, mask, state)
    record = record.replace(status="ok", note=model_input.cut_note or None, **vars(model_input.light_and_focus))
    return record, model_input.values


def _draw_channels(
    owner: OutputFolder,
    folders: Sequence[TypeFolder],
    states: dict[str, PreprocessingState],
    input_key: str,
    submit: Submit,
    force: bool,
) -> None:
    """Draw the channels of the first input of each type."""
    key = fingerprint("channels", input_key)
    inputs = InputSet.load(owner.input)
    for index, folder in enumerate(folders):
        path, state = folder.figures / "channels.png", states[folder.name]
        if force or not figures.are_current([path], key):
            image = inputs.images(inputs.rows_of_type(index)[:1])[0]
            height, width, _ = state.shape
            submit(figures.save_channels, path, image[:height, :width], state, key=key)


def _step(
    owner: OutputFolder,
    folders: Sequence[TypeFolder],
    states: dict[str, PreprocessingState],
    made: InputFileRecord,
    shape: tuple[int, int, int],
    photographs: dict[str, int],
) -> InputStep:
    """The record of the step, with the types of ``folders``."""
    images = {folder.name: made.images[folder.name] for folder in folders if folder.name in made.images}
    return InputStep(
        component=owner.config.paths.component,
        input=str(made.file),
        input_dim=int(np.prod(shape)),
        shape=shape,
        channels=tuple(owner.config.preprocessing.preprocessor.channels),
        n_images=sum(record.is_ok for records in images.values() for record in records),
        sha256=str(made.file_sha256),
        photographs={folder.name: photographs[folder.name] for folder in folders},
        types={folder.name: _type_record(folder, states[folder.name]) for folder in folders},
        settings=owner.config.preprocessing,
        made=(made.model_copy(update={"images": images}),),
    )


def _type_record(folder: TypeFolder, state: PreprocessingState) -> TypeRecord:
    return TypeRecord(
        background_method=state.method,
        pool_size=state.pooling,
        crop_box=state.box,
        shape=state.shape,
        part_pixels=int(state.mask.sum()),
        state_sha256=file_hash(folder.metadata / STATE_FILE),
    )
