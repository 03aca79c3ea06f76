"""The files of each part: its anomaly map, its overlay, and its images for the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import atomic_write, data_hash
from pixal.io.images import MAX_DECODED_BYTES, as_uint8, decode_image, read_image_bytes, write_image
from pixal.io.written_files import WrittenFiles, unchanged_files, written_files
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.preprocessing.state import input_box, input_to_photo
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict
from pixal.validation.pixel_metrics import PixelCounts, near_part
from pixal.validation.regions import Region
from pixal.validation.scoring import Cut, Prediction

_LARGEST_UNUSED = 50_000_000  # bytes of a decoded photograph without a score that the report shows
OVERLAY_PREFIX = "anomaly_overlay_"
_HALF = 0.5  # a pixel shows the part if at least this share of it does
_LARGEST_FLOAT16 = 65504.0
_STRIP_BYTES = 262_144  # of an anomaly map that are compressed at a time, as tifffile does it by itself
_GREY = 64  # of the background of an overlay whose photograph is missing


@dataclass(frozen=True)
class PartFolders:
    """The folders of the files of a type's parts.

    Attributes:
        figures: The overlays.
        maps: The anomaly maps; None if they are not saved.
        report: The images of the report.
    """

    figures: Path
    maps: Path | None
    report: Path


@dataclass(frozen=True)
class ScoredPart:
    """A part and what the model says about it.

    Attributes:
        record: How the photograph was prepared.
        photo: The photograph, (H, W, 3) uint8 RGB; None: it is read from its file where it is needed.
        prediction: What the model says; None if the photograph could not be prepared.
        photo_to_input: The 3x3 homography from the photograph's pixels (x, y) to the input; None as above.
        latent: The model's latent vector, (L,); None if it is not computed.
    """

    record: PhotographRecord
    photo: NDArray[np.uint8] | None = None
    prediction: Prediction | None = None
    photo_to_input: NDArray[np.float64] | None = None
    latent: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SavedPart:
    """The files that ``save_part`` wrote.

    Attributes:
        images: File names of the report's images, see ``StoredVerdict``.
        files: The files.
        counts: Counts of the part's pixels; None if there is no mask of the truth.
    """

    images: tuple[str | None, ...] | None
    files: WrittenFiles
    counts: PixelCounts | None = None


def save_part(
    part: ScoredPart,
    *,
    folders: PartFolders,
    truth: Truth | None,
    consensus: NDArray[np.bool_],
    cut: Cut,
    overlays: bool,
) -> SavedPart:
    """Write a part's anomaly map, its overlay, and its images for the report.

    Map and overlay have the size and frame of the photograph.

    Args:
        part: The part.
        folders: Where the files go.
        truth: The truth of the type.
        consensus: The consensus mask in the reference frame, (H, W).
        cut: The rule of the verdict.
        overlays: Whether to write the overlay, and to show anomalies in the report.
    """
    record, prediction = part.record, part.prediction
    photo = _read_photo(record) if part.photo is None else part.photo
    if prediction is None or part.photo_to_input is None:
        images = _save_for_report(folders.report, record, photo, photo, ())
        return SavedPart(images, written_files(_files(record, images, folders, overlay=False)))
    values = input_to_photo(prediction.map, part.photo_to_input, record.size)
    box = input_box(prediction.map.shape, part.photo_to_input, record.size)
    half = _as_float16(values, box)
    if folders.maps is not None:
        _save_map(folders.maps / map_name(record), half)
    shown = photo
    if overlays:
        from pixal.plotting.anomaly_overlay import tint_anomalies

        _save_overlay(folders.figures / overlay_name(record), record, photo, prediction, values, cut)
        # The report draws caption, boxes and numbers itself.
        largest = 0.0 if box is None else float(half[box.window].max())
        if photo is not None and box is not None and largest > cut.on_map:
            rounded = np.zeros(half.shape, np.float32)
            rounded[box.window] = half[box.window]
            shown = tint_anomalies(photo, rounded, threshold=cut.on_map)
    regions = tuple(prediction.regions)
    images = _save_for_report(folders.report, record, photo, shown, regions, box)
    files = written_files(_files(record, images, folders, overlay=overlays))
    return SavedPart(images, files, _count(half, record, truth, consensus))


def _as_float16(values: NDArray[np.float32], box: Box | None) -> NDArray[np.float16]:
    """Round a map (H, W), which is 0 outside ``box``. The values stay finite."""
    half = np.zeros(values.shape, np.float16)
    if box is not None:
        half[box.window] = np.minimum(values[box.window], _LARGEST_FLOAT16)
    return half


def _save_map(path: Path, values: NDArray[np.float16]) -> None:
    """Write an anomaly map (H, W) as TIFF. ISA-L's level 0 takes a seventh of the time of zlib's level 1."""
    import tifffile
    from isal import isal_zlib

    height, width = values.shape
    rows = max(1, _STRIP_BYTES // (values.itemsize * width))
    strips = (isal_zlib.compress(values[top : top + rows], 0) for top in range(0, height, rows))
    with atomic_write(path, sync=False) as temporary:
        tifffile.imwrite(
            temporary, strips, shape=values.shape, dtype=values.dtype, rowsperstrip=rows, compression="zlib"
        )


def count_pixels(
    record: PhotographRecord, *, truth: Truth, consensus: NDArray[np.bool_], maps: Path
) -> PixelCounts | None:
    """Count the pixels of a part from its stored anomaly map; None if there is no mask of the truth."""
    import tifffile

    return _count(tifffile.imread(maps / map_name(record)), record, truth, consensus)


def unchanged_part_files(verdict: StoredVerdict, folders: PartFolders) -> WrittenFiles | None:
    """The files of a part with a stored verdict; None if one of them is missing or changed."""
    files = _files(verdict.record, verdict.images, folders, overlay=verdict.part.overlay is not None)
    return unchanged_files(files, verdict.files)


def remove_other_files(verdicts: Iterable[StoredVerdict], *, figures: Path, maps: Path, report: Path) -> None:
    """Delete the overlays, maps and report images of all other parts."""
    verdicts = list(verdicts)
    images = {name for verdict in verdicts for name in verdict.images or () if name is not None}
    scored = [verdict.record for verdict in verdicts if verdict.record.is_ok]
    for folder, pattern, names in (
        (figures, f"{OVERLAY_PREFIX}*.png", set(map(overlay_name, scored))),
        (maps, "*.tiff", set(map(map_name, scored))),
        (report, "*.jpg", images),
    ):
        for path in folder.glob(pattern):
            if path.name not in names:
                ownership.remove(path)


def overlay_name(record: PhotographRecord) -> str:
    """The file name of a part's overlay."""
    return f"{OVERLAY_PREFIX}{record.name}.png"


def map_name(record: PhotographRecord) -> str:
    """The file name of a part's anomaly map."""
    return f"{record.name}.tiff"


def unit_of(cut: Cut) -> str:
    """The unit of an anomaly map, and of a score that is not a logarithm."""
    return "loss" if cut.raw else "standard deviations of good parts"


def _files(
    record: PhotographRecord, images: tuple[str | None, ...] | None, folders: PartFolders, *, overlay: bool
) -> list[Path]:
    """The files of a part. ``images``: file names of the report's images; ``overlay``: whether there is an overlay."""
    files = [folders.report / name for name in images or () if name is not None]
    if overlay:
        files.append(folders.figures / overlay_name(record))
    if folders.maps is not None and record.is_ok:
        files.append(folders.maps / map_name(record))
    return files


def _read_photo(record: PhotographRecord) -> NDArray[np.uint8] | None:
    """The photograph, (H, W, 3) uint8; None if it cannot be read, has changed, or could not be used and is large."""
    max_bytes = MAX_DECODED_BYTES if record.is_ok else _LARGEST_UNUSED
    try:
        data = read_image_bytes(Path(record.source))
        if data_hash(data) != record.sha256:
            return None
        return np.ascontiguousarray(as_uint8(decode_image(data, max_bytes=max_bytes)[..., :3]))
    except InputError:
        return None


def _save_for_report(
    folder: Path,
    record: PhotographRecord,
    photo: NDArray[np.uint8] | None,
    shown: NDArray[np.uint8] | None,
    regions: tuple[Region, ...],
    changed: Box | None = None,
) -> tuple[str | None, ...] | None:
    from pixal.report.images import save_part_images

    if photo is None or shown is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    window = None if changed is None else changed.window
    files = save_part_images(folder, photo, shown, name=record.image, size=record.size, regions=regions, changed=window)
    return tuple(None if file is None else file.name for file in files)


def _count(
    half: NDArray[np.float16], record: PhotographRecord, truth: Truth | None, consensus: NDArray[np.bool_]
) -> PixelCounts | None:
    mask = None if truth is None else truth.mask(record.image, record.name, record.size)
    if mask is None:
        return None
    counts = PixelCounts()
    part = input_to_photo(consensus.astype(np.float32), record.homography, record.size) > _HALF
    counts.add(half, mask, near_part(part))
    return counts


def _save_overlay(
    path: Path,
    record: PhotographRecord,
    photo: NDArray[np.uint8] | None,
    prediction: Prediction,
    values: NDArray[np.float32],
    cut: Cut,
) -> None:
    from pixal.plotting.anomaly_overlay import LabelledBox, anomaly_overlay

    if photo is None:  # ``detect`` also works without the photographs
        photo = np.full((*values.shape, 3), _GREY, np.uint8)
    verdict = "FAIL" if prediction.failed else "pass"
    p = "" if prediction.p_value is None else f", p = {prediction.p_value:.2g}"
    if cut.is_extrapolated(prediction.p_value):
        p += " (extrapolated)"
    overlay = anomaly_overlay(
        photo,
        values,
        threshold=cut.on_map,
        boxes=[
            LabelledBox(region.x, region.y, region.width, region.height, f"{region.peak:.3g}  {region.channel}")
            for region in prediction.regions
        ],
        caption=f"{record.image}: {verdict}, score {prediction.score:.3g}, threshold {cut.threshold:.3g}{p}",
        map_label=f"anomaly ({unit_of(cut)})",
    )
    write_image(path, overlay)
