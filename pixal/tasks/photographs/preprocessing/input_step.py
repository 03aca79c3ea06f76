"""Third step: from aligned photographs to the network's input."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.execution import Submit, map_parallel
from pixal.inputs import InputSetWriter
from pixal.io.arrays import load_arrays
from pixal.io.files import file_hash, is_newer
from pixal.io.images import read_mask
from pixal.io.journal import Row, made_before
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import read_record, write_record
from pixal.outcome import Outcome
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.consensus import consensus_mask, crop_box, ignored_mask
from pixal.tasks.photographs.preprocessing import figures as pictures
from pixal.tasks.photographs.preprocessing.background_step import read_rgba
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT_RECORD,
    BACKGROUND_RECORD,
    PREPROCESSING_RECORD,
    REFERENCE_FILE,
    STATE_FILE,
    TypeFolder,
)
from pixal.tasks.photographs.preprocessing.prepare import make_model_input
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig

_log = logging.getLogger(__name__)

T = TypeVar("T", bound=np.generic)


def fit_state(folder: TypeFolder, draw: Submit, *, force: bool) -> PreprocessingState:
    """What a type's aligned photographs have in common: consensus mask, crop box; written beside its records."""
    settings = folder.config.preprocessing.preprocessor
    name = str(folder.name)
    try:
        file = load_arrays(folder.metadata / REFERENCE_FILE)
        reference = Reference(file["image"], file["mask"], Features(file["points"], file["descriptors"]))
        share, brightness = file["share"], file["brightness"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(f"{folder.metadata / REFERENCE_FILE} is missing or damaged; run align again") from error
    given = settings.mask.get(name) if isinstance(settings.mask, dict) else settings.mask
    consensus = consensus_mask(share, settings.consensus) if given is None else _given_mask(given, "mask", share.shape)
    ignored = _ignored(settings.ignore_regions.get(name, []), share.shape)
    if settings.zero_pruning:
        box = crop_box(
            consensus,
            brightness,
            bg_threshold=settings.bg_threshold,
            padding=settings.zero_pruning_padding,
            multiple=settings.pool_size,
        )
    else:
        box = Box(0, 0, consensus.shape[1], consensus.shape[0])
    # The record says which method "auto" stood for, and with which file of weights.
    used = read_record(folder.metadata / BACKGROUND_RECORD)
    background = folder.config.preprocessing.remove_background.model_validate(used["settings"])
    preprocessing = folder.config.preprocessing.model_copy(update={"remove_background": background})
    state = PreprocessingState(name, reference, consensus, ignored, box, used["model_sha256"], preprocessing)
    if not state.mask.any():
        raise ConfigError(f"preprocessing.preprocessor: mask and ignore_regions leave nothing of {name} to look at")
    state.save(folder.metadata / STATE_FILE)
    made_of = (folder.metadata / STATE_FILE, folder.metadata / REFERENCE_FILE)
    if force or not all(is_newer(path, *made_of) for path in pictures.crop_figures(folder.figures)):
        left_out = read_record(folder.metadata / ALIGNMENT_RECORD)["made"][0]["left_out_of_consensus"]
        draw(pictures.save_crop_figures, folder.figures, state, share, brightness, left_out)
    return state


def write_inputs(
    owner: TypeFolder,
    folders: Sequence[TypeFolder],
    states: dict[str, PreprocessingState],
    draw: Submit,
    *,
    force: bool,
    quiet: bool,
) -> Outcome:
    """Write one ``out.npz``: of the type that ``owner`` is, or (one-hot mode) of all types together.

    One that an earlier run made of the same aligned photographs and settings stays.
    """
    config, one_hot = owner.config, owner.name is None
    shape = common_shape(states.values())
    rows = {str(folder.name): _aligned_rows(folder) for folder in folders}
    tried = {str(folder.name): len(read_record(folder.metadata / BACKGROUND_RECORD)["images"]) for folder in folders}
    key = fingerprint(
        "input and conditions",
        {str(folder.name): file_hash(folder.metadata / STATE_FILE) for folder in folders},
        {str(folder.name): _hashes(folder, rows[str(folder.name)], quiet) for folder in folders},
        one_hot,
    )
    for folder in folders:
        if folder.name != owner.name:
            folder.start(PREPROCESSING_RECORD, force=True)
    with owner.start(PREPROCESSING_RECORD, force=force) as journal:
        made = made_before(journal.rows.get(owner.input.name), key, owner.input.parent)
        if made:
            _log.info("%s: is there already, made of the same photographs and settings", owner.input)
        else:
            images = _write(owner, folders, states, rows, shape, draw, quiet)
            made = {"file": owner.input.name, "key": key, "file_sha256": file_hash(owner.input), "images": images}
        for folder in {folder.name: folder for folder in (*folders, owner)}.values():
            members = {folder.name: states[folder.name]} if folder.name else states
            write_record(folder.metadata / PREPROCESSING_RECORD, _record(members, made, shape, tried, config))
    outcomes = [Outcome.from_rows(name, "input", images) for name, images in made["images"].items()]
    return Outcome(sum(outcome.done for outcome in outcomes), [f for outcome in outcomes for f in outcome.failures])


def common_shape(states: Iterable[PreprocessingState]) -> tuple[int, int, int]:
    """The smallest (H, W, C) that holds the inputs of all types."""
    shapes = [state.shape for state in states]
    return max(s[0] for s in shapes), max(s[1] for s in shapes), shapes[0][2]


def on_canvas(image: NDArray[T], shape: Sequence[int]) -> NDArray[T]:
    """An input (h, w, C) at the top left of the common input ``shape``, 0 beyond."""
    if image.shape == tuple(shape):
        return image
    return np.pad(image, ((0, shape[0] - image.shape[0]), (0, shape[1] - image.shape[1]), (0, 0)))


def _write(
    owner: TypeFolder,
    folders: Sequence[TypeFolder],
    states: dict[str, PreprocessingState],
    rows: dict[str, list[Row]],
    shape: tuple[int, int, int],
    draw: Submit,
    quiet: bool,
) -> dict[str, list[Row]]:
    """Write the inputs of all aligned photographs; returns a row each, by type."""
    config = owner.config
    written: dict[str, list[Row]] = {}
    types = list(states) if owner.name is None else ()
    with InputSetWriter(owner.input, shape, config.preprocessing.preprocessor.channels, types) as out:
        for folder in folders:
            name = str(folder.name)
            work = partial(_input_one, folder=folder.aligned, state=states[name])
            written[name] = []
            first: NDArray[np.float32] | None = None
            for row, image in map_parallel(work, rows[name], config.execution, step=f"{name}: input", quiet=quiet):
                written[name].append(row)
                if row.get("note"):
                    _log.warning("%s/%s: %s", name, row["image"], row["note"])
                if image is not None:
                    first = image if first is None else first
                    out.append(on_canvas(image, shape), f"{name}/{row['image']}" if types else row["image"], name)
            if first is None:
                raise InputError(f"{name}: none of its aligned photographs can be read; run align again")
            done = sum(row["status"] == "ok" for row in written[name])
            _log.info("%s: %d photographs in %s", name, done, owner.input)
            draw(pictures.save_channels, folder.figures, first, states[name])
    return written


def _input_one(row: Row, *, folder: Path, state: PreprocessingState) -> tuple[Row, NDArray[np.float32] | None]:
    kept = {key: row[key] for key in ("image", "source", "sha256", "inlier_ratio", "ssim", "mse")}
    try:
        image, mask = read_rgba(folder / row["file"])
    except InputError as error:
        return kept | {"status": "failed", "reason": str(error)}, None
    made = make_model_input(image, mask, state)
    kept |= {"status": "ok", "reason": ""} | vars(made.light_and_focus)
    return kept | ({"note": made.cut_note} if made.cut_note else {}), made.values


def _hashes(folder: TypeFolder, rows: list[Row], quiet: bool) -> list[str | None]:
    """The SHA-256 of each aligned photograph as it is now, which may not be as it was written."""
    paths = [folder.aligned / row["file"] for row in rows]
    step = f"{folder.name}: checking"
    return list(map_parallel(_hash, paths, folder.config.execution, step=step, quiet=quiet))


def _hash(path: Path) -> str | None:
    return file_hash(path) if path.is_file() else None


def _aligned_rows(folder: TypeFolder) -> list[Row]:
    return [row for row in read_record(folder.metadata / ALIGNMENT_RECORD)["images"] if row["status"] == "ok"]


def _record(
    states: dict[str, PreprocessingState],
    made: Row,
    shape: tuple[int, int, int],
    tried: dict[str, int],
    config: PhotographConfig,
) -> dict[str, Any]:
    types = {
        name: {
            "background_method": state.method,
            "crop_box": state.box._asdict(),
            "shape": list(state.shape),
            "part_pixels": int(state.mask.sum()),
        }
        for name, state in states.items()
    }
    only = next(iter(types.values())) if len(types) == 1 else {}
    images = {name: rows for name, rows in made["images"].items() if name in states}
    return (
        provenance()
        | {
            "component": config.paths.component,
            "input": made["file"],
            "input_dim": int(np.prod(shape)),
            "shape": list(shape),
            "channels": list(config.preprocessing.preprocessor.channels),
            "n_images": sum(row["status"] == "ok" for rows in images.values() for row in rows),
            "sha256": made["file_sha256"],
        }
        | ({"crop_box": only["crop_box"]} if only else {})
        | {"photographs": {name: tried[name] for name in states}}  # of each type, also those that did not get this far
        | {"types": types, "settings": config.preprocessing.model_dump(), "made": [made | {"images": images}]}
    )


def _given_mask(path: str, setting: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask image that the settings name, in the reference frame."""
    where = f"preprocessing.preprocessor.{setting}: {path}"
    if not Path(path).is_file():
        raise ConfigError(f"{where} does not exist")
    try:
        mask = read_mask(Path(path))
    except InputError as error:
        raise ConfigError(f"{where} {error}") from error
    if mask.shape != shape:
        raise ConfigError(f"{where} is {mask.shape[1]}x{mask.shape[0]}, the reference is {shape[1]}x{shape[0]} pixels")
    return mask


def _ignored(regions: list[Box] | str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels that never count, of boxes or of a mask image in the reference frame."""
    if isinstance(regions, str):
        return _given_mask(regions, "ignore_regions", shape)
    try:
        return ignored_mask(shape, regions)
    except InputError as error:
        raise ConfigError(f"preprocessing.preprocessor.ignore_regions: {error}") from error
