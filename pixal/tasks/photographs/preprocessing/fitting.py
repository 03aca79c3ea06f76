"""Fit the preprocessing of a type to its aligned photographs: consensus mask, ignored regions, crop box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.execution import Submit
from pixal.io.files import file_hash
from pixal.io.images import read_mask
from pixal.io.provenance import fingerprint
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.consensus import consensus_mask, crop_box, ignored_mask
from pixal.tasks.photographs.preprocessing import figures
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT,
    BACKGROUND,
    REFERENCE_FILE,
    STATE_FILE,
    TypeFolder,
)
from pixal.tasks.photographs.preprocessing.reference_file import ReferenceFile
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import Preprocessor


def fit_state(folder: TypeFolder, submit: Submit, *, force: bool) -> PreprocessingState:
    """Fit the preprocessing of a type, write it to the metadata folder, and draw its figures.

    Args:
        folder: The type's folders.
        submit: Runs calls that draw figures in the background.
        force: Whether to draw the figures even if they show the same already.

    Raises:
        InputError: If the alignment step has to run again, or nothing is left of the part.
        ConfigError: If a setting does not fit the photographs.
    """
    reference_file, state_file = folder.metadata / REFERENCE_FILE, folder.metadata / STATE_FILE
    shared = ReferenceFile.load(reference_file)
    # The records tell what "auto" stood for, and which network was used.
    background, alignment = folder.read(BACKGROUND), folder.read(ALIGNMENT)
    settings, (height, width) = folder.config.preprocessing.preprocessor, shared.fraction.shape
    pooling = settings.pooling(height * width, texture=alignment.settings.is_texture)
    settings = settings.model_copy(update={"pool_size": pooling})
    if pooling > max(height, width):
        raise ConfigError(
            f"preprocessing.preprocessor.pool_size: {pooling} is larger than the photographs of "
            f"{folder.name}, {width}x{height} pixels"
        )
    consensus = _consensus(folder.name, shared.fraction, settings)
    used = {"remove_background": background.settings, "alignment": alignment.settings, "preprocessor": settings}
    state = PreprocessingState(
        type_name=folder.name,
        reference=shared.reference,
        consensus=consensus,
        ignored=_ignored(folder.name, consensus.shape, settings),
        box=_box(consensus, shared.brightness, settings, pooling),
        background_model_sha256=background.model_sha256,
        settings=folder.config.preprocessing.model_copy(update=used),
    )
    if not state.mask.any():
        raise ConfigError(f"preprocessing.preprocessor: mask and ignore_regions leave nothing of {folder.name}")
    state.save(state_file)
    left_out = alignment.made[0].left_out_of_consensus
    key = fingerprint("crop figures", file_hash(state_file), file_hash(reference_file), left_out)
    if force or not figures.are_current(figures.crop_figure_paths(folder.figures), key):
        submit(figures.save_crop_figures, folder.figures, state, shared.fraction, shared.brightness, left_out, key=key)
    return state


def _consensus(type_name: str, fraction: NDArray[np.float32], settings: Preprocessor) -> NDArray[np.bool_]:
    """The mask (H, W) that the settings name, or the consensus of the photographs' masks."""
    path = settings.mask.get(type_name) if isinstance(settings.mask, dict) else settings.mask
    if path is not None:
        return _read_mask(path, "mask", fraction.shape)
    return consensus_mask(fraction, settings.consensus)


def _box(consensus: NDArray[np.bool_], brightness: NDArray[np.float32], settings: Preprocessor, pooling: int) -> Box:
    if not settings.zero_pruning:
        return Box(0, 0, consensus.shape[1], consensus.shape[0])
    return crop_box(
        consensus,
        brightness,
        bg_threshold=settings.bg_threshold,
        padding=settings.zero_pruning_padding,
        multiple=pooling,
    )


def _ignored(type_name: str, shape: tuple[int, ...], settings: Preprocessor) -> NDArray[np.bool_]:
    """The pixels (H, W) that are never compared, from boxes or from a mask image."""
    regions = settings.ignore_regions.get(type_name, [])
    if isinstance(regions, str):
        return _read_mask(regions, "ignore_regions", shape)
    try:
        return ignored_mask((shape[0], shape[1]), regions)
    except InputError as error:
        raise ConfigError(f"preprocessing.preprocessor.ignore_regions: {error}") from error


def _read_mask(path: str, setting: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read a mask image that the settings name; it must have the size of the reference."""
    source = f"preprocessing.preprocessor.{setting}: {path}"
    if not Path(path).is_file():
        raise ConfigError(f"{source} does not exist")
    try:
        mask = read_mask(Path(path))
    except InputError as error:
        raise ConfigError(f"{source} {error}") from error
    if mask.shape != shape:
        raise ConfigError(f"{source} is {mask.shape[1]}x{mask.shape[0]}, the reference is {shape[1]}x{shape[0]} pixels")
    return mask
