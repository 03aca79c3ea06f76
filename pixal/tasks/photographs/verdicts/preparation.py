"""Prepare the photographs of a batch for a trained model, with the preprocessing stored at training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config.section import Mark, marked, result_settings
from pixal.errors import AlignmentError, InputError, ModelError, PixalError
from pixal.execution import map_parallel
from pixal.inputs import InputSet
from pixal.io.files import FileStat, file_hash, file_stat
from pixal.io.images import read_image
from pixal.io.provenance import fingerprint
from pixal.io.records import write_table
from pixal.io.written_files import WrittenFiles, unchanged_files
from pixal.report.document import BatchOrigin
from pixal.tasks.photographs.alignment.align import align_photograph
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.foreground.methods import available_methods, find_foreground, model_hash
from pixal.tasks.photographs.parts import PhotographRecord, PreparedPart
from pixal.tasks.photographs.preprocessing import figures
from pixal.tasks.photographs.preprocessing.alignment_step import ALIGNMENT_COLUMNS
from pixal.tasks.photographs.preprocessing.figures import AlignmentFigures
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.preprocessing.input_step import common_shape, on_canvas
from pixal.tasks.photographs.preprocessing.prepare import prepare_photograph
from pixal.tasks.photographs.preprocessing.records import ValidationInputs
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import AlignmentSettings, PhotographConfig, RemoveBackground
from pixal.tasks.photographs.training.stored import TrainedModel, state_file

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownType:
    """The type that an earlier run chose for a photograph.

    Attributes:
        name: The type.
        stat: The ``file_stat`` of its file in that run; None if it was missing.
    """

    name: str
    stat: FileStat | None


class Preparation:
    """Makes a model's inputs from the photographs of one type.

    Attributes:
        type_name: The type.
        model: The model.
        state: The preprocessing stored with the model.
        shape: The shape (H, W, C) of an input.
        channels: Names of the input's channels.
        key: Fingerprint of everything that an input depends on, except the photograph.
    """

    def __init__(
        self,
        type_name: str,
        model: TrainedModel,
        config: PhotographConfig,
        *,
        draw_figures: bool = True,
        keep_photos: bool = False,
    ) -> None:
        """Prepare photographs of ``type_name`` for ``model``.

        Args:
            type_name: The type.
            model: The model.
            config: Today's settings. Limits of the alignment are taken from it, everything else from training.
            draw_figures: Whether to write the figures that the settings ask for.
            keep_photos: Whether to return each decoded photograph with its part.

        Raises:
            ModelError: If the background model used at training is not available.
        """
        self.type_name, self.model, self.config = type_name, model, config
        self._keep_photos = keep_photos
        self.state = model.states[type_name]
        _warn_of_other_settings(self.state, config)
        self.settings, self._background = _alignment_settings(self.state, config), _background(self.state, config)
        self.shape = common_shape(model.states.values())
        self.channels = tuple(self.state.settings.preprocessor.channels)
        self._folder = config.paths.resolve("validate_aligned_metrics_path", type_name)
        self._figures = None
        if draw_figures:
            self._figures = AlignmentFigures(self._folder, self.state.reference, "the reference", self.settings)
        self.state_sha256 = file_hash(state_file(model.folder, self.state.type_name))
        # The state holds its settings, and the hash of the background model.
        self.key = fingerprint("prepare", self.state_sha256, result_settings(self.settings))

    def __call__(self, photographs: list[Photograph]) -> Iterator[PreparedPart]:
        """Yield one prepared part per photograph, in order."""
        work = partial(
            prepare_photograph,
            state=self.state,
            background=self._background,
            alignment=self.settings,
            figures=self._figures,
            keep_photo=self._keep_photos,
        )
        parts = map_parallel(
            work,
            photographs,
            self.config.execution,
            step=self.type_name,
            workers=self.config.preprocessing.remove_background.max_workers,
            quiet=True,
        )
        for part in parts:
            for note in part.record.notes:
                _log.warning("%s/%s: %s", self.type_name, part.record.image, note)
            yield part if part.input is None else replace(part, input=on_canvas(part.input, self.shape))

    def inputs(self, images: Sequence[NDArray[np.float32]], names: Sequence[str]) -> InputSet:
        """The inputs of several parts, as the model takes them.

        Args:
            images: One input (H, W, C) per part.
            names: The file names of their photographs.
        """
        data = np.zeros((len(images), int(np.prod(self.shape))), np.float32)
        for row, image in zip(data, images, strict=True):
            row[:] = image.ravel()
        types = tuple(self.model.states) if self.model.owner is None else ()
        labels = None
        if types:
            labels = np.zeros((len(images), len(types)), np.float32)
            labels[:, types.index(self.type_name)] = 1
        return InputSet(data, self.shape, self.channels, tuple(names), labels, types)

    def unchanged_figures(self, record: PhotographRecord) -> WrittenFiles | None:
        """The figures of a photograph that was prepared earlier; None if one that the settings ask for is missing or
        changed.
        """
        files = figures.figure_files(self._folder, record.name, self.settings) if record.is_ok else []
        return unchanged_files(files, record.figures)

    def remove_other_figures(self, names: set[str]) -> None:
        """Delete the figures of photographs that are not among ``names``."""
        figures.remove_other_figures(self._folder, names, self.settings)

    def write_table(self, records: Iterable[PhotographRecord]) -> None:
        """Write the table of the alignment, with one row per photograph."""
        write_table(self._folder / "results.csv", ALIGNMENT_COLUMNS, [record.as_row() for record in records])

    def draw_metrics(self, records: Sequence[PhotographRecord]) -> None:
        """Draw how well the photographs were aligned, if the settings ask for it."""
        if figures.wants_metrics(self.settings):
            figures.save_alignment_metrics(self._folder / "metrics.png", records, self.settings, self.type_name)

    def write_record(self, records: Iterable[PhotographRecord], batch: BatchOrigin) -> None:
        """Write ``preprocessing.yaml``, which describes how the inputs in ``out.npz`` were made."""
        ValidationInputs(
            batch=batch,
            type=self.type_name,
            model=self.model.owner or self.config.paths.component,
            judged_by=other_model(self.type_name, self.model),
            key=self.key,
            preprocessing_sha256=self.state_sha256,
            background_method=self.state.method,
            channels=self.channels,
            shape=self.shape,
            settings=self.state.settings.model_copy(update={"alignment": self.settings}),
            images=tuple(records),
        ).write(self.config.paths.resolve("validate_metadata_path", self.type_name) / PREPROCESSING_RECORD)


def other_model(type_name: str, model: TrainedModel) -> str | None:
    """The type or file whose model validates ``type_name``, as the user named it; None if it is its own model."""
    if model.file is not None:
        return model.file
    return None if model.owner in (None, type_name) else model.owner


def choose_types(
    photographs: list[Photograph],
    model: TrainedModel,
    config: PhotographConfig,
    quiet: bool,
    known: Mapping[Path, KnownType],
) -> dict[str, list[Photograph]]:
    """Sort the photographs of a mixed folder by type: the type whose reference gives the most inliers.

    A photograph that aligns to no reference goes to the first type, whose preparation then reports the reason.

    Args:
        photographs: The photographs.
        model: The model that serves all types.
        config: Today's settings.
        quiet: Whether to hide the progress bar.
        known: Types chosen earlier, by absolute path.
    """
    backgrounds = {name: _background(state, config) for name, state in model.states.items()}
    alignments = {name: _alignment_settings(state, config) for name, state in model.states.items()}
    work = partial(_choose_type, states=model.states, backgrounds=backgrounds, alignments=alignments, known=known)
    names = map_parallel(work, photographs, config.execution, step="finding each part's type", quiet=quiet)
    sorted_by_type: dict[str, list[Photograph]] = {}
    for photograph, name in zip(photographs, names, strict=True):
        sorted_by_type.setdefault(name, []).append(replace(photograph, type_name=name))
    return dict(sorted(sorted_by_type.items()))


def _choose_type(
    photograph: Photograph,
    *,
    states: dict[str, PreprocessingState],
    backgrounds: dict[str, RemoveBackground],
    alignments: dict[str, AlignmentSettings],
    known: Mapping[Path, KnownType],
) -> str:
    first = next(iter(states))
    earlier = known.get(photograph.path.absolute())
    try:
        if earlier is not None and earlier.name in states and earlier.stat == file_stat(photograph.path):
            return earlier.name
        image = read_image(photograph.path)
    except InputError:
        return first
    masks = _masks(image, set(backgrounds.values()))
    inliers = dict.fromkeys(states, -1)
    for name, state in states.items():
        mask = masks.get(backgrounds[name])
        if mask is not None:
            with suppress(InputError, AlignmentError):
                inliers[name] = align_photograph(image[..., :3], mask, state.reference, alignments[name]).inliers
    return max(inliers, key=lambda name: inliers[name])


def _masks(image: NDArray[Any], backgrounds: Iterable[RemoveBackground]) -> dict[RemoveBackground, NDArray[np.bool_]]:
    """The foreground mask of each method. Methods that find no part are left out."""
    masks = {}
    for settings in backgrounds:
        with suppress(InputError):
            masks[settings] = find_foreground(image, settings).mask
    return masks


def _alignment_settings(state: PreprocessingState, config: PhotographConfig) -> AlignmentSettings:
    """The alignment settings of training, with those that a batch may change taken from today's configuration."""
    batch_keys = marked(AlignmentSettings, Mark.PER_BATCH) | marked(AlignmentSettings, Mark.NO_RESULT)
    return state.settings.alignment.model_copy(
        update={key: getattr(config.preprocessing.alignment, key) for key in batch_keys}
    )


def _warn_of_other_settings(state: PreprocessingState, config: PhotographConfig) -> None:
    """Log a warning if today's settings differ from those of training where a batch may not change them."""
    per_batch = marked(AlignmentSettings, Mark.PER_BATCH)
    today, training = result_settings(config.preprocessing), result_settings(state.settings)
    changed = [
        f"{section}.{key}"
        for section in ("alignment", "preprocessor")
        for key, value in today[section].items()
        if value not in ("auto", training[section][key]) and not (section == "alignment" and key in per_batch)
    ]
    if changed:
        _log.warning(
            "%s: using the settings stored at training, not today's %s; to use these, run preprocess and train again",
            state.type_name,
            ", ".join(changed),
        )


def _background(state: PreprocessingState, config: PhotographConfig) -> RemoveBackground:
    """The background settings of training; the model file may be in another place if it is the same file."""
    file = config.preprocessing.remove_background.model_file
    settings = state.settings.remove_background
    settings = settings if file is None else settings.model_copy(update={"model_file": file})
    try:
        available_methods(settings)
        same = model_hash(settings) == state.background_model_sha256
    except PixalError as error:
        raise ModelError(f"{state.type_name} was trained with background method {state.method}: {error}") from error
    if not same:
        raise ModelError(
            f"{state.type_name} was trained with another file of the background model {settings.model}; "
            "use that file, or run preprocess and train again"
        )
    return settings
