"""Find the anomalous regions of an anomaly map."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Region:
    """A connected region above the threshold.

    Attributes:
        x: Left edge of its bounding box in the photograph, pixels.
        y: Top edge of its bounding box in the photograph, pixels.
        width: Width of its bounding box in the photograph, pixels.
        height: Height of its bounding box in the photograph, pixels.
        area_px: Its area in the photograph, pixels.
        peak: The largest value of the anomaly map in the region.
        channel: The channel that deviates most, on average over the region.
        reference: Its bounding box (x, y, width, height) in the frame of the model's input.
        width_mm: Width in millimetres; None if the scale is not known.
        height_mm: Height in millimetres; None if the scale is not known.
        area_mm2: Area in square millimetres; None if the scale is not known.
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
        """Return the content for ``results.json``, without the fields that are None."""
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
    """Return the regions of an anomaly map, the region with the largest peak first.

    A region has at least one value above ``threshold``. It extends to all connected pixels above ``low * threshold``
    (hysteresis thresholding, Canny 1986).

    Args:
        anomaly_map: (H, W), in the frame of the model's input.
        deviations: (H, W, C), the contribution of each channel to the map.
        channels: The names of the C channels.
        threshold: The threshold in the units of the map.
        low: The lower threshold as a share of ``threshold``, in (0, 1].
        photo_to_input: The 3x3 homography from the photograph's pixels to the model's input.
        size: Height and width of the photograph, pixels.
        pixel_size_mm: The size of a photograph's pixel in millimetres; None if not known.
    """
    above_low = (anomaly_map > low * threshold).astype(np.uint8)
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(above_low, connectivity=8)
    input_to_photo = np.asarray(np.linalg.inv(photo_to_input), np.float64)
    regions = []
    for label in range(1, n_labels):
        x, y, width, height = (int(n) for n in stats[label, :4])
        window = np.s_[y : y + height, x : x + width]
        in_region = labels[window] == label
        peak = float(anomaly_map[window][in_region].max())
        if peak <= threshold:
            continue
        channel = channels[int(deviations[window][in_region].mean(0).argmax())]
        rows, columns = np.nonzero(in_region)
        box, area = _box_and_area(columns + x, rows + y, input_to_photo, size)
        region = Region(*box, round(area, 1), peak, channel, (x, y, width, height))
        if pixel_size_mm is not None:
            region = replace(
                region,
                width_mm=box[2] * pixel_size_mm,
                height_mm=box[3] * pixel_size_mm,
                area_mm2=area * pixel_size_mm**2,
            )
        regions.append(region)
    return sorted(regions, key=lambda region: -region.peak)


def _box_and_area(
    columns: NDArray[np.intp], rows: NDArray[np.intp], input_to_photo: NDArray[np.float64], size: tuple[int, int]
) -> tuple[tuple[int, int, int, int], float]:
    """Return the bounding box (x, y, width, height) and the area of input pixels, in the photograph's pixels.

    Args:
        columns: (N,), the columns of the input pixels.
        rows: (N,), the rows of the input pixels.
        input_to_photo: The 3x3 homography from the model's input to the photograph's pixels.
        size: Height and width of the photograph, to which the box is clipped.
    """
    centres = np.stack([columns, rows], axis=-1).astype(np.float64)
    # A pixel extends half a pixel around its centre.
    corners = np.concatenate([centres + offset for offset in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])
    moved = cv2.perspectiveTransform(corners[None], input_to_photo)[0].reshape(4, -1, 2)
    following = np.roll(moved, -1, axis=0)
    cross = moved[..., 0] * following[..., 1] - moved[..., 1] * following[..., 0]
    area = float(np.abs(cross.sum(0)).sum() / 2)  # shoelace formula for each pixel
    low = np.floor(moved.min((0, 1)) + 0.5).astype(int)
    high = np.ceil(moved.max((0, 1)) + 0.5).astype(int)
    low = np.clip(low, 0, np.array(size[::-1]) - 1)
    high = np.clip(high, low + 1, size[::-1])
    return (int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])), area
