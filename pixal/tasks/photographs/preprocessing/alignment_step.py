"""Second step: from cut-out photographs to photographs in the frame of one reference a type."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.execution import Submit, map_parallel
from pixal.io.arrays import save_arrays
from pixal.io.files import data_hash, file_hash, is_newer, read_bytes, write_bytes
from pixal.io.images import decode_image, encode_image, with_alpha
from pixal.io.journal import Row, made_before
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import read_record, write_record, write_table
from pixal.outcome import Outcome
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.reference import describe_appearance, most_typical
from pixal.tasks.photographs.network_input.consensus import Consensus
from pixal.tasks.photographs.parts import AlignedImageRecord, pose_values
from pixal.tasks.photographs.preprocessing import figures as pictures
from pixal.tasks.photographs.preprocessing.background_step import CutOut, read_rgba, split_alpha
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT_RECORD,
    BACKGROUND_RECORD,
    REFERENCE_FILE,
    TypeFolder,
    remove_others,
)
from pixal.tasks.photographs.preprocessing.prepare import AlignmentFailure, align_part
from pixal.tasks.photographs.settings import AlignmentSettings

_log = logging.getLogger(__name__)

Planes = tuple[NDArray[np.bool_], NDArray[np.uint8]]
"""A photograph's mask and grey levels in the reference frame, each (H, W)."""

ALIGNMENT_COLUMNS = (
    *("image", "status", "reason", "inliers", "inlier_ratio", "ssim", "mse"),
    *(f"h{row}{column}" for row in range(3) for column in range(3)),
)
_NO_PIXEL = {"draw_matches", "save_metrics", "save_overlays", "reference"}  # settings that change no aligned photograph


def align_type(
    folder: TypeFolder, cut_outs: Mapping[str, CutOut], draw: Submit, *, force: bool, quiet: bool
) -> Outcome:
    """Align a type's cut-out photographs; write them, their table and pictures, and what they have in common.

    ``cut_outs``: the masks of the photographs that the step before has just made, by file; the others are read.
    ``draw``: takes the figures to be drawn. What an earlier run made of the same files, reference and settings stays.
    """
    name, settings = str(folder.name), folder.config.preprocessing.alignment
    rows = read_record(folder.metadata / BACKGROUND_RECORD)["images"]
    usable = [row for row in rows if row["status"] == "ok"]
    if not usable:  # each is a failure of the step before
        _log.error("%s: none of its %d photographs shows a part; the type is left out", name, len(rows))
        return Outcome()
    with log_to_file(folder.logs, "align"), folder.start(ALIGNMENT_RECORD, force=force) as journal:
        execution = folder.config.execution
        common = journal.rows.get(REFERENCE_FILE)
        first = _reference_row(folder, usable, cut_outs, common, quiet)
        reference = Reference.from_photograph(
            *read_rgba(folder.background_removed / first["file"]), settings.number_of_points
        )
        align_one = _AlignOne(
            folder.background_removed,
            folder.aligned,
            folder.aligned_metrics,
            reference,
            first["image"],
            file_hash(folder.background_removed / first["file"]),
            settings,
        )
        jobs = [(row, cut_outs.get(row["file"]), journal.rows.get(_aligned_name(row))) for row in usable]
        done: list[Row] = []
        kept: list[Row] = []
        consensus = Consensus()
        for row, planes in map_parallel(align_one, jobs, execution, step=f"{name}: alignment", quiet=quiet):
            done.append(row)
            if planes is not None:
                journal.add(row)
                consensus.add(row["image"], *planes)
            elif row["status"] == "ok":
                kept.append(row)
        if kept:
            _log.info("%s: %d of %d photographs were aligned before", name, len(kept), len(usable))
        aligned = [row for row in done if row["status"] == "ok"]
        remove_others(folder.aligned, {row["file"] for row in aligned})
        by_image = {row["image"]: row for row in done}
        table, metrics = folder.aligned_metrics / "results.csv", folder.aligned_metrics / "metrics.png"
        write_table(table, ALIGNMENT_COLUMNS, [by_image.get(row["image"], row) for row in rows])
        drawn = {row["name"] for row in done if "h00" in row or row["reason"].startswith("not aligned")}
        pictures.remove_other_figures(folder.aligned_metrics, drawn, settings)
        if settings.save_metrics and (len(kept) < len(usable) or not is_newer(metrics, table)):
            shown = {*AlignedImageRecord.model_fields}
            records = [AlignedImageRecord.model_validate({k: row[k] for k in row if k in shown}) for row in done]
            draw(pictures.save_alignment_metrics, metrics, records, settings, name, reference=first["image"])
        if not aligned:
            _log.error("%s: none of its %d photographs can be aligned; the type is left out", name, len(done))
            return Outcome.from_rows(name, "alignment", done)
        key = fingerprint("common", align_one.reference_sha256, [row["file_sha256"] for row in aligned])
        if not made_before(common, key, folder.metadata):
            read = partial(_read_planes, folder=folder.aligned)
            for row, planes in map_parallel(read, kept, execution, step=f"{name}: masks", quiet=quiet or not kept):
                consensus.add(row["image"], *planes)
            common = _save_common(folder, reference, consensus)
            common |= {"key": key, "choice": _choice(folder, usable), "reference": first["image"]}
        write_record(
            folder.metadata / ALIGNMENT_RECORD,
            provenance()
            | {"reference": first["image"], "settings": settings.model_dump(), "images": done, "made": [common]},
        )
    return Outcome.from_rows(name, "alignment", done)


@dataclass(frozen=True)
class _AlignOne:
    """Aligns one photograph; gives its row, and its planes if it has just been aligned.

    source: the cut-out photographs. target: the aligned ones. figures: their pictures.
    reference_name, reference_sha256: the photograph that is the reference, and the SHA-256 of its cut-out.
    """

    source: Path
    target: Path
    figures: Path
    reference: Reference
    reference_name: str
    reference_sha256: str
    settings: AlignmentSettings

    def __call__(self, job: tuple[Row, CutOut | None, Row | None]) -> tuple[Row, Planes | None]:
        cut_out_row, cut_out, previous = job
        row = {key: cut_out_row[key] for key in ("image", "name", "source", "sha256")} | {"status": "failed"}
        try:
            # With the mask in hand the photograph itself is read, which takes a sixth of the PNG's time.
            data = read_bytes(Path(row["source"]) if cut_out else self.source / cut_out_row["file"])
            sha256 = cut_out_row["file_sha256"] if cut_out else data_hash(data)
            key = fingerprint("align", sha256, self.reference_sha256, self.settings.model_dump(exclude=_NO_PIXEL))
            made = made_before(previous, key, self.target)
            if made and pictures.figures_exist(self.figures, row["name"], self.settings):
                return made | row | {"status": "ok"}, None
            if not cut_out:
                image, mask = split_alpha(decode_image(data))
            elif data_hash(data) == row["sha256"]:
                image, mask = np.ascontiguousarray(decode_image(data)[..., :3]), cut_out.mask
            else:
                raise InputError("was changed while it was being processed; run preprocess again")
        except InputError as error:
            return row | {"reason": str(error)}, None
        aligned = align_part(
            image,
            mask,
            self.reference,
            self.settings,
            name=row["name"],
            figures=pictures.AlignmentFigures(self.figures, self.reference, self.reference_name, self.settings),
        )
        if aligned.alignment is not None:
            row |= pose_values(aligned.alignment)
        if isinstance(aligned, AlignmentFailure):
            return row | {"reason": aligned.reason}, None
        encoded = encode_image(".png", with_alpha(aligned.image, aligned.mask))
        row |= {"status": "ok", "reason": "", "file": _aligned_name(cut_out_row), "key": key}
        row["file_sha256"] = data_hash(encoded)
        write_bytes(self.target / row["file"], encoded)
        return row, (aligned.mask, pictures.grey(aligned.image))


def _aligned_name(row: Row) -> str:
    return f"{row['file'].removesuffix('_no_bg.png')}_aligned.png"


def _read_planes(row: Row, *, folder: Path) -> tuple[Row, Planes]:
    """The planes of a photograph that was aligned before."""
    image, mask = read_rgba(folder / row["file"])
    return row, (mask, pictures.grey(image))


def _reference_row(
    folder: TypeFolder, rows: list[Row], cut_outs: Mapping[str, CutOut], common: Row | None, quiet: bool
) -> Row:
    """The row of the photograph that defines the frame: the one the settings name, or the one most like the others."""
    wanted = _named_reference(folder)
    if wanted is not None:
        found = [row for row in rows if wanted in (row["image"], row["name"])]
        if not found:
            nearest = difflib.get_close_matches(wanted, [row["image"] for row in rows], n=1, cutoff=0.0)[0]
            raise ConfigError(
                f"preprocessing.alignment.reference: {folder.name} has no usable photograph {wanted}; the nearest is "
                f"{nearest} (a mapping names one a type: {{{folder.name}: {nearest}}})"
            )
        return found[0]
    if common is not None and common["choice"] == _choice(folder, rows):
        return next(row for row in rows if row["image"] == common["reference"])
    sizes = [tuple(row["size"]) for row in rows]
    usual = max(sizes, key=sizes.count)
    candidates = [row for row, size in zip(rows, sizes, strict=True) if size == usual]
    work = partial(_descriptor, folder=folder.background_removed, cut_outs=cut_outs)
    step = f"{folder.name}: choosing the reference"
    descriptors = map_parallel(work, candidates, folder.config.execution, step=step, quiet=quiet)
    readable = [(row, found) for row, found in zip(candidates, descriptors, strict=True) if found is not None]
    if not readable:
        raise InputError(f"{folder.background_removed} holds no cut-out that can be read; run remove_bg again")
    chosen, _ = readable[most_typical(np.stack([descriptor for _, descriptor in readable]))]
    _log.info("%s: the reference is %s, the photograph most like the others", folder.name, chosen["image"])
    return chosen


def _descriptor(row: Row, *, folder: Path, cut_outs: Mapping[str, CutOut]) -> NDArray[np.float32] | None:
    if row["file"] in cut_outs:
        return cut_outs[row["file"]].descriptor
    try:
        return describe_appearance(*read_rgba(folder / row["file"]))
    except InputError:  # its alignment says so
        return None


def _named_reference(folder: TypeFolder) -> str | None:
    named = folder.config.preprocessing.alignment.reference
    return named.get(str(folder.name)) if isinstance(named, dict) else named


def _choice(folder: TypeFolder, rows: list[Row]) -> str:
    """The fingerprint of what decides which photograph is the reference."""
    return fingerprint("reference", _named_reference(folder), [row["file_sha256"] for row in rows])


def _save_common(folder: TypeFolder, reference: Reference, consensus: Consensus) -> dict[str, Any]:
    """Write what a type's aligned photographs have in common; returns what its record says of it."""
    left_out = consensus.outliers()
    for image, overlap in left_out:
        _log.warning(
            "%s/%s: its mask overlaps the others' by %.2f only and has no vote in the consensus mask",
            folder.name,
            image,
            overlap,
        )
    path = folder.metadata / REFERENCE_FILE
    save_arrays(
        path,
        image=reference.image,
        mask=reference.mask,
        points=reference.features.points,
        descriptors=reference.features.descriptors,
        share=consensus.fraction,
        brightness=consensus.brightness,
    )
    return {"file": path.name, "file_sha256": file_hash(path), "left_out_of_consensus": [list(row) for row in left_out]}
