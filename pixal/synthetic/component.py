"""Draw the demo component: a flex circuit with two sides. It has the same pixels every time."""

from __future__ import annotations

import cv2
import numpy as np

from pixal.errors import InputError
from pixal.synthetic.canvas import Canvas, Colour, Image, Point

TYPES = ("front", "back")
SMALLEST_SIDE = 90
# All lengths are in design units, the pixels of a 1920x1080 frame with its origin in the middle, for any frame size.
DESIGN_WIDTH, DESIGN_HEIGHT = 1920, 1080

HALF_LENGTH, END_HALF, WAIST_HALF = 595.0, 165.0, 130.0
FINGER_COUNT, FINGER_PITCH, FINGER_LENGTH, FINGER_WIDTH = 16, 19.0, 46.0, 11.0
SERIAL_CENTRE, SERIAL_SIZE = (-150.0, 88.0), (132.0, 40.0)

# RGB. The front follows a microscope photograph of a real flex circuit; the back is a variation.
FRONT: dict[str, Colour] = {
    "edge": (122, 52, 14),
    "cover": (104, 104, 6),
    "copper": (186, 198, 16),
    "shade": (84, 88, 4),
    "pad": (150, 205, 52),
    "hole": (66, 22, 8),
    "print": (176, 226, 206),
    "bare": (112, 46, 14),
}
BACK: dict[str, Colour] = {
    "edge": (58, 70, 40),
    "cover": (12, 82, 74),
    "copper": (54, 150, 110),
    "shade": (6, 60, 56),
    "pad": (226, 188, 84),
    "hole": (14, 26, 30),
    "print": (228, 236, 228),
    "bare": (30, 62, 48),
}


def draw_component(type_name: str, size: tuple[int, int] = (640, 360)) -> tuple[Image, Image]:
    """Draw one side of the component in the middle of a frame, the reference frame.

    The component takes 62 % of the width of a 16:9 frame.

    Args:
        type_name: ``front`` or ``back``.
        size: Width and height of the frame in pixels, at least 90 each.

    Returns:
        The image, (H, W, 3) uint8 RGB, black outside the component; and its mask, (H, W) uint8, 0 or 255.

    Raises:
        InputError: If the type is unknown or the frame too small.
    """
    if type_name not in TYPES:
        raise InputError(f"unknown demo type {type_name!r}: choose from {', '.join(TYPES)}")
    unit = design_unit(size)
    canvas = Canvas(size, unit, FRONT if type_name == "front" else BACK)
    outline = _outline(canvas, mirrored=type_name == "back")
    _draw_substrate(canvas, outline)
    (_draw_front if type_name == "front" else _draw_back)(canvas)
    _draw_fingers(canvas)
    image = np.asarray(cv2.resize(canvas.image, size, interpolation=cv2.INTER_AREA), np.uint8)
    mask = np.where(cv2.resize(outline, size, interpolation=cv2.INTER_AREA) > 127, 255, 0).astype(np.uint8)
    image = _mottle(image, unit, seed=TYPES.index(type_name))
    image[mask == 0] = 0
    return image, mask


def design_unit(size: tuple[int, int]) -> float:
    """Return the pixels per design unit in a frame (width, height).

    Raises:
        InputError: If a side has fewer than 90 pixels.
    """
    if min(size) < SMALLEST_SIDE:
        raise InputError(
            f"a frame of {size[0]}x{size[1]} pixels is too small; use at least {SMALLEST_SIDE} pixels on each side"
        )
    return min(size[0] / DESIGN_WIDTH, size[1] / DESIGN_HEIGHT)


def serial_box(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the box (x0, y0, x1, y1), without x1 and y1, of the field for the serial number, in pixels."""
    return _pixel_box(size, SERIAL_CENTRE, SERIAL_SIZE)


def finger_boxes(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the boxes (x0, y0, x1, y1), without x1 and y1, of the connector fingers, left end first, downwards."""
    return [
        _pixel_box(size, (x, y), (FINGER_LENGTH, FINGER_WIDTH))
        for x in (-_finger_centre(), _finger_centre())
        for y in _finger_rows()
    ]


def _outline(canvas: Canvas, *, mirrored: bool) -> Image:
    """Draw the bone-shaped outline, 0 or 255. One end is longer, so the part has an orientation."""
    left, right, slope = 165.0, 140.0, 36.0
    upper = [
        (-HALF_LENGTH, -END_HALF),
        (-HALF_LENGTH + left, -END_HALF),
        (-HALF_LENGTH + left + slope, -WAIST_HALF),
        (HALF_LENGTH - right - slope, -WAIST_HALF),
        (HALF_LENGTH - right, -END_HALF),
        (HALF_LENGTH, -END_HALF),
    ]
    corners = upper + [(x, -y) for x, y in reversed(upper)]
    sign = -1 if mirrored else 1
    filled: Image = np.zeros(canvas.image.shape[:2], np.uint8)
    cv2.fillPoly(filled, [np.array([canvas.at((sign * x, y)) for x, y in corners], np.int32)], (255,))
    soft = cv2.GaussianBlur(filled, (0, 0), 7 * canvas.scale)
    return np.where(soft > 127, 255, 0).astype(np.uint8)


def _draw_substrate(canvas: Canvas, outline: Image) -> None:
    """Draw bare substrate beyond the outline, so that the edge has its colour after shrinking, and the cover layer."""
    canvas.image[:] = canvas.colours["edge"]
    depth = cv2.distanceTransform(outline, cv2.DIST_L2, 5)
    canvas.image[depth > 7 * canvas.scale] = canvas.colours["cover"]


def _draw_front(canvas: Canvas) -> None:
    """Draw the signal side: traces that fan out from the fingers, some with a pattern, print, and fiducials."""
    rng = np.random.default_rng(11)
    waist_rows = [15.0 * (i - (FINGER_COUNT - 1) / 2) for i in range(FINGER_COUNT)]
    for i, (y_end, y) in enumerate(zip(_finger_rows(), waist_rows, strict=True)):
        ends = [_fan(side, y_end, y, float(rng.uniform(4, 11)), float(rng.uniform(0, 6.3))) for side in (-1, 1)]
        if i in (6, 12):  # dashed like the ground returns of the real part
            middle = [(x, y) for x in np.arange(-380.0, 396.0, 26.0)]
            for x, _ in middle:
                canvas.trace([(x - 7, y), (x + 7, y)], 7)
            for track in ends:
                canvas.trace(track)
        else:
            canvas.trace(ends[0] + _middle_run(i, y) + ends[1][::-1])
    for x, y in zip(np.linspace(-505, -425, 9), rng.permutation(np.linspace(-135, 135, 9)), strict=True):
        canvas.via((float(x), float(y)))
        canvas.via((-float(x) + float(rng.uniform(-14, 14)), float(-y)))
    canvas.hatch((-484, 131), (92, 44), 22, 5)
    canvas.hatch((502, -131), (74, 44), 22, 5)
    canvas.fiducial((330, -92))
    canvas.fiducial((-372, 30))
    canvas.text((-190, -96), "PIXAL-DEMO_Flex_P1-A.2", 22)
    canvas.text((-236, -52), "Layer 1: Signal", 20)
    canvas.text((-292, 88), "Serial No", 20)
    canvas.text((60, 52), "Copper Side up", 21)
    canvas.text((-425, -20), "Ring End", 28, 1)
    canvas.text((436, 20), "Module End", 28, 1)
    canvas.text((160, 96), "94V-0  E2407", 17)
    canvas.disc((282, 74), 27, "cover")
    canvas.disc((282, 74), 27, "print", 4)
    canvas.text((282, 74), "ET", 22)
    canvas.box(SERIAL_CENTRE, SERIAL_SIZE, "shade")


def _draw_back(canvas: Canvas) -> None:
    """Draw the ground side: a hatched plane, wide power lines, a row of solder pads, a field of vias, and print."""
    rng = np.random.default_rng(12)
    canvas.hatch((-215, -22), (330, 116), 24, 6)
    canvas.hatch((330, 66), (150, 104), 19, 5)
    for k, y in enumerate((-104.0, -84.0, 54.0)):
        track: list[Point] = [
            (-430, y * 1.2),
            (-385, y),
            (-20 + 30 * k, y),
            (30 + 30 * k, y + 22),
            (250, y + 22),
            (300, y * 0.9),
            (430, y * 1.2),
        ]
        canvas.trace(track, 12)
    for k in range(7):
        x = 20.0 + 34 * k
        canvas.box((x, -24), (22, 40), "shade")
        canvas.box((x, -24), (17, 34), "pad")
        canvas.trace([(x, 4), (x, 16), (x + 20, 36)], 6)
        canvas.via((x + 20, 40), 6)
    for y in _finger_rows():
        for side in (-1, 1):
            bend = float(rng.uniform(420, 500))
            canvas.trace([(side * 545, y), (side * bend, y), (side * (bend - 18), y * 0.88)], 7)
            canvas.via((side * (bend - 18), y * 0.88), 7)
    for _ in range(26):
        canvas.via((float(rng.uniform(-360, 380)), float(rng.choice([-120, 121]))), 6)
    canvas.fiducial((374, -66))
    canvas.fiducial((-404, 84))
    canvas.text((-210, -22), "GROUND P1-B.1", 28)
    canvas.text((-292, 88), "Serial No", 20)
    canvas.text((118, 104), "PIXAL DEMO FLEX", 22)
    canvas.text((330, 62), "L2", 44)
    canvas.text((-412, -40), "BACK", 30, 1)
    canvas.text((412, 10), "J2 Module", 24, 3)
    canvas.box(SERIAL_CENTRE, SERIAL_SIZE, "shade")


def _draw_fingers(canvas: Canvas) -> None:
    for x in (-_finger_centre(), _finger_centre()):
        canvas.box((x, 0), (FINGER_LENGTH + 10, FINGER_COUNT * FINGER_PITCH), "shade")
        for y in _finger_rows():
            canvas.box((x, y), (FINGER_LENGTH, FINGER_WIDTH), "pad")
            canvas.disc((x + (14 if x < 0 else -14), y), 3.2, "hole")


def _finger_rows() -> list[float]:
    return [FINGER_PITCH * (i - (FINGER_COUNT - 1) / 2) for i in range(FINGER_COUNT)]


def _finger_centre() -> float:
    return HALF_LENGTH - 10 - FINGER_LENGTH / 2


def _fan(side: int, y_end: float, y_waist: float, wiggle: float, phase: float) -> list[Point]:
    """Return a wavy trace from its finger at one end (``side`` -1: left, 1: right) to its row in the waist."""
    t = np.linspace(0, 1, 40)
    ease = t * t * (3 - 2 * t)
    wave = wiggle * 0.5 * np.sin(3 * np.pi * t + 0.15 * phase) * np.sin(np.pi * t)
    x = side * (545 - 160 * t)
    y = y_end + (y_waist - y_end) * ease + wave
    return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]


def _middle_run(row: int, y: float) -> list[Point]:
    """Return the middle of a trace, for the rows that meander as lines of equal length do; else an empty list."""
    start, stop = {3: (-60, 90), 8: (150, 320), 9: (-330, -180), 13: (-20, 60)}.get(row, (0, 0))
    if start == stop:
        return []
    turns = [(float(x), y + (5.0 if k % 2 else -5.0)) for k, x in enumerate(range(start, stop, 12))]
    return [(start - 6.0, y), *turns, (stop + 6.0, y)]


def _mottle(image: Image, unit: float, seed: int) -> Image:
    """Add the texture of the lamination: slow changes of brightness and a fine weave."""
    rng = np.random.default_rng([seed, 97])
    h, w = image.shape[:2]
    slow = cv2.resize(rng.standard_normal((6, 10)).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32) / np.float32(unit)
    weave = np.sin((xx + yy) * np.float32(0.29)) * np.sin((xx - yy) * np.float32(0.29))
    uneven = np.clip(image * (1 + 0.03 * slow + 0.02 * weave)[..., None], 0, 255)
    return np.asarray(uneven, np.uint8)


def _pixel_box(size: tuple[int, int], centre: Point, extent: Point) -> tuple[int, int, int, int]:
    unit = design_unit(size)
    x, y = size[0] / 2 + centre[0] * unit, size[1] / 2 + centre[1] * unit
    half_w, half_h = extent[0] / 2 * unit, extent[1] / 2 * unit
    return (
        round(x - half_w),
        round(y - half_h),
        max(round(x - half_w) + 1, round(x + half_w)),
        max(round(y - half_h) + 1, round(y + half_h)),
    )
