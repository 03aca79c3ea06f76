"""First step: from a type's photographs to RGBA images whose alpha is the part."""

from __future__ import annotations

import logging
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.execution import map_parallel
from pixal.io.files import data_hash, read_bytes, write_bytes
from pixal.io.images import decode_image, encode_image, with_alpha
from pixal.io.journal import Row, made_before
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import write_record
from pixal.outcome import Outcome
from pixal.tasks.photographs.alignment.reference import describe_appearance
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.foreground.methods import find_foreground, model_hash
from pixal.tasks.photographs.preprocessing.folders import BACKGROUND_RECORD, TypeFolder, remove_others
from pixal.tasks.photographs.preprocessing.prepare import other_part_note
from pixal.tasks.photographs.settings import RemoveBackground

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CutOut:
    """What the next step needs of a photograph, in a few kilobytes: its packed mask (H, W) and its descriptor."""

    packed: bytes
    shape: tuple[int, int]
    descriptor: NDArray[np.float32]

    @classmethod
    def of(cls, image: NDArray[Any], mask: NDArray[np.bool_]) -> CutOut:
        """That of a photograph (H, W, 3) and its mask (H, W)."""
        shape = (mask.shape[0], mask.shape[1])
        return cls(zlib.compress(np.packbits(mask).tobytes(), 1), shape, describe_appearance(image, mask))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The mask (H, W) bool."""
        bits = np.frombuffer(zlib.decompress(self.packed), np.uint8)
        return np.unpackbits(bits, count=self.shape[0] * self.shape[1]).reshape(self.shape).astype(bool)


def remove_backgrounds(
    folder: TypeFolder, photos: list[Photograph], settings: RemoveBackground, *, force: bool, quiet: bool
) -> tuple[Outcome, dict[str, CutOut]]:
    """Cut the part out of each photograph of a type; the masks just made are returned too, by file.

    ``settings``: with the method chosen. What an earlier run made of the same photographs and settings stays.
    """
    rows: list[Row] = []
    cut_outs: dict[str, CutOut] = {}
    with log_to_file(folder.logs, "remove_bg"), folder.start(BACKGROUND_RECORD, force=force) as journal:
        stems = [f"{folder.name}_{i:03d}" if settings.rename_images else photo.name for i, photo in enumerate(photos)]
        files = [f"{stem}_no_bg.png" for stem in stems]
        jobs = [(photo, file, journal.rows.get(file)) for photo, file in zip(photos, files, strict=True)]
        work = partial(_cut_out, folder=folder.background_removed, settings=settings, model=model_hash(settings))
        step = f"{folder.name}: background"
        for row, cut_out in map_parallel(
            work, jobs, folder.config.execution, step=step, workers=settings.max_workers, quiet=quiet
        ):
            rows.append(row)
            if cut_out is not None:
                journal.add(row)
                cut_outs[row["file"]] = cut_out
            for box in row.get("others", ()):
                _log.warning("%s/%s: %s", folder.name, row["image"], other_part_note(box))
        done = sum(row["status"] == "ok" for row in rows)
        if done > len(cut_outs):
            _log.info("%s: %d of %d backgrounds were removed before", folder.name, done - len(cut_outs), len(rows))
        remove_others(folder.background_removed, {row["file"] for row in rows if row["status"] == "ok"})
        write_record(
            folder.metadata / BACKGROUND_RECORD,
            provenance()
            | {"method": settings.method, "model_sha256": model_hash(settings), "settings": settings.model_dump()}
            | {"images": rows},
        )
    return Outcome.from_rows(str(folder.name), "background", rows), cut_outs


def read_rgba(path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """An image that preprocessing wrote, as RGB (H, W, 3) and its mask (H, W) bool. Raises InputError naming it."""
    try:
        return split_alpha(decode_image(read_bytes(path)))
    except InputError as error:
        raise InputError(f"{path} {error}; run preprocess again") from error


def split_alpha(rgba: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """A cut-out photograph as RGB (H, W, 3) and its mask (H, W) bool. Raises InputError where it has no alpha."""
    if rgba.shape[2] != 4:
        raise InputError("has no alpha channel")
    return np.ascontiguousarray(rgba[..., :3]), np.asarray(rgba[..., 3] > np.iinfo(rgba.dtype).max // 2)


def _cut_out(
    job: tuple[Photograph, str, Row | None],
    *,
    folder: Path,
    settings: RemoveBackground,
    model: str | None,
) -> tuple[Row, CutOut | None]:
    """One photograph: its row, and what the next step needs of it unless ``previous`` stays or it failed."""
    photo, file, previous = job
    row: Row = {"image": photo.image, "name": photo.name, "source": str(photo.path), "status": "failed", "file": file}
    try:
        data = read_bytes(photo.path)
        row["sha256"] = data_hash(data)
        # Of rembg's settings none counts with another method.
        used = (settings.model, model, settings.alpha_matting) if settings.method == "rembg" else ()
        key = fingerprint("remove_bg", row["sha256"], settings.method, *used)
        if made := made_before(previous, key, folder):
            return made | row | {"status": "ok"}, None
        image = decode_image(data)
        foreground = find_foreground(image, settings)
    except InputError as error:
        return row | {"reason": str(error)}, None
    image = np.ascontiguousarray(image[..., :3])
    encoded = encode_image(".png", with_alpha(image, foreground.alpha))
    write_bytes(folder / file, encoded)
    row |= {"status": "ok", "reason": "", "key": key, "file_sha256": data_hash(encoded)}
    row |= {"size": [image.shape[1], image.shape[0]], "foreground": float(foreground.mask.mean())}
    if foreground.others:
        row["others"] = [list(box) for box in foreground.others]
    return row, CutOut.of(image, foreground.mask)
