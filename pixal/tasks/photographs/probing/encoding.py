"""The encode command: the latent vectors of photographs, for similarity search and the like."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from pixal.io.files import atomic_write, file_hash
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.outcome import Outcome
from pixal.tasks.photographs.probing.parts import Parts, Row, find_parts
from pixal.tasks.photographs.settings import PhotographConfig

_log = logging.getLogger(__name__)

LATENTS, MANIFEST, RECORD = "latents.npy", "manifest.csv", "latents.yaml"
MANIFEST_COLUMNS = ("row", "image", "source", "sha256")


def encode(
    input_path: str | Path,
    *,
    out: str | Path | None = None,
    config: PhotographConfig,
    quiet: bool = False,
) -> Outcome:
    """See ``pixal.encode``."""
    outcome = Outcome()
    for parts in find_parts(input_path, config, quiet=quiet):
        folder = config.paths.resolve("latents_path", parts.name) if out is None else Path(out) / parts.name
        outcome = outcome.combined_with(_encode(parts, folder, quiet))
    return outcome.require_done(input_path)


def _encode(parts: Parts, folder: Path, quiet: bool) -> Outcome:
    files = [folder / name for name in (RECORD, MANIFEST, LATENTS)]
    for stale in files:  # first the record, which vouches for the others
        stale.unlink(missing_ok=True)
    found: list[Row] = []
    length = 0
    with tempfile.TemporaryFile() as vectors:
        for rows, inputs in parts.portions(step=f"{parts.name}: latents", quiet=quiet):
            latents = np.ascontiguousarray(parts.family.latent(inputs, slice(None)), "<f4")
            length = latents.shape[1]
            vectors.write(latents.data)
            found += [{"row": len(found) + index} | row for index, row in enumerate(rows)]
        if found:
            _write_vectors(folder / LATENTS, vectors, (len(found), length))
    if found:
        write_table(folder / MANIFEST, MANIFEST_COLUMNS, found)
        write_record(folder / RECORD, _record(parts, (len(found), length), files[1:]))
        _log.info("%s: %d latent vectors of %d numbers in %s", parts.name, len(found), length, folder)
    return Outcome(len(found), parts.failures)


def _write_vectors(path: Path, vectors: IO[bytes], shape: tuple[int, int]) -> None:
    """Write an ``.npy`` of what is in a file: its header says how many rows there are, so it comes last."""
    vectors.seek(0)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        npy_format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        shutil.copyfileobj(vectors, file)


def _record(parts: Parts, shape: tuple[int, int], files: list[Path]) -> dict[str, Any]:
    params = parts.model.params
    return provenance() | {
        "component": parts.config.paths.component,
        "type": parts.name,
        "model": params["model"],
        "model_fingerprint": params.get("fingerprint"),
        "n_images": shape[0],
        "latent_size": shape[1],
        "not_encoded": [{"image": failure.image, "reason": failure.reason} for failure in parts.failures],
        "files": {path.name: file_hash(path) for path in files},
    }
