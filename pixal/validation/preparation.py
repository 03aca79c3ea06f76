"""Bring a batch's photographs into the frame a model was trained in, with what training stored."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config import Config
from pixal.config.schema import Alignment as AlignmentSettings
from pixal.config.schema import RemoveBackground
from pixal.errors import AlignmentError, InputError, ModelError, PixalError
from pixal.execution import map_parallel
from pixal.images import Photograph, read_image
from pixal.inputs import InputSetWriter
from pixal.preprocessing import pictures
from pixal.preprocessing.alignment import align_photograph, warp
from pixal.preprocessing.background import choose_method, find_foreground, model_hash
from pixal.preprocessing.folders import PREPROCESSING_RECORD
from pixal.preprocessing.run_alignment import ALIGNMENT_COLUMNS, alignment_row
from pixal.preprocessing.run_background import other_part
from pixal.preprocessing.run_input import common_shape, cut_note, on_canvas
from pixal.preprocessing.state import NO_PIXEL, PreprocessingState
from pixal.records import file_hash, provenance, run_log, write_record, write_table
from pixal.train_model.model_folder import TrainedModel, state_file

_log = logging.getLogger(__name__)

# Limits may be tightened or loosened for a batch; everything else must be as in training.
_GATES = (
    "MIN_SCORE_THRESHOLD",
    "MAX_MSE_THRESHOLD",
    "MIN_GOOD_MATCHES",
    "MIN_OVERLAP",
    "draw_matches",
    "save_metrics",
    "save_overlays",
)


def prepare(
    type_name: str, photographs: list[Photograph], model: TrainedModel, config: Config, quiet: bool
) -> list[dict[str, Any]]:
    """Make the inputs of a type's photographs: ``validate/COMPONENT/TYPE/out.npz`` and its record.

    Returns a row a photograph, with status ok or failed.
    """
    state = model.states[type_name]
    settings, background = _settings(state, config), _background(state, config)
    folder = config.paths.resolve("component_validate_path", type_name)
    figures = config.paths.resolve("validate_aligned_metrics_path", type_name)
    with run_log(config.paths.resolve("validate_log_path", type_name), "validate"):
        work = partial(_prepare_one, state=state, settings=settings, background=background, figures=figures)
        step = f"{type_name}: preprocessing"
        rows: list[dict[str, Any]] = []
        shape = common_shape(model.states.values())
        types = list(model.states) if model.owner is None else ()
        with InputSetWriter(
            folder / config.preprocessing.preprocessor.file_name, shape, _channels(state), types
        ) as out:
            for row, image in map_parallel(
                work,
                photographs,
                config.execution,
                step=step,
                workers=config.preprocessing.remove_background.max_workers,
                quiet=quiet,
            ):
                rows.append(row)
                for note in row.get("notes", ()):
                    _log.warning("%s/%s: %s", type_name, row["image"], note)
                if image is not None:
                    out.append(on_canvas(image, shape), row["image"], type_name)
        write_table(figures / "results.csv", ALIGNMENT_COLUMNS, rows)
        if settings.save_metrics:
            pictures.save_alignment_metrics(figures / "metrics.png", rows, settings, type_name)
        write_record(
            config.paths.resolve("validate_metadata_path", type_name) / PREPROCESSING_RECORD,
            provenance()
            | {
                "type": type_name,
                "model": model.owner or config.paths.component,
                "preprocessing_sha256": file_hash(state_file(model.folder, type_name)),
                "background_method": state.method,
                "channels": list(_channels(state)),
                "shape": list(shape),
                "settings": state.settings.model_dump() | {"alignment": settings.model_dump()},
                "images": rows,
            },
        )
    return rows


def choose_types(
    photographs: list[Photograph], model: TrainedModel, config: Config, quiet: bool
) -> dict[str, list[Photograph]]:
    """Give each photograph of a mixed folder the type whose reference it aligns to with the most inliers.

    One that aligns to none goes to the first type, whose preparation then says why it does not align.
    """
    backgrounds = {name: _background(state, config) for name, state in model.states.items()}
    work = partial(_best_type, states=model.states, backgrounds=backgrounds, settings=config.preprocessing.alignment)
    chosen = map_parallel(work, photographs, config.execution, step="finding each part's type", quiet=quiet)
    found: dict[str, list[Photograph]] = {}
    for photo, name in zip(photographs, chosen, strict=True):
        found.setdefault(name, []).append(Photograph(name, photo.path, photo.image, photo.name))
    return dict(sorted(found.items()))


def _best_type(
    photo: Photograph,
    *,
    states: dict[str, PreprocessingState],
    backgrounds: dict[str, RemoveBackground],
    settings: AlignmentSettings,
) -> str:
    best, most = next(iter(states)), -1
    for name, state in states.items():
        try:
            image = read_image(photo.path)
            mask = find_foreground(image, backgrounds[name]).mask
            inliers = align_photograph(image[..., :3], mask, state.reference, settings).inliers
        except (InputError, AlignmentError):
            continue
        if inliers > most:
            best, most = name, inliers
    return best


def _prepare_one(
    photo: Photograph,
    *,
    state: PreprocessingState,
    settings: AlignmentSettings,
    background: RemoveBackground,
    figures: Path,
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    row: dict[str, Any] = {"image": photo.image, "name": photo.name, "source": photo.path, "status": "failed"}
    try:
        image = read_image(photo.path)
        row |= {"sha256": file_hash(photo.path), "width": image.shape[1], "height": image.shape[0]}
        foreground = find_foreground(image, background)
        image = np.ascontiguousarray(image[..., :3])
    except InputError as error:
        return row | {"reason": str(error)}, None
    drawn = (state.reference, "the reference", settings)
    try:
        result = align_photograph(image, foreground.mask, state.reference, settings)
    except InputError as error:
        return row | {"reason": str(error)}, None
    except AlignmentError as error:
        pictures.save_failure_picture(figures, photo.name, image, foreground.mask, str(error), *drawn)
        return row | {"reason": str(error)}, None
    row |= alignment_row(result)
    pictures.save_alignment_pictures(figures, photo.name, image, result, *drawn, foreground.mask)
    if result.reason:
        return row | {"reason": result.reason}, None
    moved = warp(foreground.mask.astype(np.uint8), result.homography, nearest=True) > 0
    notes = [other_part(box) for box in foreground.others]
    notes += [note] if (note := cut_note(moved, state.box)) else []
    return row | {"status": "ok", "reason": "", "notes": notes}, state.to_input(result.aligned)


def _settings(state: PreprocessingState, config: Config) -> AlignmentSettings:
    """The alignment settings of training with today's limits; says so where other settings have changed since."""
    now = config.preprocessing.model_dump(exclude=NO_PIXEL)
    then = state.settings.model_dump(exclude=NO_PIXEL)
    changed = [
        f"{section}.{key}"
        for section in ("alignment", "preprocessor")
        for key, value in now[section].items()
        if key not in _GATES and value != then[section][key]
    ]
    if changed:
        _log.warning(
            "%s: validated with the settings it was trained with; preprocess and train again to use what changed: %s",
            state.type_name,
            ", ".join(changed),
        )
    gates = {key: getattr(config.preprocessing.alignment, key) for key in _GATES}
    return state.settings.alignment.model_copy(update=gates)


def _background(state: PreprocessingState, config: Config) -> RemoveBackground:
    """The background settings of training; a model file may lie elsewhere here, if it is the same file."""
    file = config.preprocessing.remove_background.model_file
    settings = state.settings.remove_background
    settings = settings if file is None else settings.model_copy(update={"model_file": file})
    try:
        same = model_hash(choose_method(settings)) == state.background_model_sha256
    except PixalError as error:
        raise ModelError(f"{state.type_name} was trained with background method {state.method}: {error}") from error
    if not same:
        raise ModelError(
            f"{state.type_name} was trained with another file of the background model {settings.model}; "
            "put that one in its place, or preprocess and train again"
        )
    return settings


def _channels(state: PreprocessingState) -> tuple[str, ...]:
    return tuple(state.settings.preprocessor.channels)
