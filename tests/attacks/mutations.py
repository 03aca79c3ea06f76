"""Image files of each format, and seeded damage to their bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image
import tifffile
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngInfo

Image = NDArray[Any]


@dataclass(frozen=True)
class Seed:
    """A valid file.

    Attributes:
        name: What it is, for messages.
        suffix: Its extension.
        data: Its bytes.
    """

    name: str
    suffix: str
    data: bytes


def scene(height: int = 40, width: int = 56) -> Image:
    """Smooth colours with a textured rectangle in the middle, (H, W, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    values = 128 + 90 * np.sin(x / 9 + np.arange(3)[:, None, None]) * np.cos(y / 7)
    values[:, height // 4 : -height // 4, width // 4 : -width // 4] += (
        25 * ((x // 2 + y // 3) % 2)[height // 4 : -height // 4, width // 4 : -width // 4]
    )
    return np.ascontiguousarray(values.transpose(1, 2, 0).clip(0, 255).astype(np.uint8))


def seeds(picture: Image | None = None) -> list[Seed]:
    """Valid files of all formats that PIXAL reads, in their usual variants.

    Args:
        picture: What they show, (H, W, 3) uint8; None: a small scene.
    """
    picture = scene() if picture is None else picture
    rgb = PIL.Image.fromarray(picture)
    rgba = PIL.Image.fromarray(np.dstack([picture, picture.max(-1)]))
    wide = picture.astype(np.uint16) * 257
    grey, palette = rgb.convert("L"), rgb.quantize(64)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90°
    text = PngInfo()
    text.add_text("Comment", "a part", zip=True)
    made = [
        _saved("png rgb", "PNG", rgb, pnginfo=text),
        _saved("png rgba", "PNG", rgba),
        _saved("png grey", "PNG", grey),
        _saved("png palette", "PNG", palette),
        _saved("png palette transparent", "PNG", palette, transparency=3),
        _saved("png bits", "PNG", grey.convert("1")),
        _saved("png grey alpha", "PNG", rgba.convert("LA")),
        _saved("png grey 16", "PNG", PIL.Image.fromarray(np.ascontiguousarray(wide[..., 0]))),
        _saved("jpeg", "JPEG", rgb, quality=90),
        _saved("jpeg grey", "JPEG", grey),
        _saved("jpeg progressive", "JPEG", rgb, progressive=True),
        _saved("jpeg turned", "JPEG", rgb, exif=exif),
        _saved("jpeg restarts", "JPEG", rgb, restart_marker_rows=1),
        _saved("webp", "WEBP", rgb, quality=80),
        _saved("webp lossless", "WEBP", rgb, lossless=True),
        _saved("webp alpha", "WEBP", rgba, lossless=True),
        _saved("bmp", "BMP", rgb),
        _saved("bmp palette", "BMP", palette),
        _saved("bmp grey", "BMP", grey),
        _saved("tiff", "TIFF", rgb),
        _saved("tiff lzw", "TIFF", rgb, compression="tiff_lzw"),
        _saved("tiff deflate", "TIFF", rgba, compression="tiff_adobe_deflate"),
        _saved("tiff packbits", "TIFF", grey, compression="packbits"),
        _tiff("tiff 16", wide),
        _tiff("tiff 16 deflate", wide, compression="zlib"),
        _tiff("tiff tiles", picture, tile=(16, 16), compression="zlib"),
        _tiff("tiff big-endian", wide, byteorder=">"),
    ]
    return made


def mutants(given: list[Seed], count: int, seed: int) -> Iterator[tuple[str, Seed]]:
    """Yield ``count`` damaged files, each with what was done to it. The same for the same arguments."""
    rng = np.random.default_rng(seed)
    operations = list(_OPERATIONS.items())
    for index in range(count):
        base = given[index % len(given)]
        name, operation = operations[int(rng.integers(len(operations)))]
        data = operation(base.data, given, rng)
        yield f"{index}: {base.name}, {name}", Seed(base.name, base.suffix, data)


def _saved(name: str, kind: str, image: PIL.Image.Image, **options: Any) -> Seed:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Seed(name, f".{kind.lower()}", file.getvalue())


def _tiff(name: str, image: Image, **options: Any) -> Seed:
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric="rgb", metadata=None, **options)
    return Seed(name, ".tiff", file.getvalue())


def _flip_bits(data: bytes, _: list[Seed], rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _flip in range(int(rng.integers(1, 6))):
        changed[int(rng.integers(len(changed)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _truncate(data: bytes, _: list[Seed], rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(len(data)))]


def _splice(data: bytes, others: list[Seed], rng: np.random.Generator) -> bytes:
    """Put a piece of another file, or of the same one, in the place of a piece."""
    other = others[int(rng.integers(len(others)))].data
    length = int(rng.integers(1, 200))
    source, target = int(rng.integers(len(other))), int(rng.integers(len(data)))
    return data[:target] + other[source : source + length] + data[target + length * int(rng.integers(2)) :]


def _edit_header(data: bytes, _: list[Seed], rng: np.random.Generator) -> bytes:
    """Write extreme numbers into the first bytes, where sizes and offsets are."""
    changed = bytearray(data)
    for _edit in range(int(rng.integers(1, 4))):
        size = int(rng.choice([1, 2, 4]))
        place = int(rng.integers(min(len(data) - size, 160)))
        value = int(rng.choice([0, 1, 255, 2 ** (8 * size - 1), 2 ** (8 * size) - 1, 0x7FFF, 10_000]))
        changed[place : place + size] = (value % 256**size).to_bytes(size, str(rng.choice(["little", "big"])))
    return bytes(changed)


def _hole(data: bytes, _: list[Seed], rng: np.random.Generator) -> bytes:
    """Fill a piece with zeros, as a disk or a network drive does that lost a block."""
    start = int(rng.integers(len(data)))
    length = min(int(rng.integers(1, 600)), len(data) - start)
    return data[:start] + bytes(length) + data[start + length :]


def _append(data: bytes, others: list[Seed], rng: np.random.Generator) -> bytes:
    return data + others[int(rng.integers(len(others)))].data[: int(rng.integers(1, 300))]


_OPERATIONS: dict[str, Callable[[bytes, list[Seed], np.random.Generator], bytes]] = {
    "flipped bits": _flip_bits,
    "truncated": _truncate,
    "spliced": _splice,
    "edited header": _edit_header,
    "hole": _hole,
    "appended": _append,
}
