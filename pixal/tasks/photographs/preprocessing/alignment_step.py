"""Second step: align the cut-out photographs of each type to one reference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.config.section import result_settings
from pixal.errors import InputError
from pixal.execution import Submit, map_parallel
from pixal.io.files import data_hash, file_hash, read_bytes, write_bytes
from pixal.io.images import decode_image, encode_image, with_alpha
from pixal.io.journal import Journal, reusable
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint
from pixal.io.records import write_table
from pixal.outcome import Outcome
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import to_grey
from pixal.tasks.photographs.network_input.consensus import Consensus
from pixal.tasks.photographs.parts import pose_values
from pixal.tasks.photographs.preprocessing import figures
from pixal.tasks.photographs.preprocessing.background_step import CutOut, read_rgba, split_alpha
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT,
    BACKGROUND,
    REFERENCE_FILE,
    TypeFolder,
    remove_other_images,
)
from pixal.tasks.photographs.preprocessing.prepare import AlignmentFailure, align_part
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    AlignmentStep,
    BackgroundRecord,
    SharedRecord,
)
from pixal.tasks.photographs.preprocessing.reference_choice import choice_key, choose_reference
from pixal.tasks.photographs.preprocessing.reference_file import ReferenceFile
from pixal.tasks.photographs.settings import AlignmentSettings

_log = logging.getLogger(__name__)

ALIGNMENT_COLUMNS = (
    *("image", "status", "reason", "inliers", "inlier_ratio", "ssim", "mse"),
    *(f"h{row}{column}" for row in range(3) for column in range(3)),
)


def align_type(
    folder: TypeFolder, cut_outs: Mapping[str, CutOut], draw: Submit, *, force: bool, quiet: bool
) -> Outcome:
    """Align the photographs of a type. Photographs that are already done are skipped.

    Writes the aligned photographs, their table and figures, and ``reference.npz``: the reference, and how many masks
    cover each of its pixels.

    Args:
        folder: The type's folders.
        cut_outs: What the step before has just made, by the name of the cut-out photograph; others are read from disk.
        draw: Draws figures in the background.
        force: Whether to align all photographs again.
        quiet: Whether to hide the progress bar.
    """
    photographs = folder.read(BACKGROUND).images
    usable = [record for record in photographs if record.is_ok]
    if not usable:  # the step before has reported each of them
        _log.error("%s: no part found on any of %d photographs; the type is left out", folder.name, len(photographs))
        return Outcome()
    earlier_run = folder.earlier_run(ALIGNMENT)
    with log_to_file(folder.logs, "align"), folder.start(ALIGNMENT, force=force) as journal:
        earlier = _shared_record(journal)
        reference_record = choose_reference(folder, usable, cut_outs, earlier, quiet=quiet)
        align_one = _AlignOne.prepare(folder, reference_record)
        results = _align_all(folder, usable, align_one, cut_outs, journal, quiet)
        records = [result.record for result in results.aligned]
        _write_metrics(folder, photographs, results, reference_record.image, draw, force)
        done = [record for record in records if record.is_ok]
        remove_other_images(folder.aligned, {str(record.file) for record in done})
        if not done:
            _log.error("%s: none of %d photographs could be aligned; the type is left out", folder.name, len(records))
            return Outcome.from_records(folder.name, "alignment", records)
        key = fingerprint("shared", align_one.reference_sha256, [(record.key, record.file_sha256) for record in done])
        shared = reusable(earlier, key, folder.metadata)
        if shared is None:
            _add_skipped(folder, results, quiet)
            left_out = _write_reference(folder, align_one.reference, results.consensus)
            shared = SharedRecord(
                file=REFERENCE_FILE,
                key=key,
                file_sha256=file_hash(folder.metadata / REFERENCE_FILE),
                left_out_of_consensus=left_out,
                choice=choice_key(folder, usable),
                reference=reference_record.image,
            )
        step = AlignmentStep(
            reference=reference_record.image,
            settings=folder.config.preprocessing.alignment,
            images=tuple(records),
            made=(shared,),
        )
        step.write(folder.metadata / ALIGNMENT.file)
        if not force:
            earlier_run.keep_later(step)
    return Outcome.from_records(folder.name, "alignment", records)


def alignment_key(cut_out_sha256: str, reference_sha256: str, settings: AlignmentSettings) -> str:
    """Fingerprint of everything that an aligned photograph depends on.

    Args:
        cut_out_sha256: The SHA-256 of the cut-out photograph.
        reference_sha256: The SHA-256 of the cut-out photograph that is the reference; it stands for the name of the
            reference in the settings.
        settings: How the photograph was aligned.
    """
    return fingerprint("align", cut_out_sha256, result_settings(settings) | {"reference": reference_sha256})


@dataclass(frozen=True)
class _Job:
    """A photograph to align, what the step before has just made of it, and the record of an earlier run."""

    photograph: BackgroundRecord
    cut_out: CutOut | None
    earlier: AlignmentRecord | None


@dataclass(frozen=True)
class _Aligned:
    """A photograph that was aligned, failed or skipped.

    Attributes:
        record: Its record.
        mask: Its mask in the reference frame, (H, W); None if it failed or was skipped.
        grey: Its grey levels in the reference frame, (H, W); None if it failed or was skipped.
        has_figures: Whether its figures were written, now or earlier, as far as the settings ask for them.
    """

    record: AlignmentRecord
    mask: NDArray[np.bool_] | None = None
    grey: NDArray[np.uint8] | None = None
    has_figures: bool = False


@dataclass(frozen=True)
class _Results:
    """The photographs of a type after alignment.

    Attributes:
        aligned: One item per photograph.
        skipped: The records of the photographs that were already done.
        consensus: The masks and grey levels of the others.
    """

    aligned: list[_Aligned]
    skipped: list[AlignmentRecord]
    consensus: Consensus


def _align_all(
    folder: TypeFolder,
    photographs: Sequence[BackgroundRecord],
    align_one: _AlignOne,
    cut_outs: Mapping[str, CutOut],
    journal: Journal[AlignmentRecord | SharedRecord],
    quiet: bool,
) -> _Results:
    results = _Results([], [], Consensus())
    jobs = []
    for photograph in photographs:
        earlier = journal.entries.get(_aligned_name(photograph))
        earlier = earlier if isinstance(earlier, AlignmentRecord) else None
        jobs.append(_Job(photograph, cut_outs.get(str(photograph.file)), earlier))
    step = f"{folder.name}: alignment"
    for aligned in map_parallel(align_one, jobs, folder.config.execution, step=step, quiet=quiet):
        if aligned.mask is not None and aligned.grey is not None:
            journal.add(aligned.record)
            results.consensus.add(aligned.record.image, aligned.mask, aligned.grey)
        elif aligned.record.is_ok:
            results.skipped.append(aligned.record)
        results.aligned.append(_Aligned(aligned.record, has_figures=aligned.has_figures))
    if results.skipped:
        _log.info("%s: already aligned: %d of %d", folder.name, len(results.skipped), len(photographs))
    return results


@dataclass(frozen=True)
class _AlignOne:
    """Aligns one photograph.

    Attributes:
        source: Folder of the cut-out photographs.
        target: Folder of the aligned photographs.
        figures: Writes the figures.
        reference_sha256: The SHA-256 of the cut-out photograph that is the reference.
    """

    source: Path
    target: Path
    figures: figures.AlignmentFigures
    reference_sha256: str

    @classmethod
    def prepare(cls, folder: TypeFolder, reference_record: BackgroundRecord) -> _AlignOne:
        """Read the reference of a type."""
        path = folder.background_removed / str(reference_record.file)
        settings = folder.config.preprocessing.alignment
        reference = Reference.from_photograph(*read_rgba(path), settings.number_of_points)
        drawing = figures.AlignmentFigures(folder.aligned_metrics, reference, reference_record.image, settings)
        return cls(folder.background_removed, folder.aligned, drawing, file_hash(path))

    @property
    def reference(self) -> Reference:
        """The reference."""
        return self.figures.reference

    @property
    def settings(self) -> AlignmentSettings:
        """How to align."""
        return self.figures.settings

    def __call__(self, job: _Job) -> _Aligned:
        """Align a photograph, or skip it if it is already done."""
        photograph = job.photograph
        record = AlignmentRecord(
            image=photograph.image,
            name=photograph.name,
            source=photograph.source,
            sha256=photograph.sha256,
            status="failed",
        )
        try:
            # If the mask is known, the photograph itself is read: that takes a sixth of the time of the PNG.
            data = read_bytes(Path(photograph.source) if job.cut_out else self.source / str(photograph.file))
            sha256 = str(photograph.file_sha256) if job.cut_out else data_hash(data)
            key = alignment_key(sha256, self.reference_sha256, self.settings)
            done = reusable(job.earlier, key, self.target)
            if done and figures.figures_exist(self.figures.folder, record.name, self.settings):
                done = done.replace(image=record.image, name=record.name, source=record.source, sha256=record.sha256)
                return _Aligned(done, has_figures=True)
            image, mask = _decode(data, job)
        except InputError as error:
            return _Aligned(record.replace(reason=str(error)))
        result = align_part(image, mask, self.reference, self.settings, name=record.name, figures=self.figures)
        if result.alignment is not None:
            record = record.replace(**pose_values(result.alignment))
        if isinstance(result, AlignmentFailure):
            return _Aligned(record.replace(reason=result.reason), has_figures=result.was_compared)
        encoded = encode_image(".png", with_alpha(result.image, result.mask))
        record = record.replace(status="ok", file=_aligned_name(photograph), key=key, file_sha256=data_hash(encoded))
        write_bytes(self.target / str(record.file), encoded, sync=False)  # a later run checks the hash
        return _Aligned(record, result.mask, to_grey(result.image), has_figures=True)


def _decode(data: bytes, job: _Job) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """The photograph (H, W, 3) and its foreground mask (H, W), from the bytes of the photograph or its cut-out."""
    if job.cut_out is None:
        return split_alpha(decode_image(data))
    if data_hash(data) != job.photograph.sha256:
        raise InputError("changed while it was being processed; run preprocess again")
    return np.ascontiguousarray(decode_image(data)[..., :3]), job.cut_out.mask


def _aligned_name(photograph: BackgroundRecord) -> str:
    return f"{str(photograph.file).removesuffix('_no_bg.png')}_aligned.png"


def _shared_record(journal: Journal[AlignmentRecord | SharedRecord]) -> SharedRecord | None:
    entry = journal.entries.get(REFERENCE_FILE)
    return entry if isinstance(entry, SharedRecord) else None


def _write_metrics(
    folder: TypeFolder,
    photographs: Sequence[BackgroundRecord],
    results: _Results,
    reference_name: str,
    draw: Submit,
    force: bool,
) -> None:
    """Write the table and the figure of how well the photographs were aligned, and delete figures of others."""
    settings = folder.config.preprocessing.alignment
    records = [aligned.record for aligned in results.aligned]
    rows = {photograph.image: photograph.as_row() for photograph in photographs}
    rows |= {record.image: record.as_row() for record in records}
    write_table(folder.aligned_metrics / "results.csv", ALIGNMENT_COLUMNS, rows.values())
    names = {aligned.record.name for aligned in results.aligned if aligned.has_figures}
    figures.remove_other_figures(folder.aligned_metrics, names, settings)
    if settings.save_metrics:
        path = folder.aligned_metrics / "metrics.png"
        fields = {"image", "status", "reason", "inliers", "ssim", "mse"}
        shown = [record.model_dump(include=fields) for record in records]
        key = fingerprint("alignment metrics", folder.name, reference_name, shown, result_settings(settings))
        if force or not figures.are_current([path], key):
            draw(figures.save_alignment_metrics, path, records, settings, folder.name, reference_name, key=key)


def _add_skipped(folder: TypeFolder, results: _Results, quiet: bool) -> None:
    """Add the photographs that were already done to the consensus."""
    read = partial(_read_mask_and_grey, folder=folder.aligned)
    planes = map_parallel(
        read,
        results.skipped,
        folder.config.execution,
        step=f"{folder.name}: masks",
        quiet=quiet or not results.skipped,
    )
    for record, (mask, grey) in zip(results.skipped, planes, strict=True):
        results.consensus.add(record.image, mask, grey)


def _read_mask_and_grey(record: AlignmentRecord, *, folder: Path) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    image, mask = read_rgba(folder / str(record.file))
    return mask, to_grey(image)


def _write_reference(folder: TypeFolder, reference: Reference, consensus: Consensus) -> tuple[tuple[str, float], ...]:
    """Write ``reference.npz``; return the photographs whose mask has no vote, each with its IoU with the majority."""
    left_out = consensus.outliers()
    for image, overlap in left_out:
        _log.warning(
            "%s/%s: its mask overlaps the other masks by only %.2f (IoU) and has no vote in the consensus mask",
            folder.name,
            image,
            overlap,
        )
    content = ReferenceFile(reference, consensus.fraction, consensus.brightness)
    content.save(folder.metadata / REFERENCE_FILE)
    return tuple(left_out)
