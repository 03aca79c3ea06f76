"""Read and write image files."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import cv2
import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import open_regular, read_bytes, write_bytes
from pixal.io.png import HEADER_BYTES, check_chunks, decode_own_png, encode_png
from pixal.io.tiff import check_segments, tiff_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Image = NDArray[Any]


MAX_DECODED_BYTES = 400_000_000
"""The largest image that is decoded, in bytes: 130 megapixels of 8-bit RGB, or 50 megapixels of 16-bit RGBA."""

_MAX_FILE_BYTES = 500_000_000  # more than the largest decoded image, which a file need not compress
_LARGEST_DEFLATE_RATIO = 1032  # decompressed to compressed bytes (zlib, "Maximum Compression Factor")
# What Pillow raises for damaged files.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")  # Pillow and OpenCV read many others, none of which is a photograph


class SizeError(InputError):
    """An image has another size than it should have.

    Attributes:
        size: Its height and width as its header states them, without its EXIF orientation.
    """

    def __init__(self, message: str, size: tuple[int, int]) -> None:
        super().__init__(message, size)
        self.size = size

    def __str__(self) -> str:
        return str(self.args[0])


def read_image(path: Path, *, max_bytes: int = MAX_DECODED_BYTES) -> Image:
    """Read an image file.

    Args:
        path: The file.
        max_bytes: The most bytes that the decoded image may have.

    Returns:
        The image as (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16. Its EXIF orientation is applied. Grey images
        become RGB.

    Raises:
        InputError: The file is not an image, is damaged or truncated, or is too large to be a photograph (a
            decompression bomb).
    """
    return decode_image(read_image_bytes(path), max_bytes=max_bytes)


def read_image_bytes(path: Path) -> bytes:
    """Read the bytes of an image file; errors as of ``read_bytes``, also if it is too large for an image."""
    return read_bytes(path, max_bytes=_MAX_FILE_BYTES)


def read_size(path: Path) -> tuple[int, int] | None:
    """Read the height and width in the header of an image file, without its EXIF orientation; None if it has none."""
    try:
        with open_regular(path) as file:
            header = _read_header(file, MAX_DECODED_BYTES)
    except (InputError, OSError):
        return None
    return header.height, header.width


def decode_image(data: bytes, *, size: tuple[int, int] | None = None, max_bytes: int = MAX_DECODED_BYTES) -> Image:
    """Decode the bytes of an image file, like ``read_image``.

    Args:
        data: The bytes.
        size: The height and width of the reference. An image of another size, also when turned by 90°, is refused
            before it is decoded.
        max_bytes: The most bytes that the decoded image may have.

    Raises:
        SizeError: The image has another size than the reference.
        InputError: As ``read_image``.
    """
    if not len(data):
        raise InputError("the file is empty")
    has_alpha, orientation = _inspect(data, size, max_bytes)
    is_tiff = data[:2] in (b"II", b"MM")
    if data.startswith((b"RIFF", b"BM")):  # WebP and BMP: OpenCV fills what it cannot decode, or reads other bytes
        return _upright(_decode_strictly(data, "RGBA" if has_alpha else "RGB"), orientation)
    if data.startswith(b"\x89PNG") and orientation == 1 and (own := decode_own_png(data)) is not None:
        return own if own.ndim == 3 else np.asarray(cv2.cvtColor(own, cv2.COLOR_GRAY2RGB))
    flags = cv2.IMREAD_UNCHANGED
    if not has_alpha:
        # OpenCV always turns a TIFF. Its reader of other EXIF data finds another orientation if they are damaged.
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | (0 if is_tiff else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise InputError("is not an image, or is damaged")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"has {image.dtype} values; PIXAL reads 8- and 16-bit images")
    if has_alpha and is_tiff and image.dtype == np.uint8:
        # OpenCV multiplies the colours of an 8-bit TIFF by alpha, and drops the alpha of a grey one.
        with PIL.Image.open(io.BytesIO(data)) as file:
            return np.asarray(PIL.ImageOps.exif_transpose(file).convert("RGBA"))
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == 2:
        image = np.dstack([image[..., :1]] * 3 + [image[..., 1:]])
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[image.shape[2]]
    image = cv2.cvtColor(image, code)
    return image if is_tiff else _upright(image, orientation)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask image as (H, W) bool: true where it is brighter than half of its brightest pixel (1, 255, …)."""
    values = read_image(path)[..., :3].max(-1)
    return np.asarray(values > values.max() // 2)


def as_uint8(image: Image) -> NDArray[np.uint8]:
    """Convert an image of 8 or 16 bits to 8 bits, for figures."""
    return np.asarray(image if image.dtype == np.uint8 else (image >> 8), np.uint8)


def write_image(path: Path, image: Image, *, quality: int = 92) -> None:
    """Write an RGB, RGBA or grey image atomically, without waiting for the disk. The extension chooses the format."""
    write_bytes(path, encode_image(path.suffix, image, quality=quality), sync=False)


def encode_image(suffix: str, image: Image, *, quality: int = 92) -> bytes:
    """Encode an RGB, RGBA or grey image in the format of ``suffix`` (".png", ".jpg", ...).

    ``quality``: of JPEG, 0 to 100.
    """
    if suffix.lower() == ".png":
        return encode_png(image)
    ordered = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(suffix, ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError(f"an image of shape {image.shape} could not be encoded as {suffix}")
    return data.tobytes()


def with_alpha(image: Image, mask: NDArray[Any]) -> Image:
    """Add an alpha channel to an image.

    Args:
        image: RGB image, (H, W, 3), uint8 or uint16.
        mask: The alpha channel, (H, W), bool or 0 to 255.

    Returns:
        RGBA image, (H, W, 4), with the data type of ``image``.
    """
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    maximum = np.iinfo(image.dtype).max
    scale = maximum if mask.dtype == np.bool_ else maximum // 255
    np.multiply(mask, scale, out=rgba[..., 3], casting="unsafe", dtype=image.dtype)
    return rgba


def write_figure(path: Path, figure: Figure, *, dpi: int = 120, fingerprint: str | None = None) -> None:
    """Write a matplotlib figure atomically as PNG.

    Args:
        path: The file.
        figure: The figure.
        dpi: Dots per inch.
        fingerprint: Fingerprint of what the figure shows, stored in the file; see ``read_fingerprint``.
    """
    write_bytes(path, figure_png(figure, dpi=dpi, fingerprint=fingerprint), sync=False)


def figure_png(figure: Figure, *, dpi: int = 150, fingerprint: str | None = None) -> bytes:
    """Draw a matplotlib figure; see ``write_figure``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # A name in a title may have characters that the font lacks; they are drawn as boxes. Not catch_warnings, because
    # several threads draw.
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # Not savefig: encoding with Pillow takes longer than drawing.
    image = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return encode_png(image, fingerprint=fingerprint)


@dataclass(frozen=True)
class _Header:
    """The content of the header of an image file.

    Attributes:
        height: Height in pixels, without the EXIF orientation.
        width: Width in pixels.
        channels: Number of channels.
        bits: Bits per channel.
        has_alpha: Whether it has an alpha channel or a transparent colour.
        orientation: The EXIF orientation, 1 to 8.
    """

    height: int
    width: int
    channels: int = 3
    bits: int = 8
    has_alpha: bool = False
    orientation: int = 1


def _inspect(data: bytes, size: tuple[int, int] | None, max_bytes: int) -> tuple[bool, int]:
    """Check the header before the image is decoded; return whether it has alpha, and the EXIF orientation (1 to 8)."""
    _check_complete(data)
    header = _read_header(io.BytesIO(data), max_bytes)
    if size is not None and sorted(size) != sorted((header.height, header.width)):
        message = f"is {header.width}x{header.height}, the reference is {size[1]}x{size[0]} pixels"
        raise SizeError(message, (header.height, header.width))
    if data[:2] in (b"II", b"MM"):
        check_segments(data)
    elif data.startswith(b"\xff\xd8"):
        _decode_strictly(data)  # OpenCV fills what it cannot decode
    elif data.startswith(b"\x89PNG"):
        _check_png_length(data)
    return header.has_alpha, header.orientation


def _read_header(file: BinaryIO, max_bytes: int) -> _Header:
    """Read the header. Raise ``InputError`` where the file is no image, or is too large when decoded."""
    stated = None
    data = file.read(HEADER_BYTES)
    file.seek(0)
    if data.startswith(b"\x89PNG") and data[12:16] == b"IHDR" and len(data) == HEADER_BYTES:
        # Pillow converts 16 bits to 8, and refuses some chunks that do no harm.
        channels = 4 if data[25] in (4, 6) else 3  # colour types with alpha
        stated = _Header(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"), channels, data[24])
    elif data[:2] in (b"II", b"MM"):
        stated = _Header(*tiff_size(file))
        file.seek(0)  # Pillow reads no TIFF with 16 bits and several channels
    if stated is not None:
        _check_memory(stated, max_bytes)
    try:
        with PIL.Image.open(file, formats=_FORMATS) as image:
            bands = image.getbands()
            has_alpha = "A" in bands or "transparency" in image.info
            if stated is None:
                stated = _Header(image.height, image.width, len(bands) + ("transparency" in image.info))
                _check_memory(stated, max_bytes)
            return replace(stated, has_alpha=has_alpha, orientation=_orientation(image))
    except PIL.Image.DecompressionBombError as error:
        if stated is None:
            raise InputError(f"is too large: {error}") from error
    except _PILLOW_ERRORS:
        if stated is None:
            raise InputError("is not an image, or is damaged") from None
    return stated


def _orientation(image: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or the EXIF data are damaged."""
    # For a PNG without EXIF in its header, getexif would decode the whole image to search after the pixels.
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(PIL.ExifTags.Base.Orientation, 1))
    except _PILLOW_ERRORS:
        return 1


def _decode_strictly(data: bytes, mode: str | None = None) -> Image:
    """Decode with Pillow. Without a ``mode`` an eighth of the size: a JPEG is then read completely, but in less time.

    Raises:
        InputError: Some of the pixels cannot be decoded.
    """
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            if mode is None:
                image.draft(image.mode, (1, 1))
            return np.array(image if mode is None else image.convert(mode))
    except _PILLOW_ERRORS as error:
        raise InputError("is damaged: its compressed pixels cannot be decoded") from error


def _check_png_length(data: bytes) -> None:
    """Raise ``InputError`` where the file is too short for the pixels that its header states."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    channels = {2: 3, 4: 2, 6: 4}.get(data[25], 1)
    if height * (width * channels * data[24] // 8) > _LARGEST_DEFLATE_RATIO * len(data):
        raise InputError(f"is truncated: {len(data)} bytes cannot hold {width}x{height} pixels")


def _check_memory(header: _Header, max_bytes: int) -> None:
    # Decoders return at least three channels, and palettes and single bits as bytes.
    decoded = header.height * header.width * max(header.channels, 3) * max(header.bits // 8, 1)
    if decoded > max_bytes:
        raise InputError(
            f"is too large: {header.width}x{header.height} pixels are {decoded / 1e6:.0f} MB when decoded, "
            f"the limit is {max_bytes / 1e6:.0f} MB; reduce or crop the image"
        )


def _upright(image: Image, orientation: int) -> Image:
    """Apply the EXIF orientation (1 to 8) to an image (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _check_complete(data: bytes) -> None:
    """Raise ``InputError`` for a truncated file. Decoders do not report it; they fill the missing part with grey."""
    head = data[:12]
    if head.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        raise InputError("is truncated: the end of the JPEG is missing")
    if head.startswith(b"\x89PNG"):
        check_chunks(data)
    if head.startswith(b"RIFF") and len(data) < int.from_bytes(head[4:8], "little") + 8:
        raise InputError("is truncated: the end of the WebP is missing")
    if head.startswith(b"BM") and len(data) < int.from_bytes(head[2:6], "little"):
        raise InputError("is truncated: the end of the BMP is missing")
