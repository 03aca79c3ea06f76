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
from pixal.execution import Submit, map_parallel
from pixal.io.files import file_hash
from pixal.io.journal import Journal, reusable
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint
from pixal.io.records import write_table
from pixal.outcome import Outcome
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import to_grey
from pixal.tasks.photographs.network_input.consensus import Consensus
from pixal.tasks.photographs.preprocessing import figures
from pixal.tasks.photographs.preprocessing.align_photograph import (
    AlignedPhotograph,
    AlignmentJob,
    PhotographAligner,
    aligned_name,
)
from pixal.tasks.photographs.preprocessing.background_step import CutOut, read_rgba
from pixal.tasks.photographs.preprocessing.folders import (
    ALIGNMENT,
    BACKGROUND,
    REFERENCE_FILE,
    TypeFolder,
    remove_other_images,
)
from pixal.tasks.photographs.preprocessing.kept_images import KeptImages
from pixal.tasks.photographs.preprocessing.records import (
    AlignmentRecord,
    AlignmentStep,
    BackgroundRecord,
    SharedRecord,
)
from pixal.tasks.photographs.preprocessing.reference_choice import choice_key, choose_reference
from pixal.tasks.photographs.preprocessing.reference_file import ReferenceFile
from pixal.tasks.photographs.preprocessing.refused_types import decoded, is_refused, leave_out_if_refused

_log = logging.getLogger(__name__)

ALIGNMENT_COLUMNS = (
    *("image", "status", "reason", "inliers", "inlier_ratio", "ssim", "mse"),
    *(f"h{row}{column}" for row in range(3) for column in range(3)),
)


def align_type(
    folder: TypeFolder,
    cut_outs: Mapping[str, CutOut],
    submit: Submit,
    *,
    force: bool,
    quiet: bool,
    kept: KeptImages | None = None,
) -> Outcome:
    """Align the photographs of a type. Photographs that are already done are skipped.

    Writes the aligned photographs, their table and figures, and ``reference.npz``: the reference, and how many masks
    cover each of its pixels.

    Args:
        folder: The type's folders.
        cut_outs: Cut-out photographs that the background step has just made, by file name; others are read from disk.
        submit: Runs calls that draw figures in the background.
        force: Whether to align all photographs again.
        quiet: Whether to hide the progress bar.
        kept: Keeps aligned photographs for the next step.
    """
    background = folder.read(BACKGROUND)
    photographs = background.images
    settings = background.alignment_settings(folder.config.preprocessing.alignment)
    usable = [record for record in photographs if record.is_ok]
    if not usable or is_refused(decoded(photographs)):  # the background step has reported it
        return Outcome()
    earlier_run = folder.earlier_run(ALIGNMENT)
    with log_to_file(folder.logs, "align"), folder.start(ALIGNMENT, force=force) as journal:
        earlier = _shared_record(journal)
        reference_record = choose_reference(folder, usable, cut_outs, earlier, quiet=quiet)
        aligner = PhotographAligner.prepare(folder, reference_record, settings, kept)
        results = _align_all(folder, usable, aligner, cut_outs, journal, quiet)
        records = [result.record for result in results.aligned]
        _write_metrics(folder, photographs, results, aligner, submit, force)
        done = [record for record in records if record.is_ok]
        remove_other_images(folder.aligned, {str(record.file) for record in done})
        if refused := leave_out_if_refused(folder.name, "alignment", records, _advice(folder, aligner)):
            submit.wait()
            return refused
        key = fingerprint("shared", aligner.reference_sha256, [(record.key, record.file_sha256) for record in done])
        shared = reusable(earlier, key, folder.metadata)
        if shared is None:
            _add_skipped(folder, results, quiet)
            left_out = _write_reference(folder, aligner.reference, results.consensus)
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
            settings=settings,
            images=tuple(records),
            made=(shared,),
        )
        submit.wait()  # the record says that the figures are complete, too
        step.write(folder.metadata / ALIGNMENT.file)
        if not force:
            earlier_run.keep_later(step)
    return Outcome.from_records(folder.name, "alignment", records)


def _advice(folder: TypeFolder, aligner: PhotographAligner) -> str:
    """What to do if most photographs could not be aligned."""
    return (
        f"The reference is {aligner.figures.reference_name}; {folder.aligned_metrics} shows how the others compare. If "
        "they show parts, name a typical one as preprocessing.alignment.reference, or adapt the limits of "
        "preprocessing.alignment; if they show a texture, set preprocessing.remove_background.method to none and "
        "preprocessing.alignment.apply_alignment to texture"
    )


@dataclass(frozen=True)
class _Results:
    """The photographs of a type after alignment.

    Attributes:
        aligned: One item per photograph.
        skipped: The records of the photographs that were already done.
        consensus: The masks and grey levels of the others.
    """

    aligned: list[AlignedPhotograph]
    skipped: list[AlignmentRecord]
    consensus: Consensus


def _align_all(
    folder: TypeFolder,
    photographs: Sequence[BackgroundRecord],
    aligner: PhotographAligner,
    cut_outs: Mapping[str, CutOut],
    journal: Journal[AlignmentRecord | SharedRecord],
    quiet: bool,
) -> _Results:
    results = _Results([], [], Consensus())
    jobs = []
    for photograph in photographs:
        earlier = journal.entries.get(aligned_name(photograph))
        earlier = earlier if isinstance(earlier, AlignmentRecord) else None
        jobs.append(AlignmentJob(photograph, cut_outs.get(str(photograph.file)), earlier))
    step = f"{folder.name}: alignment"
    for aligned in map_parallel(aligner, jobs, folder.config.execution, step=step, quiet=quiet):
        if aligned.mask is not None and aligned.grey is not None:
            journal.add(aligned.record)
            results.consensus.add(aligned.record.image, aligned.mask, aligned.grey)
        elif aligned.record.is_ok:
            results.skipped.append(aligned.record)
        results.aligned.append(AlignedPhotograph(aligned.record, has_figures=aligned.has_figures))
    if results.skipped:
        _log.info("%s: already aligned: %d of %d", folder.name, len(results.skipped), len(photographs))
    return results


def _shared_record(journal: Journal[AlignmentRecord | SharedRecord]) -> SharedRecord | None:
    entry = journal.entries.get(REFERENCE_FILE)
    return entry if isinstance(entry, SharedRecord) else None


def _write_metrics(
    folder: TypeFolder,
    photographs: Sequence[BackgroundRecord],
    results: _Results,
    aligner: PhotographAligner,
    submit: Submit,
    force: bool,
) -> None:
    """Write the table and the figure of the alignment, and delete figures of other photographs."""
    settings, reference_name = aligner.settings, aligner.figures.reference_name
    records = [aligned.record for aligned in results.aligned]
    rows = {photograph.image: photograph.as_row() for photograph in photographs}
    rows |= {record.image: record.as_row() for record in records}
    write_table(folder.aligned_metrics / "results.csv", ALIGNMENT_COLUMNS, rows.values())
    names = {aligned.record.name for aligned in results.aligned if aligned.has_figures}
    figures.remove_other_figures(folder.aligned_metrics, names, settings)
    if figures.wants_metrics(settings):
        path = folder.aligned_metrics / "metrics.png"
        fields = {"image", "status", "reason", "inliers", "ssim", "mse"}
        shown = [record.model_dump(include=fields) for record in records]
        key = fingerprint("alignment metrics", folder.name, reference_name, shown, result_settings(settings))
        if force or not figures.are_current([path], key):
            submit(figures.save_alignment_metrics, path, records, settings, folder.name, reference_name, key=key)


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
    """Write ``reference.npz``; return the photographs whose mask is not used, each with its IoU with the majority."""
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
