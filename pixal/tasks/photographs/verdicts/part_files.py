"""The files of each part: its anomaly map, its overlay, its pictures for the report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import atomic_write
from pixal.io.images import as_uint8, read_image, write_image
from pixal.tasks.photographs.preprocessing.state import input_to_photo
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.tasks.photographs.verdicts.verdict_store import Entry
from pixal.validation.pixel_metrics import PixelCounts
from pixal.validation.scoring import Cut, Prediction

Job = tuple[dict[str, Any], Prediction | None, NDArray[np.float64] | None]
"""A part's record, its outcome, and the 3x3 matrix from its photograph to the input; None where it has none."""

OVERLAY = "anomaly_overlay_"
_LARGEST_FLOAT16 = 65504.0


def save_part(
    job: Job,
    *,
    truth: Truth | None,
    cut: Cut,
    figures: Path,
    maps: Path | None,
    report: Path,
    overlays: bool,
) -> tuple[PixelCounts | None, list[str | None] | None]:
    """Write a part's anomaly map, its overlay in its photograph's frame, and its pictures for the report.

    Returns its pixels' counts where the truth has a mask, and the names of the report's pictures in the folder
    ``report``; None where the photograph cannot be read.
    """
    record, scored, to_input = job
    photo = _photograph(record)
    if scored is None or to_input is None:  # it could not be prepared
        return None, _save_for_report(report, record, photo, photo, [])
    size = (record["height"], record["width"])
    values = input_to_photo(scored.map, to_input, size)
    half = np.minimum(values, _LARGEST_FLOAT16).astype(np.float16)
    if maps is not None:
        import tifffile

        with atomic_write(maps / map_name(record["name"])) as temporary:
            tifffile.imwrite(temporary, half, compression="zlib", compressionargs={"level": 1})
    shown = photo
    if overlays:
        from pixal.plotting.anomaly_overlay import tint_anomalies

        _save_overlay(figures / overlay_name(record), record, photo, scored, values, cut)
        # Caption, boxes and figures are the report's own to draw.
        shown = None if photo is None else tint_anomalies(photo, half.astype(np.float32), threshold=cut.on_map)
    files = _save_for_report(report, record, photo, shown, [region.as_dict() for region in scored.regions])
    return _count(half, record, truth), files


def count_part(record: dict[str, Any], *, truth: Truth, maps: Path) -> PixelCounts | None:
    """The counts of the pixels of a part whose map was written before, where the truth has a mask."""
    import tifffile

    return _count(tifffile.imread(maps / map_name(record["name"])), record, truth)


def are_there(entry: Entry, *, figures: Path, maps: Path | None, report: Path) -> bool:
    """Whether a judged part has all its files."""
    record, part = entry["record"], entry["part"]
    files = [report / name for name in entry["pictures"] or () if name is not None]
    if part["overlay"] is not None:
        files.append(figures / overlay_name(record))
    if maps is not None and record["status"] == "ok":
        files.append(maps / map_name(record["name"]))
    return all(file.is_file() for file in files)


def remove_other_parts(entries: Iterable[Entry], *, figures: Path, maps: Path, report: Path) -> None:
    """Delete the maps, overlays and report's pictures of all but these parts."""
    kept = {name for entry in entries for name in entry["pictures"] or () if name is not None}
    scored = [entry["record"] for entry in entries if entry["record"]["status"] == "ok"]
    for folder, pattern, names in (
        (figures, f"{OVERLAY}*.png", {overlay_name(record) for record in scored}),
        (maps, "*.tiff", {map_name(record["name"]) for record in scored}),
        (report, "*.jpg", kept),
    ):
        for path in folder.glob(pattern):
            if path.name not in names:
                path.unlink()


def overlay_name(record: dict[str, Any]) -> str:
    """The file name of a part's overlay."""
    return f"{OVERLAY}{record['name']}.png"


def map_name(name: str) -> str:
    """The file name of a part's anomaly map."""
    return f"{name}.tiff"


def unit_of(cut: Cut) -> str:
    """The unit of an anomaly map's values, and of a score that is not a logarithm."""
    return "loss" if cut.raw else "standard deviations of good parts"


def _photograph(record: dict[str, Any]) -> NDArray[np.uint8] | None:
    """A part's photograph in 8 bits; None where it cannot be read."""
    try:
        return np.ascontiguousarray(as_uint8(read_image(Path(record["source"]))[..., :3]))
    except InputError:
        return None


def _save_for_report(
    folder: Path,
    record: dict[str, Any],
    photo: NDArray[np.uint8] | None,
    shown: NDArray[np.uint8] | None,
    regions: list[dict[str, Any]],
) -> list[str | None] | None:
    from pixal.report.pictures import store

    if photo is None or shown is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    part = {"image": record["image"], "width": record["width"], "height": record["height"], "regions": regions}
    return [None if file is None else file.name for file in store(folder, part, (photo, shown))]


def _count(half: NDArray[np.float16], record: dict[str, Any], truth: Truth | None) -> PixelCounts | None:
    size = (record["height"], record["width"])
    mask = truth.mask(record["image"], record["name"], size) if truth is not None else None
    if mask is None:
        return None
    counts = PixelCounts()
    counts.add(half, mask)
    return counts


def _save_overlay(
    path: Path,
    record: dict[str, Any],
    photo: NDArray[np.uint8] | None,
    scored: Prediction,
    values: NDArray[np.float32],
    cut: Cut,
) -> None:
    from pixal.plotting.anomaly_overlay import LabelledBox, anomaly_overlay

    if photo is None:  # detect may run where the photographs no longer are; the map is drawn on grey then
        photo = np.full((*values.shape, 3), 64, np.uint8)
    verdict = "FAIL" if scored.failed else "pass"
    p = "" if scored.p_value is None else f", p = {scored.p_value:.2g}"
    overlay = anomaly_overlay(
        photo,
        values,
        threshold=cut.on_map,
        boxes=[LabelledBox(r.x, r.y, r.width, r.height, f"{r.peak:.3g}  {r.channel}") for r in scored.regions],
        caption=f"{record['image']}: {verdict}, score {scored.score:.3g}, threshold {cut.threshold:.3g}{p}",
        map_label=f"anomaly ({unit_of(cut)})",
    )
    write_image(path, overlay)
