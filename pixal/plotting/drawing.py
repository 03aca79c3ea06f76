"""Text on images and changes of their size, by OpenCV alone: its font is its own, no matplotlib, no file."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
WARNING: Colour = (255, 150, 90)  # the vermillion of what is rejected, light enough to be read on dark grey
MIN_TEXT = 8  # pixels; below it, no letter can be told from another


def text_height(image: Image) -> int:
    """Return a text size in pixels that can be read on an image (H, W, ...): 12 at 640x360, 25 at 1080p."""
    return max(12, round(0.0175 * float(np.sqrt(image.shape[0] * image.shape[1]))))


def text_width(text: str, size: int, *, weight: int = 400) -> int:
    """Return the width in pixels of a line of text of `size` pixels."""
    return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size, weight)[2])


def fit_text(text: str, size: int, width: int, *, weight: int = 400) -> tuple[str, int]:
    """Return text and size such that it is at most `width` pixels wide: smaller first, then cut.

    The size does not fall below three quarters of `size`, nor below `MIN_TEXT`; text that then still is too
    wide ends in "…"; where not even that fits, it is empty.
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


def draw_text(image: Image, text: str, x: int, y: int, size: int, *, colour: Colour = WHITE, weight: int = 400) -> None:
    """Draw a line of text in place, its upper left corner at (x, y), `line_height(size)` high."""
    if text:
        cv2.putText(image, text, (x, y + size), colour, _font(), size, weight)


def line_height(size: int) -> int:
    """Return the height in pixels of a line of text, with what goes below its baseline."""
    return size + -(-size // 4)


def wrap_text(text: str, size: int, width: int, *, weight: int = 400) -> list[str]:
    """Return text as lines that are at most `width` pixels wide, broken between words; a longer word is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight=weight) <= width:
            lines[-1] = longer
        else:
            lines.append(fit_text(word, size, width, weight=weight)[0])
    return lines


def with_header(image: Image, title: str, entries: list[tuple[str, Colour]], *, warning: str = "") -> Image:
    """Return the image (H, W, 3) under a dark strip: a title, at the right coloured entries, below a warning.

    Entries that leave the title less than half the width go into a line of their own; a warning is wrapped.
    """
    size = text_height(image)
    margin, line = size // 2, line_height(size)
    inner = image.shape[1] - 2 * margin
    widths = [text_width(text, size) + 2 * margin for text, _ in entries]
    own_line = sum(widths) > inner // 2
    warned = wrap_text(warning, size, inner)
    strip = np.full((line * (1 + own_line + len(warned)) + margin, image.shape[1], 3), 24, np.uint8)
    top = margin // 2
    title, fitted = fit_text(title, size, inner if own_line else inner - sum(widths), weight=600)
    draw_text(strip, title, margin, top, fitted, weight=600)
    top += line if own_line else 0
    left = margin if own_line else image.shape[1] - margin - sum(widths)
    for (text, colour), width in zip(entries, widths, strict=True):
        if left + width <= image.shape[1] + 2 * margin:
            draw_text(strip, text, left if own_line else left + 2 * margin, top, size, colour=colour)
        left += width
    for text in warned:
        top += line
        draw_text(strip, text, margin, top, size, colour=WARNING)
    return np.concatenate([strip, image])


def as_rgb(image: Image) -> Image:
    """Return an image (H, W), (H, W, 3) or (H, W, 4) as (H, W, 3)."""
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return np.ascontiguousarray(image[..., :3])


def as_grey(image: Image) -> Image:
    """Return an image (H, W) or (H, W, 3) RGB as (H, W)."""
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def shrunk(image: Image, scale: float) -> Image:
    """Return the image at `scale` times its size, or as it is where that is 1 or more.

    By a whole factor first, which OpenCV averages ten times as fast as any other.
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
    """The font built into OpenCV; made anew each time (microseconds), as threads must not share one."""
    return cv2.FontFace("sans")
