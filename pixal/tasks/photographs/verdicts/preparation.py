"""Bring a batch's photographs into the frame a model was trained in, with what training stored."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import AlignmentError, InputError, ModelError, PixalError
from pixal.execution import map_parallel
from pixal.inputs import InputSet
from pixal.io.files import data_hash, file_hash, read_bytes
from pixal.io.images import decode_image, read_image
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import write_record, write_table
from pixal.tasks.photographs.alignment.align import align_photograph, warp
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.foreground.methods import choose_method, find_foreground, model_hash
from pixal.tasks.photographs.preprocessing import figures as pictures
from pixal.tasks.photographs.preprocessing.alignment_step import ALIGNMENT_COLUMNS, alignment_row
from pixal.tasks.photographs.preprocessing.background_step import other_part
from pixal.tasks.photographs.preprocessing.conditions import measure_conditions
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.preprocessing.input_step import common_shape, cut_note, on_canvas
from pixal.tasks.photographs.preprocessing.state import NO_PIXEL, PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings, PhotographConfig, RemoveBackground
from pixal.tasks.photographs.training.stored import TrainedModel, state_file

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


class Preparation:
    """Makes the inputs of one type's photographs as a model needs them."""

    def __init__(self, type_name: str, model: TrainedModel, config: PhotographConfig, *, draws: bool = True) -> None:
        """``draws``: the pictures that the settings ask for.

        Raises ModelError where the background model of training is not at hand.
        """
        self.type_name, self.model, self.config, self._draws = type_name, model, config, draws
        self.state = model.states[type_name]
        self.settings, self.background = _settings(self.state, config), _background(self.state, config)
        self.shape = common_shape(model.states.values())
        self.channels = tuple(self.state.settings.preprocessor.channels)
        self.figures = config.paths.resolve("validate_aligned_metrics_path", type_name)
        self.state_sha256 = file_hash(state_file(model.folder, self.state.type_name))
        # With the model's file the state's hash says all the rest: its settings are in it.
        self.key = fingerprint("prepare", self.state_sha256, self.settings.model_dump())

    def __call__(self, photographs: list[Photograph]) -> Iterator[tuple[dict[str, Any], NDArray[np.float32] | None]]:
        """Yield a row of the record for each photograph, status ok or failed, and its input (H, W, C) if ok."""
        work = partial(
            _prepare_one,
            state=self.state,
            settings=self.settings,
            background=self.background,
            figures=self.figures if self._draws else None,
        )
        workers = self.config.preprocessing.remove_background.max_workers
        for row, image in map_parallel(
            work, photographs, self.config.execution, step=self.type_name, workers=workers, quiet=True
        ):
            for note in row.get("notes", ()):
                _log.warning("%s/%s: %s", self.type_name, row["image"], note)
            yield row, None if image is None else on_canvas(image, self.shape)

    def inputs(self, images: Sequence[NDArray[np.float32]], names: Sequence[str]) -> InputSet:
        """Images (H, W, C), by the names of their photographs, as the model takes them."""
        data = np.zeros((len(images), int(np.prod(self.shape))), np.float32)
        for row, image in zip(data, images, strict=True):
            row[:] = image.ravel()
        types = tuple(self.model.states) if self.model.owner is None else ()
        labels = None
        if types:
            labels = np.zeros((len(images), len(types)), np.float32)
            labels[:, types.index(self.type_name)] = 1
        return InputSet(data, self.shape, self.channels, tuple(names), labels, types)

    def pictures_are_there(self, row: dict[str, Any]) -> bool:
        """Whether a photograph that was prepared before has the pictures that the settings ask for."""
        return row["status"] != "ok" or pictures.are_there(self.figures, row["name"], self.settings)

    def remove_others(self, names: set[str]) -> None:
        """Delete the pictures of photographs that are not among ``names``."""
        pictures.remove_other_pictures(self.figures, names, self.settings)

    def write_table(self, rows: list[dict[str, Any]]) -> None:
        """Write the alignment's table: a row a photograph."""
        write_table(self.figures / "results.csv", ALIGNMENT_COLUMNS, rows)

    def draw_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Draw the alignment's figures of merit, where the settings ask for it."""
        if self.settings.save_metrics:
            pictures.save_alignment_metrics(self.figures / "metrics.png", rows, self.settings, self.type_name)

    def write_record(self, rows: list[dict[str, Any]]) -> None:
        """Write the record that says of what ``out.npz`` was made."""
        write_record(
            self.config.paths.resolve("validate_metadata_path", self.type_name) / PREPROCESSING_RECORD,
            provenance()
            | {
                "type": self.type_name,
                "model": self.model.owner or self.config.paths.component,
                "judged_by": other_model(self.type_name, self.model),
                "key": self.key,
                "preprocessing_sha256": self.state_sha256,
                "background_method": self.state.method,
                "channels": list(self.channels),
                "shape": list(self.shape),
                "settings": self.state.settings.model_dump() | {"alignment": self.settings.model_dump()},
                "images": rows,
            },
        )


def other_model(type_name: str, model: TrainedModel) -> str | None:
    """The type whose model judges ``type_name``, as it was named; None where it is its own."""
    return None if model.owner in (None, type_name) else model.owner


def file_stat(path: Path) -> list[int]:
    """Size and time of a file, by which a change shows. Raises InputError where there is none."""
    try:
        found = path.stat()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    return [found.st_size, found.st_mtime_ns]


def choose_types(
    photographs: list[Photograph],
    model: TrainedModel,
    config: PhotographConfig,
    quiet: bool,
    known: Mapping[Path, tuple[str, list[int]]],
) -> dict[str, list[Photograph]]:
    """Give each photograph of a mixed folder the type whose reference it aligns to with the most inliers.

    One that aligns to none goes to the first type, whose preparation then says why it does not align. ``known``: types
    found before, by path, with the file's size and time.
    """
    backgrounds = {name: _background(state, config) for name, state in model.states.items()}
    work = partial(
        _best_type, states=model.states, backgrounds=backgrounds, settings=config.preprocessing.alignment, known=known
    )
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
    known: Mapping[Path, tuple[str, list[int]]],
) -> str:
    name, stat = known.get(photo.path.absolute(), ("", []))
    with suppress(InputError):
        if name in states and stat == file_stat(photo.path):
            return name
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
    figures: Path | None,
) -> tuple[dict[str, Any], NDArray[np.float32] | None]:
    row: dict[str, Any] = {"image": photo.image, "name": photo.name, "source": photo.path, "status": "failed"}
    try:
        row["stat"] = file_stat(photo.path)
        data = read_bytes(photo.path)
        row["sha256"] = data_hash(data)
        image = decode_image(data)
    except InputError as error:
        return row | {"reason": str(error), "unreadable": True}, None
    row |= {"width": image.shape[1], "height": image.shape[0]}
    try:
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
        if figures is not None:
            pictures.save_failure_picture(figures, photo.name, image, foreground.mask, str(error), *drawn)
        return row | {"reason": str(error)}, None
    row |= alignment_row(result)
    if figures is not None:
        pictures.save_alignment_pictures(figures, photo.name, image, result, *drawn, foreground.mask)
    if result.reason:
        return row | {"reason": result.reason}, None
    moved = warp(foreground.mask.astype(np.uint8), result.homography, nearest=True) > 0
    notes = [other_part(box) for box in foreground.others]
    notes += [note] if (note := cut_note(moved, state.box)) else []
    row |= {"status": "ok", "reason": "", "notes": notes} | measure_conditions(result.aligned, state.part)
    return row, state.to_input(result.aligned)


def _settings(state: PreprocessingState, config: PhotographConfig) -> AlignmentSettings:
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


def _background(state: PreprocessingState, config: PhotographConfig) -> RemoveBackground:
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
