"""Find the part without a network: what differs from the plate along the border of the photograph."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.tasks.photographs.foreground.plate import Plate, propose_plates, round_element
from pixal.tasks.photographs.geometry import Box

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

MIN_AREA = 0.002
"""Smallest area of a part, as a fraction of the photograph."""

_MIN_AREA_ON_DISC = 0.03  # of a lit disc inside the frame: anything smaller is print on a round part on a black plate
_FINE = 540  # pixels of the shorter side when the outline is drawn
_COARSE = 135  # pixels of the shorter side when the part is found
# Smallest mean distance of the part from the plate, in CIELAB units and in units of the plate's grain.
_MIN_CONTRAST, _CONTRAST_GRAINS = 7.0, 6.0
_MIN_THRESHOLD, _THRESHOLD_GRAINS = 6.0, 3.0
_OTSU_FACTOR = 0.6
_OTHER_PART = 0.05  # of the part's area; anything smaller is dust
_HOLE = 0.005  # of the part's area; anything smaller is glare or print with the colour of the plate
_ROUGH_OUTLINE = 0.4  # of the part's mean distance from the plate
_SMOOTHING = 0.7  # pixels of the fine image


def find_part(image: Bytes) -> tuple[Bytes, tuple[Box, ...]]:
    """Find the largest central part on a photograph.

    The plate may have several colours, shading and a moderate texture, and may be the lit disc of a microscope. Holes
    that show the plate do not belong to the part.

    Limitation: a round part on a black plate, wider than 70 % of the shorter side and with a large print on it, is
    mistaken for a lit disc.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        Alpha (H, W), 255 on the part and 0 outside, and the boxes of other parts, largest first.

    Raises:
        InputError: If nothing differs from the plate.
    """
    height, width = image.shape[:2]
    fine = _shrink(image, _FINE)
    coarse = _to_lab(_shrink(fine, _COARSE))
    for plate in propose_plates(coarse, fine):
        distance = plate.distance(coarse)
        threshold = max(_threshold(distance[plate.region]), _THRESHOLD_GRAINS * plate.grain)
        chosen, boxes = choose_part(_remove_dust_and_gaps(distance > threshold) * np.uint8(255), plate.region)
        part = chosen > 0
        on_whole_disc = plate.disc is not None and plate.disc.is_whole
        is_large = part.sum() > (_MIN_AREA_ON_DISC * plate.region.sum() if on_whole_disc else MIN_AREA * part.size)
        if is_large and distance[part].mean() > max(_MIN_CONTRAST, _CONTRAST_GRAINS * plate.grain):
            break
    else:
        raise InputError("no part found: nothing differs from the background")
    part = _fill_small_holes(part, distance < _OTSU_FACTOR * threshold)
    fine_alpha = _refine_outline(part, distance, plate, fine)
    alpha = cv2.resize(fine_alpha, (width, height), interpolation=cv2.INTER_LINEAR)
    others = tuple(_scale_box(box, width / part.shape[1], height / part.shape[0]) for box in boxes)
    return np.asarray(cv2.threshold(alpha, 127, 255, cv2.THRESH_BINARY)[1], np.uint8), others


def choose_part(alpha: Bytes, region: NDArray[np.bool_] | None = None) -> tuple[Bytes, tuple[Box, ...]]:
    """Keep only the largest central part.

    Args:
        alpha: (H, W), 0 to 255; above 127 inside a part.
        region: (H, W), contains more than half of each part; None: the whole photograph.

    Returns:
        Alpha (H, W) of the part with its soft edge, all zero if there is no part; and the boxes of other parts, largest
        first.
    """
    mask = (alpha > 127).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return np.zeros_like(alpha), ()
    area = stats[:, cv2.CC_STAT_AREA].astype(float)
    if region is not None:
        area[np.bincount(labels[region], minlength=count) < area / 2] = 0
    area[0] = 0
    half = np.array(alpha.shape[::-1]) / 2
    chosen = int(np.argmax(area * np.exp(-(((centres - half) / half) ** 2).sum(1))))
    others = [int(i) for i in np.argsort(-area) if i != chosen and area[i] > _OTHER_PART * area[chosen]]
    part = labels == chosen
    soft_edge = (alpha <= 127) & (cv2.dilate(part.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0)
    boxes = tuple(Box(*box) for box in stats[others, :4].tolist())
    return np.where(part | soft_edge, alpha, np.uint8(0)), boxes


def _threshold(distance: Floats) -> float:
    """Choose the distance from the plate above which a pixel belongs to a part.

    Otsu's threshold lies between plate and part; it is lowered because the edges of a part are closer to the plate.
    """
    levels = np.clip(distance * 3, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)
    return max(_OTSU_FACTOR * otsu / 3, _MIN_THRESHOLD)


def _remove_dust_and_gaps(mask: NDArray[np.bool_]) -> Bytes:
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, round_element(3))
    padded = cv2.copyMakeBorder(opened, 1, 1, 1, 1, cv2.BORDER_CONSTANT)  # keeps a gap along the border open
    return np.asarray(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, round_element(3))[1:-1, 1:-1], np.uint8)


def _fill_small_holes(part: NDArray[np.bool_], plate_like: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of the part, except large ones that show the plate."""
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.asarray(cv2.drawContours(np.zeros(part.shape, np.uint8), outlines, -1, 1, -1), np.uint8)
    plate_inside = np.asarray(cv2.morphologyEx(filled & plate_like, cv2.MORPH_OPEN, round_element(3)), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(plate_inside, connectivity=4)
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] > _HOLE * filled.sum()]
    holes = cv2.dilate(np.isin(labels, large).astype(np.uint8), round_element(3)) > 0
    return (filled > 0) & ~holes


def _refine_outline(part: NDArray[np.bool_], distance: Floats, plate: Plate, fine: Bytes) -> Bytes:
    """Draw the outline of the part at the size of the fine image.

    The outline runs where the distance from the plate is half of the distance just inside the part. There is the part's
    edge, which is often darker than the part and closer to the plate's colour.

    Args:
        part: (h, w) mask at the coarse size.
        distance: (h, w) distance from the plate.
        plate: The plate.
        fine: (H, W, 3) RGB photograph.

    Returns:
        Alpha (H, W), above 127 inside the part.
    """
    small = part.astype(np.uint8)
    size = fine.shape[1::-1]
    certain = cv2.resize(cv2.erode(small, round_element(5)), size, interpolation=cv2.INTER_NEAREST)
    possible = cv2.resize(cv2.dilate(small, round_element(5)), size, interpolation=cv2.INTER_NEAREST)
    band = np.flatnonzero(possible > certain)
    rows, columns = np.divmod(band, size[0])
    scale = part.shape[1] / size[0]
    x, y = (np.asarray((pixels + 0.5) * scale - 0.5, np.float32) for pixels in (columns, rows))
    band_distance = plate.distance(_to_lab(fine.reshape(-1, 1, 3)[band])[:, 0], (x, y))
    cells = plate.nearest_pixels(x, y)
    rough = certain.copy()
    rough.ravel()[band] = band_distance > _ROUGH_OUTLINE * distance[part].mean()
    just_inside = cv2.erode(rough, round_element(3)) > cv2.erode(rough, round_element(5))
    contrast = _local_means(band_distance, cells, just_inside.ravel()[band], part.shape).ravel()[cells]
    alpha = certain * np.uint8(255)
    alpha.ravel()[band] = np.clip(band_distance / contrast * 255, 0, 255)
    return _remove_specks(np.asarray(cv2.GaussianBlur(alpha, (0, 0), _SMOOTHING), np.uint8))


def _local_means(values: Floats, cells: NDArray[np.intp], chosen: NDArray[np.bool_], shape: tuple[int, ...]) -> Floats:
    """Average the chosen values over neighbouring cells.

    Args:
        values: (N,) values.
        cells: (N,) flat index of the cell of each value.
        chosen: (N,) which values count.
        shape: Height and width of the grid of cells.

    Returns:
        (h, w) means; the mean of all where no value is near.
    """
    count = shape[0] * shape[1]
    sums = np.bincount(cells[chosen], values[chosen], count).reshape(shape)
    counts = np.bincount(cells[chosen], minlength=count).reshape(shape).astype(float)
    near, weights = cv2.blur(sums, (5, 5)), cv2.blur(counts, (5, 5))
    overall = sums.sum() / max(counts.sum(), 1)
    return np.asarray(np.where(weights > 1e-6, near / np.maximum(weights, 1e-6), overall), np.float32).clip(1)


def _remove_specks(alpha: Bytes) -> Bytes:
    """Fill small holes in the part, and remove everything outside it."""
    mask = (alpha > 127).astype(np.uint8)
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return alpha
    areas = [cv2.contourArea(outline) for outline in outlines]
    largest = int(np.argmax([area if parent < 0 else -1 for area, (*_, parent) in zip(areas, tree[0], strict=True)]))
    part = cv2.drawContours(np.zeros_like(mask), outlines, largest, 1, -1)
    for index, (*_, parent) in enumerate(tree[0]):
        if parent == largest and areas[index] > _HOLE * areas[largest]:
            cv2.drawContours(part, outlines, index, 0, -1)
    alpha[(part > 0) & (mask == 0)] = 255
    alpha[cv2.dilate(part, round_element(3)) == 0] = 0
    return alpha


def _scale_box(box: Box, scale_x: float, scale_y: float) -> Box:
    x, y, width, height = box
    left, top = round(x * scale_x), round(y * scale_y)
    return Box(left, top, round((x + width) * scale_x) - left, round((y + height) * scale_y) - top)


def _shrink(image: Bytes, side: int) -> Bytes:
    """Shrink an image to ``side`` pixels along its shorter side; a smaller image stays unchanged."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _to_lab(image: Bytes) -> Floats:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), np.float32)
