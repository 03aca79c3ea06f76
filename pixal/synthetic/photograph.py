"""Render a photograph of the demo component: plate, random pose, light, dust and noise."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.synthetic.canvas import Image, blend, text_stamp
from pixal.synthetic.component import design_unit, serial_box
from pixal.synthetic.defects import add_defect

Float = NDArray[np.float32]

# In design units (pixels of a 1920x1080 frame): the frame cuts the lit disc above and below, as in the real microscope.
LIT_RADIUS, RIM_WIDTH, DISC_CENTRE = 730.0, 14.0, (6.0, -14.0)
PLATE, RIM, SURROUND, RING = (243, 112, 96), (246, 92, 58), (9, 7, 11), (92, 40, 10)
SHADOW = 0.30
NOISE = 2.5


@dataclass(frozen=True)
class RenderedPhotograph:
    """A rendered photograph with its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        foreground: (H, W) uint8, 255 on the part (without pieces that are torn off) and 0 outside.
        defects: (H, W) uint8, 255 where defects changed the part; all 0 for a good part.
        pose: 3x3 matrix from the reference frame's pixels (x, y, 1) to the photograph's, [2, 2] = 1.
    """

    image: Image
    foreground: Image
    defects: Image
    pose: NDArray[np.float64]


def render_photograph(
    image: Image,
    mask: Image,
    kinds: Sequence[str],
    rng: np.random.Generator,
    *,
    frame_size: tuple[int, int] = (640, 360),
    severity: float = 1.0,
    max_shift: float = 0.024,
    max_angle: float = 3.5,
    turn: float = 0.0,
    scale: float = 1.0,
) -> RenderedPhotograph:
    """Render a photograph of one part with its serial number and defects, in a random pose and light.

    Number, defects, pose, dust, light and noise have separate random numbers: with the same state of ``rng``, other
    ``kinds`` change only the defects.

    Args:
        image: (H, W, 3) uint8 RGB from ``draw_component``, best with size ``frame_size``.
        mask: (H, W) uint8 from ``draw_component``.
        kinds: Kinds of the defects, of ``KINDS``; empty for a good part.
        rng: Random numbers.
        frame_size: Width and height of the photograph in pixels.
        severity: Severity of the defects, as for ``add_defect``.
        max_shift: Largest shift in each direction, as a fraction of the frame's width; it is smaller where the lit disc
            has less room.
        max_angle: Largest deviation of the rotation from ``turn``, in degrees.
        turn: Rotation in degrees, anticlockwise.
        scale: Magnification; it varies by 1.5 %.

    Raises:
        InputError: If a kind is unknown, or the turned and scaled part does not fit into the lit disc.
    """
    streams = [np.random.default_rng(int(s)) for s in rng.integers(0, 2**63, 6)]
    number_rng, defect_rng, pose_rng, dust_rng, light_rng, noise_rng = streams
    part, outline = image.copy(), mask.copy()
    _print_serial(part, number_rng)
    defects = np.zeros_like(mask)
    for kind in kinds:
        defects |= add_defect(part, outline, kind, defect_rng, severity)
    pose = _random_pose(mask, frame_size, pose_rng, max_shift, max_angle, turn, scale)
    soft = np.asarray(cv2.GaussianBlur(outline, (0, 0), 0.6), np.uint8)
    coverage = np.asarray(_warp(soft, pose, frame_size) / 255, np.float32)
    photo = _dusty_plate(frame_size, coverage, dust_rng)
    warped = cv2.warpPerspective(
        _extend_edge(part, outline), pose, frame_size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    weight = _three(coverage)
    photo = _apply_light(np.asarray(photo * (1 - weight) + warped * weight, np.float32), light_rng)
    photo += NOISE * noise_rng.standard_normal(photo.shape, dtype=np.float32)
    return RenderedPhotograph(
        image=np.clip(np.rint(photo), 0, 255).astype(np.uint8),
        foreground=np.where(coverage > 0.5, 255, 0).astype(np.uint8),
        defects=np.where(_warp(defects, pose, frame_size) > 90, 255, 0).astype(np.uint8),
        pose=pose,
    )


def lit_disc(frame_size: tuple[int, int]) -> tuple[float, float, float]:
    """Return centre x, y and radius of the evenly lit disc of a frame (width, height), in pixels."""
    unit = design_unit(frame_size)
    x, y = frame_size[0] / 2 + DISC_CENTRE[0] * unit - 0.5, frame_size[1] / 2 + DISC_CENTRE[1] * unit - 0.5
    return x, y, (LIT_RADIUS - RIM_WIDTH) * unit


def _print_serial(part: Image, rng: np.random.Generator) -> None:
    """Print a serial number of four digits, a normal difference between parts."""
    x0, y0, x1, y1 = serial_box((part.shape[1], part.shape[0]))
    stamp = text_stamp(f"{rng.integers(0, 10000):04d}", max(3, round(0.62 * (y1 - y0))))
    stamp = stamp[: y1 - y0, : x1 - x0]
    free_y, free_x = y1 - y0 - stamp.shape[0], x1 - x0 - stamp.shape[1]
    y = y0 + int(rng.integers(free_y // 3, free_y - free_y // 3 + 1))
    x = x0 + int(rng.integers(free_x // 3, free_x - free_x // 3 + 1))
    blend(part[y : y + stamp.shape[0], x : x + stamp.shape[1]], stamp, (206, 226, 200))


def _random_pose(
    mask: Image,
    frame_size: tuple[int, int],
    rng: np.random.Generator,
    max_shift: float,
    max_angle: float,
    turn: float,
    scale: float,
) -> NDArray[np.float64]:
    """Return a random homography that keeps the whole part inside the lit disc and the frame."""
    h, w = mask.shape
    width, height = frame_size
    size = min(width / w, height / h) * scale * float(rng.uniform(0.985, 1.015))
    angle = np.deg2rad(turn + float(rng.uniform(-max_angle, max_angle)))
    rotation = size * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    tilt = np.eye(3)
    tilt[2, :2] = rng.uniform(-6e-6, 6e-6, 2) / design_unit(frame_size)
    about_centre = np.eye(3)
    about_centre[:2, :2] = rotation
    about_centre[:2, 2] = -rotation @ [(w - 1) / 2, (h - 1) / 2]
    pose = _translation((width - 1) / 2, (height - 1) / 2) @ tilt @ about_centre
    corners = cv2.convexHull(_ends_of_rows(mask)).reshape(-1, 1, 2)
    x, y = cv2.perspectiveTransform(corners.astype(np.float64), pose).reshape(-1, 2).T
    disc_x, disc_y, radius = lit_disc(frame_size)
    room = (
        min(
            radius - float(np.hypot(x - disc_x, y - disc_y).max()),
            float(x.min()),
            float(y.min()),
            width - 1 - float(x.max()),
            height - 1 - float(y.max()),
        )
        - 1
    )
    if room < 0:
        raise InputError(
            f"the component, turned by {turn} degrees at scale {scale}, does not fit into the lit disc "
            f"of a {width}x{height} frame; use a smaller scale"
        )
    shift = rng.uniform(-1, 1, 2) * max_shift * width
    shift *= min(1.0, room / max(1e-9, float(np.hypot(*shift))))
    pose = _translation(float(shift[0]), float(shift[1])) @ pose
    return np.asarray(pose / pose[2, 2], np.float64)


def _ends_of_rows(mask: Image) -> NDArray[np.float32]:
    """The first and the last pixel (x, y) of a mask (H, W) in each row, (N, 2): they have the hull of all pixels."""
    inside = mask > 0
    rows = np.flatnonzero(inside.any(axis=1))
    first = inside[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - inside[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([columns, rows], -1) for columns in (first, last)]).astype(np.float32)


def _three(plane: Float) -> Float:
    """A plane (H, W) as three equal channels, (H, W, 3): faster than to broadcast it over the last axis."""
    return np.asarray(cv2.merge([plane] * 3), np.float32)


def _translation(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def _warp(mask: Image, pose: NDArray[np.float64], frame_size: tuple[int, int]) -> Image:
    return np.asarray(cv2.warpPerspective(mask, pose, frame_size, flags=cv2.INTER_LINEAR), np.uint8)


def _extend_edge(part: Image, outline: Image) -> Image:
    """Extend the colours at the edge outwards, so that interpolation does not mix in the black outside the part."""
    grown = cv2.dilate(part, np.ones((7, 7), np.uint8))
    return np.where(outline[..., None] > 0, part, grown).astype(np.uint8)


def _dusty_plate(frame_size: tuple[int, int], coverage: Float, rng: np.random.Generator) -> Float:
    """Render the plate with the shadow of the part and dust outside it, which are normal differences."""
    unit = design_unit(frame_size)
    plate: Float = _plate(frame_size).copy()
    shadow = cv2.GaussianBlur(coverage, (0, 0), max(0.6, 7 * unit))
    shadow = cv2.warpAffine(shadow, np.array([[1, 0, 3 * unit], [0, 1, 5 * unit]]), frame_size)
    plate *= _three(np.asarray(1 - SHADOW * shadow, np.float32))
    disc_x, disc_y, radius = lit_disc(frame_size)
    specks: Image = np.zeros(coverage.shape, np.uint8)
    for _ in range(int(rng.integers(3, 10))):
        distance, angle = radius * 0.95 * float(np.sqrt(rng.random())), float(rng.uniform(0, 2 * np.pi))
        x, y = disc_x + distance * np.cos(angle), disc_y + distance * np.sin(angle)
        axes = [max(9, round(16 * unit * float(rng.uniform(1, 5)))) for _ in range(2)]
        cv2.ellipse(
            specks,
            (round(16 * x), round(16 * y)),
            (axes[0], axes[1]),
            float(rng.uniform(0, 180)),
            0,
            360,
            (int(rng.integers(90, 230)),),
            -1,
            cv2.LINE_AA,
            4,
        )
    specks[cv2.dilate(coverage, np.ones((5, 5), np.uint8)) > 0] = 0
    pixels, dusty = plate.reshape(-1, 3), np.flatnonzero(specks)
    weight = specks.ravel()[dusty, None].astype(np.float32) / 255
    pixels[dusty] = pixels[dusty] * (1 - weight) + weight * np.array([86, 26, 40], np.float32)
    return plate


@functools.lru_cache(maxsize=4)
def _plate(frame_size: tuple[int, int]) -> Float:
    """Render the empty plate (H, W, 3), 0 to 255, the same for every part: disc, rim, ring, grain, scale bar."""
    width, height = frame_size
    unit = design_unit(frame_size)
    disc_x, disc_y, _ = lit_disc(frame_size)
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = np.hypot(xx - disc_x, yy - disc_y) / np.float32(unit)
    rng = np.random.default_rng(40)
    coarse = cv2.resize(rng.standard_normal((9, 16)).astype(np.float32), frame_size, interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 1.1)
    grain = (1.2 * coarse + 9 * fine)[..., None] * np.array([0.3, 1, 1], np.float32)
    outwards = np.clip(radius / LIT_RADIUS, 0, 1)[..., None] ** 6
    lit = np.array(PLATE, np.float32) * (1 - outwards) + np.array(RIM, np.float32) * outwards + grain
    # The channels end at slightly different radii, which gives the violet fringe of the real optics.
    edges = np.stack([np.clip((LIT_RADIUS + d - radius) / RIM_WIDTH, 0, 1) for d in (0, 0, 6)], -1)
    ring = np.exp(-(((radius - 835) / 7) ** 2))[..., None] * np.array(RING, np.float32)
    plate = np.array(SURROUND, np.float32) * (1 - edges) + lit * edges + ring
    _draw_scale_bar(plate, unit)
    plate.setflags(write=False)
    return np.asarray(plate, np.float32)


def _draw_scale_bar(plate: Float, unit: float) -> None:
    height, width = plate.shape[:2]
    x, y = round(width / 2 - 900 * unit), round(height / 2 + 492 * unit)
    plate[y : y + max(1, round(3 * unit)), x : x + max(4, round(78 * unit))] = 235
    stamp = text_stamp("5 mm", max(4, round(18 * unit)))[..., None]
    rows, cols = stamp.shape[:2]
    top, left = y + max(2, round(9 * unit)), x + max(0, round(39 * unit - cols / 2))
    window = plate[top : top + rows, left : left + cols]
    window[:] = np.maximum(window, 225 * stamp[: window.shape[0], : window.shape[1]])


def _apply_light(photo: Float, rng: np.random.Generator) -> Float:
    """Apply random light (one gain per channel, a gradient over the frame) and a slight blur."""
    height, width = photo.shape[:2]
    gain = rng.uniform(0.9, 1.1) * rng.uniform(0.97, 1.03, 3)
    across = rng.uniform(-0.06, 0.06) * np.linspace(-0.5, 0.5, width)
    down = rng.uniform(-0.06, 0.06) * np.linspace(-0.5, 0.5, height)
    slope = (1 + across + down[:, None]).astype(np.float32)
    sigma = float(rng.uniform(0.3, 0.6))
    lit = (photo.reshape(height, -1) * np.tile(gain.astype(np.float32), width)).reshape(photo.shape)
    return np.asarray(cv2.GaussianBlur(lit * _three(slope), (0, 0), sigma), np.float32)
