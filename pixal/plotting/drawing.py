"""Text on images, and conversions of images, by OpenCV alone: it needs neither matplotlib nor a font file."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
WARNING: Colour = (255, 150, 90)  # ``style.REJECTED``, made lighter to be readable on dark grey
HEADER: Colour = (24, 24, 24)
MIN_TEXT = 8  # pixels; smaller letters cannot be read


def text_height(image: Image) -> int:
    """Return a text size in pixels that is readable on an image (H, W, ...): 12 at 640x360, 25 at 1920x1080."""
    return max(12, round(0.0175 * float(np.sqrt(image.shape[0] * image.shape[1]))))


def text_width(text: str, size: int, *, weight: int = 400) -> int:
    """Return the width in pixels of a line of text of ``size`` pixels."""
    return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight)[2])


def line_height(size: int) -> int:
    """Return the height in pixels of a line of text of ``size`` pixels, including what is below its baseline."""
    return size + -(-size // 4)


def fit_text(text: str, size: int, width: int, *, weight: int = 400) -> tuple[str, int]:
    """Make a line of text at most ``width`` pixels wide: reduce its size first, then cut it.

    Returns:
        The text and its size. The size is at least three quarters of ``size`` and at least ``MIN_TEXT``. Text that is
        still too wide is cut and ends in "…"; it is empty if there is no room for one letter.
    """
    smallest = min(size, max(MIN_TEXT, round(0.75 * size)))
    while size > smallest and text_width(text, size, weight=weight) > width:
        size -= 1
    if text_width(text, size, weight=weight) <= width:
        return text, size
    for end in range(len(text) - 1, 0, -1):
        cut = text[:end].rstrip() + "…"
        if text_width(cut, size, weight=weight) <= width:
            return cut, size
    return "", size


def wrap_text(text: str, size: int, width: int, *, weight: int = 400) -> list[str]:
    """Return text as lines at most ``width`` pixels wide. Lines break between words; a word that is too long is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight=weight) <= width:
            lines[-1] = longer
        else:
            lines.append(fit_text(word, size, width, weight=weight)[0])
    return lines


def draw_text(image: Image, text: str, x: int, y: int, size: int, *, colour: Colour = WHITE, weight: int = 400) -> None:
    """Draw a line of text in place. Its upper left corner is at (x, y); it is ``line_height(size)`` high."""
    if text:
        cv2.putText(image, text, (x, y + size), colour, _font(), size, weight)


def add_header(image: Image, title: str, entries: list[tuple[str, Colour]], *, warning: str = "") -> Image:
    """Add a dark strip with a title, legend entries and a warning above an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        title: Drawn at the left, cut if there is no room.
        entries: Text and colour of the legend entries. They are at the right of the title, or on a line of their own
            if they would leave less than half the width for the title.
        warning: Drawn below, wrapped.

    Returns:
        (h, W, 3) uint8 RGB, with h > H.
    """
    size = text_height(image)
    margin, line = size // 2, line_height(size)
    inner_width = image.shape[1] - 2 * margin
    widths = [text_width(text, size) + 2 * margin for text, _ in entries]
    has_own_line = sum(widths) > inner_width // 2
    warning_lines = wrap_text(warning, size, inner_width)
    height = line * (1 + has_own_line + len(warning_lines)) + margin
    strip = np.full((height, image.shape[1], 3), HEADER, np.uint8)
    top = margin // 2
    title, title_size = fit_text(title, size, inner_width if has_own_line else inner_width - sum(widths), weight=600)
    draw_text(strip, title, margin, top, title_size, weight=600)
    top += line if has_own_line else 0
    left = margin if has_own_line else image.shape[1] - margin - sum(widths)
    for (text, colour), width in zip(entries, widths, strict=True):
        if left + width <= image.shape[1] + 2 * margin:
            draw_text(strip, text, left if has_own_line else left + 2 * margin, top, size, colour=colour)
        left += width
    for text in warning_lines:
        top += line
        draw_text(strip, text, margin, top, size, colour=WARNING)
    return np.concatenate([strip, image])


def to_rgb(image: Image) -> Image:
    """Return an image (H, W), (H, W, 3) or (H, W, 4) as (H, W, 3)."""
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return np.ascontiguousarray(image[..., :3])


def to_grey(image: Image) -> Image:
    """Return an image (H, W) or (H, W, 3) RGB as (H, W)."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def shrink(image: Image, scale: float) -> Image:
    """Return an image at ``scale`` times its size, or unchanged if ``scale`` is 1 or more.

    The size is reduced by a whole factor first: OpenCV averages whole blocks ten times as fast as other sizes.
    """
    if scale >= 1.0:
        return image
    height, width = (max(1, int(side * scale)) for side in image.shape[:2])
    factor = int(1 / scale)
    if factor > 1:
        whole = (max(1, image.shape[1] // factor), max(1, image.shape[0] // factor))
        image = np.asarray(cv2.resize(image, whole, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _font() -> cv2.FontFace:
    """The font built into OpenCV. Created for each call (microseconds), because threads must not share one."""
    return cv2.FontFace("sans")
