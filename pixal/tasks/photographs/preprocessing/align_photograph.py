"""Align one photograph of a type to the reference, or skip it if it is already done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.config.section import result_settings
from pixal.errors import InputError
from pixal.io.files import data_hash, file_hash, write_bytes
from pixal.io.images import decode_image, encode_image, read_image_bytes, with_alpha
from pixal.io.journal import reusable
from pixal.io.provenance import fingerprint
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import to_grey
from pixal.tasks.photographs.parts import pose_values
from pixal.tasks.photographs.preprocessing.background_step import CutOut, read_rgba, split_alpha
from pixal.tasks.photographs.preprocessing.figures import AlignmentFigures, figures_exist
from pixal.tasks.photographs.preprocessing.folders import TypeFolder
from pixal.tasks.photographs.preprocessing.kept_images import KeptImages
from pixal.tasks.photographs.preprocessing.prepare import AlignmentFailure, align_part
from pixal.tasks.photographs.preprocessing.records import AlignmentRecord, BackgroundRecord
from pixal.tasks.photographs.settings import AlignmentSettings


@dataclass(frozen=True)
class PhotographAligner:
    """Aligns the photographs of a type one at a time.

    Attributes:
        source: Folder of the cut-out photographs.
        target: Folder of the aligned photographs.
        figures: Writes the figures.
        reference_sha256: The SHA-256 of the cut-out photograph that is the reference.
        kept: Keeps aligned photographs for the next step; None: they are only written.
    """

    source: Path
    target: Path
    figures: AlignmentFigures
    reference_sha256: str
    kept: KeptImages | None = None

    @classmethod
    def prepare(
        cls,
        folder: TypeFolder,
        reference_record: BackgroundRecord,
        settings: AlignmentSettings,
        kept: KeptImages | None = None,
    ) -> PhotographAligner:
        """Read the reference of a type."""
        path = folder.background_removed / str(reference_record.file)
        reference = Reference.from_photograph(*read_rgba(path), settings.number_of_points)
        drawing = AlignmentFigures(folder.aligned_metrics, reference, reference_record.image, settings)
        return cls(folder.background_removed, folder.aligned, drawing, file_hash(path), kept)

    @property
    def reference(self) -> Reference:
        """The reference."""
        return self.figures.reference

    @property
    def settings(self) -> AlignmentSettings:
        """How to align."""
        return self.figures.settings

    def __call__(self, job: AlignmentJob) -> AlignedPhotograph:
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
            # If the mask is in memory, read the photograph itself, which takes a sixth of the time of the PNG.
            path = Path(photograph.source) if job.cut_out else self.source / str(photograph.file)
            data = read_image_bytes(path)
            sha256 = str(photograph.file_sha256) if job.cut_out else data_hash(data)
            key = alignment_key(sha256, self.reference_sha256, self.figures.reference_name, self.settings)
            done = reusable(job.earlier, key, self.target)
            if done and figures_exist(self.figures.folder, record.name, self.settings):
                done = done.replace(image=record.image, name=record.name, source=record.source, sha256=record.sha256)
                return AlignedPhotograph(done, has_figures=True)
            image, mask = _decode(data, job)
        except InputError as error:
            return AlignedPhotograph(record.replace(reason=str(error)))
        result = align_part(image, mask, self.reference, self.settings, name=record.name, figures=self.figures)
        if result.alignment is not None:
            record = record.replace(**pose_values(result.alignment))
        if isinstance(result, AlignmentFailure):
            return AlignedPhotograph(record.replace(reason=result.reason), has_figures=result.was_compared)
        encoded = encode_image(".png", with_alpha(result.image, result.mask))
        record = record.replace(status="ok", file=aligned_name(photograph), key=key, file_sha256=data_hash(encoded))
        path = self.target / str(record.file)
        write_bytes(path, encoded, sync=False)  # a later run checks the hash
        if self.kept is not None:
            box = self.figures.shown_box.joined(self.reference.box)
            self.kept.keep(path, str(record.file_sha256), result.image, result.mask, box)
        return AlignedPhotograph(record, result.mask, to_grey(result.image), has_figures=True)


@dataclass(frozen=True)
class AlignmentJob:
    """A photograph to align.

    Attributes:
        photograph: Its record of the background step.
        cut_out: Its cut-out, if the background step has just made it; None if it is to be read from disk.
        earlier: Its record of an earlier run of this step, if there is one.
    """

    photograph: BackgroundRecord
    cut_out: CutOut | None
    earlier: AlignmentRecord | None


@dataclass(frozen=True)
class AlignedPhotograph:
    """A photograph that was aligned, failed or skipped.

    Attributes:
        record: Its record.
        mask: Its mask in the reference frame, (H, W); None if it failed or was skipped.
        grey: Its grey levels in the reference frame, (H, W); None if it failed or was skipped.
        has_figures: Whether all figures that the settings ask for exist, from this run or an earlier one.
    """

    record: AlignmentRecord
    mask: NDArray[np.bool_] | None = None
    grey: NDArray[np.uint8] | None = None
    has_figures: bool = False


def alignment_key(cut_out_sha256: str, reference_sha256: str, reference_name: str, settings: AlignmentSettings) -> str:
    """Fingerprint of everything that an aligned photograph and its figures depend on.

    Args:
        cut_out_sha256: The SHA-256 of the cut-out photograph.
        reference_sha256: The SHA-256 of the cut-out photograph that is the reference; it replaces the name of
            the reference in the settings.
        reference_name: The file name of the reference, which the figures show.
        settings: How the photograph was aligned.
    """
    return fingerprint(
        "align", cut_out_sha256, reference_name, result_settings(settings) | {"reference": reference_sha256}
    )


def aligned_name(photograph: BackgroundRecord) -> str:
    """The file name of the aligned photograph."""
    return f"{str(photograph.file).removesuffix('_no_bg.png')}_aligned.png"


def _decode(data: bytes, job: AlignmentJob) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Decode the photograph (H, W, 3) and its foreground mask (H, W) from the bytes of its file or of its cut-out."""
    if job.cut_out is None:
        return split_alpha(decode_image(data))
    if data_hash(data) != job.photograph.sha256:
        raise InputError("changed while it was being processed; run preprocess again")
    return np.ascontiguousarray(decode_image(data)[..., :3]), job.cut_out.mask
