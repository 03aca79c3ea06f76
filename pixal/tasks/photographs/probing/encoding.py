"""The ``encode`` command: write the latent vectors of parts, for example for similarity search."""

from __future__ import annotations

import logging
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from pixal.io import ownership
from pixal.io.files import atomic_write, file_hash
from pixal.io.output_folders import claim_outputs
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.outcome import Outcome
from pixal.tasks.photographs.probing.sources import PartSource, ProbedPart, find_part_sources
from pixal.tasks.photographs.settings import PhotographConfig

_log = logging.getLogger(__name__)

LATENTS, MANIFEST, RECORD = "latents.npy", "manifest.csv", "latents.yaml"
_FILES = (RECORD, MANIFEST, LATENTS)  # the record first, because it holds the hashes of the others
MANIFEST_COLUMNS = ("row", "image", "source", "sha256")


def encode(
    input_path: str | Path,
    *,
    out: str | Path | None = None,
    config: PhotographConfig,
    quiet: bool = False,
) -> Outcome:
    """Write the latent vectors of each type; see ``pixal.encode``."""
    outcome = Outcome()
    sources = find_part_sources(input_path, config, quiet=quiet)
    if out is None:
        claim_outputs(config.paths, "component_model_path", [source.name for source in sources])
    folders = {
        source.name: config.paths.resolve("latents_path", source.name) if out is None else Path(out) / source.name
        for source in sources
    }
    ownership.refuse_strangers(
        folder / name for folder in folders.values() if not _is_from_encode(folder) for name in _FILES
    )
    for source in sources:
        folder = folders[source.name]
        if out is not None:
            ownership.claim(folder, adopted=[folder / name for name in _FILES if (folder / name).is_file()])
        outcome = outcome.combined_with(_encode(source, folder, quiet))
    return outcome.require_done(input_path)


def _is_from_encode(folder: Path) -> bool:
    """Whether a folder holds the latent vectors of a version without manifests."""
    return not ownership.is_claimed(folder) and (folder / RECORD).is_file() and (folder / MANIFEST).is_file()


def _encode(source: PartSource, folder: Path, quiet: bool) -> Outcome:
    files = [folder / name for name in _FILES]
    for old_file in files:
        ownership.remove(old_file)
    encoded: list[ProbedPart] = []
    length = 0
    with tempfile.TemporaryFile() as vectors:
        for parts, inputs in source.chunks(step=f"{source.name}: latents", quiet=quiet):
            latents = np.ascontiguousarray(source.family.latent(inputs, slice(None)), "<f4")
            length = latents.shape[1]
            vectors.write(latents.data)
            encoded += parts
        if encoded:
            _write_vectors(folder / LATENTS, vectors, (len(encoded), length))
    if encoded:
        rows = [{"row": row} | asdict(part) for row, part in enumerate(encoded)]
        write_table(folder / MANIFEST, MANIFEST_COLUMNS, rows)
        write_record(folder / RECORD, _record(source, (len(encoded), length), files[1:]))
        _log.info("%s: %d latent vectors of length %d in %s", source.name, len(encoded), length, folder)
    return Outcome(len(encoded), source.failures)


def _write_vectors(path: Path, vectors: IO[bytes], shape: tuple[int, int]) -> None:
    """Write an ``.npy`` file from raw values; its header holds the number of rows, which is known only at the end."""
    vectors.seek(0)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        npy_format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(vectors, file)


def _record(source: PartSource, shape: tuple[int, int], files: list[Path]) -> dict[str, Any]:
    record = source.model.record
    return provenance() | {
        "component": source.config.paths.component,
        "type": source.name,
        "model": record.model,
        "model_fingerprint": record.fingerprint,
        "n_images": shape[0],
        "latent_size": shape[1],
        "not_encoded": [{"image": failure.image, "reason": failure.reason} for failure in source.failures],
        "files": {path.name: file_hash(path) for path in files},
    }
