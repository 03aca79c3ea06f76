"""First step: find the part on each photograph, and write RGBA images whose alpha is the foreground mask."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.section import result_settings
from pixal.errors import InputError
from pixal.execution import map_parallel
from pixal.io.files import data_hash, read_bytes, write_bytes
from pixal.io.images import SizeError, decode_image, encode_image, read_size, with_alpha
from pixal.io.journal import reusable
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint
from pixal.outcome import Outcome
from pixal.tasks.photographs.alignment.reference import describe_appearance
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.foreground.methods import find_foreground, model_hash
from pixal.tasks.photographs.preprocessing.folders import BACKGROUND, TypeFolder, cut_out_stem, remove_other_images
from pixal.tasks.photographs.preprocessing.layout_choice import choose_layout
from pixal.tasks.photographs.preprocessing.prepare import other_part_note
from pixal.tasks.photographs.preprocessing.records import BackgroundRecord, BackgroundStep, Layout
from pixal.tasks.photographs.preprocessing.refused_types import decoded, leave_out_if_refused
from pixal.tasks.photographs.settings import RemoveBackground

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CutOut:
    """The data of a cut-out photograph that the alignment step needs, in a few kilobytes.

    Attributes:
        packed_mask: The foreground mask as compressed bits.
        shape: The shape (H, W) of the mask.
        descriptor: The appearance descriptor.
    """

    packed_mask: bytes
    shape: tuple[int, int]
    descriptor: NDArray[np.float32]

    @classmethod
    def from_photograph(cls, image: NDArray[Any], mask: NDArray[np.bool_]) -> CutOut:
        """Pack a photograph (H, W, 3) and its foreground mask (H, W)."""
        shape = (mask.shape[0], mask.shape[1])
        return cls(zlib.compress(np.packbits(mask).tobytes(), 1), shape, describe_appearance(image, mask))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The foreground mask, (H, W)."""
        bits = np.frombuffer(zlib.decompress(self.packed_mask), np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape).astype(bool)


def remove_backgrounds(
    folder: TypeFolder, photographs: list[Photograph], *, force: bool, quiet: bool
) -> tuple[Outcome, dict[str, CutOut]]:
    """Remove the background of all photographs of a type. Photographs that are already done are skipped.

    Args:
        folder: The type's folders.
        photographs: The photographs.
        force: Whether to process all photographs again.
        quiet: Whether to hide the progress bar.

    Returns:
        The outcome, and what the next step needs from the photographs processed now, by the name of the output file.
    """
    earlier = folder.earlier_run(BACKGROUND)
    size = _usual_size(folder, photographs)
    layout = choose_layout(
        photographs,
        folder.config.preprocessing,
        earlier.record.layout if earlier.record else None,
        folder.config.execution,
        size=size,
    )
    settings = folder.config.preprocessing.remove_background.model_copy(update={"method": layout.method})
    model_sha256 = model_hash(settings)
    records: list[BackgroundRecord] = []
    cut_outs: dict[str, CutOut] = {}
    with log_to_file(folder.logs, "remove_bg"), folder.start(BACKGROUND, force=force) as journal:
        if layout.reason:
            _log.info("%s: %s", folder.name, _describe(layout))
        jobs = []
        for index, photograph in enumerate(photographs):
            stem = cut_out_stem(folder.name, index, photograph.name, rename=settings.rename_images)
            file = f"{stem}_no_bg.png"
            jobs.append(_Job(photograph, file, journal.entries.get(file)))
        work = partial(
            _remove_background,
            folder=folder.background_removed,
            settings=settings,
            model_sha256=model_sha256,
            size=size,
        )
        results = map_parallel(
            work,
            jobs,
            folder.config.execution,
            step=f"{folder.name}: background",
            workers=settings.max_workers,
            quiet=quiet,
        )
        for record, cut_out in results:
            records.append(record)
            if cut_out is not None:
                journal.add(record)
                cut_outs[str(record.file)] = cut_out
            for box in record.others or ():
                _log.warning("%s/%s: %s", folder.name, record.image, other_part_note(box))
        done = [record for record in records if record.is_ok]
        if len(done) > len(cut_outs):
            _log.info("%s: background already removed: %d of %d", folder.name, len(done) - len(cut_outs), len(records))
        remove_other_images(folder.background_removed, {str(record.file) for record in done})
        step = BackgroundStep(
            method=layout.method, layout=layout, model_sha256=model_sha256, settings=settings, images=tuple(records)
        )
        step.write(folder.metadata / BACKGROUND.file)
        if not force:
            earlier.keep_later(step)
    advice = "Set preprocessing.remove_background.method, or remove these photographs"
    refused = leave_out_if_refused(folder.name, "background", decoded(records), advice)
    if refused is None:
        return Outcome.from_records(folder.name, "background", records), cut_outs
    unread = Outcome.from_records(folder.name, "background", [record for record in records if record.size is None])
    return unread.combined_with(refused), cut_outs


def remove_one_background(folder: TypeFolder, photograph: Photograph, step: BackgroundStep) -> BackgroundRecord:
    """Remove the background of a photograph that is added to those of an earlier run, with the same settings.

    Args:
        folder: The type's folders.
        photograph: The photograph.
        step: The record of the earlier run.
    """
    known = next((record.size for record in step.images if record.is_ok and record.size), None)
    file = f"{photograph.name}_no_bg.png"
    record, _ = _remove_background(
        _Job(photograph, file, None),
        folder=folder.background_removed,
        settings=step.settings,
        model_sha256=step.model_sha256,
        size=None if known is None else (known[1], known[0]),
    )
    return record


def _describe(layout: Layout) -> str:
    """A sentence about what ``auto`` chose, and what to do if it is wrong."""
    method = "the whole photograph is the part" if layout.method == "none" else f"background method {layout.method}"
    if layout.apply_alignment == "texture":
        method = (
            "used as a texture: the whole photographs as they are, without alignment; if they show parts, set "
            "preprocessing.remove_background.method"
        )
    return f"{method} (auto: {layout.reason})"


def background_key(photograph_sha256: str, settings: RemoveBackground, model_sha256: str | None) -> str:
    """Fingerprint of everything that a cut-out photograph depends on.

    Args:
        photograph_sha256: The SHA-256 of the photograph.
        settings: How the part was found.
        model_sha256: The SHA-256 of the network's file; it replaces the path of the file in the settings.
    """
    return fingerprint("remove_bg", photograph_sha256, result_settings(settings) | {"model_file": model_sha256})


def read_rgba(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read an image that preprocessing wrote.

    Returns:
        The RGB image (H, W, 3) and its mask (H, W).

    Raises:
        InputError: If the image is missing or damaged; the message names it.
    """
    try:
        return split_alpha(decode_image(read_bytes(path)))
    except InputError as error:
        raise InputError(f"{path} {error}; run preprocess again") from error


def split_alpha(rgba: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Split an RGBA image into RGB (H, W, 3) and its mask (H, W). Raise ``InputError`` if it has no alpha."""
    if rgba.shape[2] != 4:
        raise InputError("has no alpha channel")
    alpha = np.asarray(cv2.extractChannel(rgba, 3))  # several times as fast as strided arrays
    return np.asarray(cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)), np.asarray(alpha > np.iinfo(rgba.dtype).max // 2)


def _usual_size(folder: TypeFolder, photographs: Sequence[Photograph]) -> tuple[int, int] | None:
    """Height and width of the type's photographs: that of the reference in the settings, or else the most frequent one.

    Only the headers are read. None if no photograph has one.
    """
    named = [photo for photo in photographs if folder.reference in (photo.image, photo.name)]
    for group in (named, photographs):
        paths = [photo.path for photo in group if not photo.problem]
        sizes = map_parallel(read_size, paths, folder.config.execution, step=f"{folder.name}: sizes", quiet=True)
        known = [size for size in sizes if size is not None]
        if known:
            # Photographs that are turned by 90°, or have an EXIF orientation that says so, count as of one size.
            usual, _ = Counter(map(_sorted, known)).most_common(1)[0]
            return next(size for size in known if _sorted(size) == usual)
    return None


def _sorted(size: tuple[int, int]) -> tuple[int, int]:
    return min(size), max(size)


@dataclass(frozen=True)
class _Job:
    """A photograph to process, its output file, and the record of an earlier run."""

    photograph: Photograph
    file: str
    earlier: BackgroundRecord | None


def _remove_background(
    job: _Job, *, folder: Path, settings: RemoveBackground, model_sha256: str | None, size: tuple[int, int] | None
) -> tuple[BackgroundRecord, CutOut | None]:
    """Process one photograph of the given size; there is no ``CutOut`` if it failed or was already done."""
    photograph = job.photograph
    record = BackgroundRecord(
        image=photograph.image, name=photograph.name, source=photograph.source, status="failed", file=job.file
    )
    try:
        data = photograph.read()
        record = record.replace(sha256=data_hash(data))
        key = background_key(str(record.sha256), settings, model_sha256)
        done = reusable(job.earlier, key, folder)
        if done and (size is None or sorted(done.size or ()) == sorted(size)):
            return done.replace(image=record.image, name=record.name, source=record.source), None
        image = decode_image(data, size=size)
        record = record.replace(size=(image.shape[1], image.shape[0]))
        foreground = find_foreground(image, settings)
    except SizeError as error:
        (height, width), usual = error.size, size or error.size
        reason = f"is {width}x{height}, the photographs of its type are {usual[1]}x{usual[0]} pixels"
        return record.replace(reason=reason), None
    except InputError as error:
        return record.replace(reason=str(error)), None
    image = np.ascontiguousarray(image[..., :3])
    encoded = encode_image(".png", with_alpha(image, foreground.alpha))
    write_bytes(folder / job.file, encoded, sync=False)  # a later run checks the hash
    record = record.replace(
        status="ok",
        key=key,
        file_sha256=data_hash(encoded),
        foreground=float(foreground.mask.mean()),
        others=foreground.others or None,
    )
    return record, CutOut.from_photograph(image, foreground.mask)
