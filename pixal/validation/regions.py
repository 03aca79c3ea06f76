"""From an anomaly map to its regions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """A connected region above the threshold, in the photograph's pixels.

    x, y, width, height: its box. area_px: its area. peak: its largest value. channel: the one that deviates most.
    reference: its box in the input's frame (x, y, width, height). ``*_mm``: in millimetres, where the scale is known.
    """

    x: int
    y: int
    width: int
    height: int
    area_px: float
    peak: float
    channel: str
    reference: tuple[int, int, int, int]
    width_mm: float | None = None
    height_mm: float | None = None
    area_mm2: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For ``results.json``; millimetres only where known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def find_regions(
    anomaly_map: NDArray[np.float32],
    deviations: NDArray[np.float32],
    channels: tuple[str, ...],
    *,
    threshold: float,
    low: float,
    photo_to_input: NDArray[np.float64],
    size: tuple[int, int],
    pixel_size_mm: float | None = None,
) -> list[Region]:
    """The regions of a map (H, W) in the input's frame, worst first.

    A region holds a value above ``threshold`` and all that connects to it above ``low`` times that (hysteresis, Canny
    1986). ``deviations`` (H, W, C): what each channel contributes. ``photo_to_input``: 3x3. ``size``: of the
    photograph, (H, W).
    """
    above = (anomaly_map > low * threshold).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    to_photo = np.asarray(np.linalg.inv(photo_to_input), np.float64)
    regions = []
    for label in range(1, count):
        x, y, width, height = (int(n) for n in stats[label, :4])
        window = np.s_[y : y + height, x : x + width]
        inside = labels[window] == label
        peak = float(anomaly_map[window][inside].max())
        if peak <= threshold:
            continue
        loudest = int(deviations[window][inside].mean(0).argmax())
        rows, columns = np.nonzero(inside)
        box, area = _in_photo(columns + x, rows + y, to_photo, size)
        millimetres: dict[str, Any] = {}
        if pixel_size_mm is not None:
            millimetres = {
                "width_mm": box[2] * pixel_size_mm,
                "height_mm": box[3] * pixel_size_mm,
                "area_mm2": area * pixel_size_mm**2,
            }
        regions.append(Region(*box, round(area, 1), peak, channels[loudest], (x, y, width, height), **millimetres))
    return sorted(regions, key=lambda region: -region.peak)


def _in_photo(
    columns: NDArray[np.intp], rows: NDArray[np.intp], to_photo: NDArray[np.float64], size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], float]:
    """The box (x, y, width, height) and area, in the photograph, of input pixels at ``columns``, ``rows``."""
    centres = np.stack([columns, rows], axis=-1).astype(np.float64)
    # A pixel reaches half a pixel around its centre.
    corners = np.concatenate([centres + offset for offset in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])
    moved = cv2.perspectiveTransform(corners[None], to_photo)[0].reshape(4, -1, 2)
    following = np.roll(moved, -1, axis=0)
    cross = moved[..., 0] * following[..., 1] - moved[..., 1] * following[..., 0]
    area = float(np.abs(cross.sum(0)).sum() / 2)  # the shoelace formula, a pixel at a time
    low = np.floor(moved.min((0, 1)) + 0.5).astype(int)
    high = np.ceil(moved.max((0, 1)) + 0.5).astype(int)
    low = np.clip(low, 0, np.array(size[::-1]) - 1)
    high = np.clip(high, low + 1, size[::-1])
    return (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])), area
