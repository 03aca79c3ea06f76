"""Draw docs/images/planted_defects.jpg: each kind of planted defect at three sizes, on a rendered photograph.

Run ``python docs/planted_defects.py`` after a change of ``pixal/defects``, and look at the result.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.defects import plant, sample_defects
from pixal.io.files import write_bytes
from pixal.plotting.drawing import draw_text
from pixal.registry import DEFECTS
from pixal.synthetic import draw_component, render_photograph

FRAME = (1920, 1080)
CROP, ZOOM, LABEL, GAP = 73, 2, 22, 8  # pixels
STROKES, STAINS, OTHERS = (1.2, 2.0, 3.5), (12.0, 24.0, 44.0), (6.0, 12.0, 24.0)
FULL = 100.0  # more than can be reached: the defect is drawn at full strength
CONTRASTS = {"scratch": -0.35, "fibre": 0.35, "spot": -0.4, "stain": -0.35, "dent": 0.2, "noise": 0.2, "colour": 0.25}
SEED = 12


def main() -> None:
    """Draw the figure."""
    component, mask = draw_component("front", FRAME)
    photo = render_photograph(component, mask, [], np.random.default_rng(3), frame_size=FRAME)
    to_reference = np.linalg.inv(photo.pose)
    kinds = [_three_sizes(kind, photo.image, to_reference, component, mask > 0) for kind in DEFECTS.builtin]
    gap = np.full((kinds[0].shape[0], GAP, 3), 255, np.uint8)
    rows = [np.hstack([left, gap, right]) for left, right in zip(kinds[::2], kinds[1::2], strict=True)]
    figure = cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", figure, [cv2.IMWRITE_JPEG_QUALITY, 85])
    write_bytes(Path(__file__).parent / "images" / "planted_defects.jpg", data.tobytes())


def _three_sizes(
    kind: str,
    photograph: NDArray[np.uint8],
    to_reference: NDArray[np.float64],
    reference: NDArray[np.uint8],
    part: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    sizes = {"scratch": STROKES, "fibre": STROKES, "stain": STAINS}.get(kind, OTHERS)
    crops = []
    for i, size in enumerate(sizes):
        contrast = CONTRASTS.get(kind, FULL)
        defect = sample_defects(part, [kind], [size], [contrast], places=3, seed=SEED, image=reference)[i]
        planted = plant(photograph, defect, to_reference, part)
        x, y, w = np.linalg.inv(to_reference) @ (*defect.place, 1)
        crop = cv2.getRectSubPix(planted.image, (CROP, CROP), (x / w, y / w))
        crops.append(cv2.resize(crop, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC))
    row = np.hstack(crops)
    label = np.full((LABEL, row.shape[1], 3), 255, np.uint8)
    draw_text(label, f"{kind}: {', '.join(f'{size:g}' for size in sizes)} px", 2, 2, 14, colour=(0, 0, 0))
    return np.vstack([label, row]).astype(np.uint8)


if __name__ == "__main__":
    main()
