"""Choose the photograph that defines the reference frame of a type."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.execution import map_parallel
from pixal.io.provenance import fingerprint
from pixal.tasks.photographs.alignment.reference import describe_appearance, most_typical
from pixal.tasks.photographs.preprocessing.background_step import CutOut, read_rgba
from pixal.tasks.photographs.preprocessing.folders import TypeFolder
from pixal.tasks.photographs.preprocessing.records import BackgroundRecord, SharedRecord

_log = logging.getLogger(__name__)


def choose_reference(
    folder: TypeFolder,
    records: Sequence[BackgroundRecord],
    cut_outs: Mapping[str, CutOut],
    earlier: SharedRecord | None,
    *,
    quiet: bool,
) -> BackgroundRecord:
    """Choose the reference: the photograph that the settings name, or the most typical one.

    Args:
        folder: The type's folders.
        records: The photographs with a foreground; at least one.
        cut_outs: Appearance descriptors that are already known, by the name of the cut-out photograph.
        earlier: The choice of an earlier run, which is kept if it was made among the same photographs.
        quiet: Whether to hide the progress bar.

    Raises:
        ConfigError: If the settings name a photograph that is not among them.
        InputError: If no cut-out photograph can be read.
    """
    if folder.reference is not None:
        return _find_named(folder, records, folder.reference)
    if earlier is not None and earlier.choice == choice_key(folder, records):
        return next(record for record in records if record.image == earlier.reference)
    sizes = [record.size for record in records]
    usual_size = max(sizes, key=sizes.count)
    candidates = [record for record in records if record.size == usual_size]
    work = partial(_describe, folder=folder.background_removed, cut_outs=cut_outs)
    step = f"{folder.name}: choosing the reference"
    descriptors = map_parallel(work, candidates, folder.config.execution, step=step, quiet=quiet)
    described = [
        (record, descriptor)
        for record, descriptor in zip(candidates, descriptors, strict=True)
        if descriptor is not None
    ]
    if not described:
        raise InputError(f"{folder.background_removed}: no cut-out photograph can be read; run remove_bg again")
    reference, _ = described[most_typical(np.stack([descriptor for _, descriptor in described]))]
    _log.info("%s: the reference is %s, the most typical photograph", folder.name, reference.image)
    return reference


def choice_key(folder: TypeFolder, records: Sequence[BackgroundRecord]) -> str:
    """Fingerprint of everything that the choice of the reference depends on."""
    return fingerprint("reference", folder.reference, [record.file_sha256 for record in records])


def _find_named(folder: TypeFolder, records: Sequence[BackgroundRecord], name: str) -> BackgroundRecord:
    for record in records:
        if name in (record.image, record.name):
            return record
    nearest = difflib.get_close_matches(name, [record.image for record in records], n=1, cutoff=0.0)[0]
    raise ConfigError(
        f"preprocessing.alignment.reference: {folder.name} has no usable photograph {name}; the nearest name is "
        f"{nearest} (a mapping names one photograph per type: {{{folder.name}: {nearest}}})"
    )


def _describe(record: BackgroundRecord, *, folder: Path, cut_outs: Mapping[str, CutOut]) -> NDArray[np.float32] | None:
    """The appearance descriptor of a cut-out photograph; None if it cannot be read, which its alignment reports."""
    file = str(record.file)
    if file in cut_outs:
        return cut_outs[file].descriptor
    try:
        return describe_appearance(*read_rgba(folder / file))
    except InputError:
        return None
