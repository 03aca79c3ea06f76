"""Find the part without a network: what differs from the plate that is seen along the photograph's border."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.tasks.photographs.foreground.plate import Plate, plates, round_element
from pixal.tasks.photographs.geometry import Box

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

LEAST_AREA = 0.002  # of the frame
_LEAST_ON_DISC = 0.03  # of a lit disc that is whole: what is smaller is print on a round part on a black plate
_FINE = 540  # pixels of the shorter side at which the outline is drawn
_COARSE = 135  # … and at which the part is found
_LEAST_CONTRAST, _CONTRAST_GRAINS = 7.0, 6.0  # on average over the part: CIELAB units, and grains of the plate
_LEAST_THRESHOLD, _THRESHOLD_GRAINS = 6.0, 3.0
_OTSU_SHARE = 0.6
_OTHER = 0.05  # of the part's area; what is smaller is dust
_HOLE = 0.005  # of the part's area; what is smaller is glare or print of the plate's colour
_ROUGH = 0.4  # of the part's mean distance from the plate: close enough to the outline to look just inside it
_SMOOTH = 0.7  # pixels (fine), along and across the outline


def find_part(image: Bytes) -> tuple[Bytes, tuple[Box, ...]]:
    """The alpha (H, W), 0 or 255, of the largest central part on an RGB photograph (H, W, 3), and the others' boxes.

    The plate may have any colours, shading, and a moderate texture, and may be the lit disc of a microscope; holes in
    the part that show it are zero. A round part on a black plate, wider than 70 % of the frame's shorter side and with
    a large print on it, is taken for a lit disc.

    Raises InputError where nothing stands out from the plate.
    """
    height, width = image.shape[:2]
    fine = _shrunk(image, _FINE)
    coarse = _lab(_shrunk(fine, _COARSE))
    for plate in plates(coarse, fine):
        distance = plate.distance(coarse)
        threshold = max(_threshold(distance[plate.region]), _THRESHOLD_GRAINS * plate.grain)
        chosen, boxes = choose_part(_cleaned(distance > threshold) * np.uint8(255), plate.region)
        part = chosen > 0
        whole = plate.disc is not None and plate.disc.whole
        large = part.sum() > (_LEAST_ON_DISC * plate.region.sum() if whole else LEAST_AREA * part.size)
        if large and distance[part].mean() > max(_LEAST_CONTRAST, _CONTRAST_GRAINS * plate.grain):
            break
    else:
        raise InputError("no part found: nothing stands out from the background")
    part = _without_holes(part, distance < _OTSU_SHARE * threshold)
    outlined = _outlined(part, distance, plate, fine)
    alpha = cv2.resize(outlined, (width, height), interpolation=cv2.INTER_LINEAR)
    others = tuple(_scaled(box, width / part.shape[1], height / part.shape[0]) for box in boxes)
    return np.asarray(cv2.threshold(alpha, 127, 255, cv2.THRESH_BINARY)[1], np.uint8), others


def choose_part(alpha: Bytes, region: NDArray[np.bool_] | None = None) -> tuple[Bytes, tuple[Box, ...]]:
    """An alpha (H, W) of which only the largest central part is left, and the boxes of the others, largest first.

    ``region`` (H, W): a part lies in it for the most. Without a part the alpha is zero.
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
    others = [int(i) for i in np.argsort(-area) if i != chosen and area[i] > _OTHER * area[chosen]]
    kept = labels == chosen
    fringe = (alpha <= 127) & (cv2.dilate(kept.astype(np.uint8), np.ones((31, 31), np.uint8)) > 0)
    boxes = tuple(Box(*box) for box in stats[others, :4].tolist())
    return np.where(kept | fringe, alpha, np.uint8(0)), boxes


def _threshold(distance: Floats) -> float:
    """What is further from the plate stands out. Otsu's threshold lies between the two; a part's edges are nearer."""
    levels = np.clip(distance * 3, 0, 255).astype(np.uint8)
    otsu, _ = cv2.threshold(levels, 0, 1, cv2.THRESH_OTSU)
    return max(_OTSU_SHARE * otsu / 3, _LEAST_THRESHOLD)


def _cleaned(mask: NDArray[np.bool_]) -> Bytes:
    """Without dust and scratches, and without gaps."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, round_element(3))
    wide = cv2.copyMakeBorder(opened, 1, 1, 1, 1, cv2.BORDER_CONSTANT)  # else a gap along the frame is closed too
    return np.asarray(cv2.morphologyEx(wide, cv2.MORPH_CLOSE, round_element(3))[1:-1, 1:-1], np.uint8)


def _without_holes(part: NDArray[np.bool_], plate_like: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part, its small holes filled; large ones stay where they show the plate."""
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.asarray(cv2.drawContours(np.zeros(part.shape, np.uint8), outlines, -1, 1, -1), np.uint8)
    shows = np.asarray(cv2.morphologyEx(filled & plate_like, cv2.MORPH_OPEN, round_element(3)), np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(shows, connectivity=4)
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] > _HOLE * filled.sum()]
    holes = cv2.dilate(np.isin(labels, large).astype(np.uint8), round_element(3)) > 0
    return (filled > 0) & ~holes


def _outlined(part: NDArray[np.bool_], distance: Floats, plate: Plate, fine: Bytes) -> Bytes:
    """The part (h, w) drawn anew at the size of the finer photograph (H, W): above 127 inside.

    The outline runs where the distance to the plate is half of what it is just inside, which is where the part's edge
    is: often darker, and nearer to the plate, than the part.
    """
    small = part.astype(np.uint8)
    size = fine.shape[1::-1]
    certain = cv2.resize(cv2.erode(small, round_element(5)), size, interpolation=cv2.INTER_NEAREST)
    possible = cv2.resize(cv2.dilate(small, round_element(5)), size, interpolation=cv2.INTER_NEAREST)
    band = np.flatnonzero(possible > certain)
    rows, columns = np.divmod(band, size[0])
    scale = part.shape[1] / size[0]
    x, y = (np.asarray((places + 0.5) * scale - 0.5, np.float32) for places in (columns, rows))
    there = plate.distance(_lab(fine.reshape(-1, 1, 3)[band])[:, 0], (x, y))
    cells = plate.pixels(x, y)
    rough = certain.copy()
    rough.ravel()[band] = there > _ROUGH * distance[part].mean()
    just_inside = cv2.erode(rough, round_element(3)) > cv2.erode(rough, round_element(5))
    contrast = _local_means(there, cells, just_inside.ravel()[band], part.shape).ravel()[cells]
    alpha = certain * np.uint8(255)
    alpha.ravel()[band] = np.clip(there / contrast * 255, 0, 255)
    return _tidied(np.asarray(cv2.GaussianBlur(alpha, (0, 0), _SMOOTH), np.uint8))


def _local_means(values: Floats, cells: NDArray[np.intp], chosen: NDArray[np.bool_], shape: tuple[int, ...]) -> Floats:
    """The means (h, w) over neighbouring cells of the values (N) chosen; where there are none near, the mean of all."""
    count = shape[0] * shape[1]
    sums = np.bincount(cells[chosen], values[chosen], count).reshape(shape)
    counts = np.bincount(cells[chosen], minlength=count).reshape(shape).astype(float)
    near, weights = cv2.blur(sums, (5, 5)), cv2.blur(counts, (5, 5))
    overall = sums.sum() / max(counts.sum(), 1)
    return np.asarray(np.where(weights > 1e-6, near / np.maximum(weights, 1e-6), overall), np.float32).clip(1)


def _tidied(alpha: Bytes) -> Bytes:
    """Without what the outline left over: specks of plate in the part, specks of anything beside it."""
    mask = (alpha > 127).astype(np.uint8)
    outlines, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return alpha
    areas = [cv2.contourArea(outline) for outline in outlines]
    largest = int(np.argmax([area if above < 0 else -1 for area, (*_, above) in zip(areas, tree[0], strict=True)]))
    tidy = cv2.drawContours(np.zeros_like(mask), outlines, largest, 1, -1)
    for index, (*_, above) in enumerate(tree[0]):
        if above == largest and areas[index] > _HOLE * areas[largest]:
            cv2.drawContours(tidy, outlines, index, 0, -1)
    alpha[(tidy > 0) & (mask == 0)] = 255
    alpha[cv2.dilate(tidy, round_element(3)) == 0] = 0
    return alpha


def _scaled(box: Box, across: float, down: float) -> Box:
    x, y, width, height = box
    left, top = round(x * across), round(y * down)
    return Box(left, top, round((x + width) * across) - left, round((y + height) * down) - top)


def _shrunk(image: Bytes, side: int) -> Bytes:
    """The photograph with ``side`` pixels along its shorter side, or as it is where it has fewer."""
    height, width = image.shape[:2]
    scale = side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _lab(image: Bytes) -> Floats:
    return np.asarray(cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), np.float32)
