"""Read and write image files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import read_bytes, write_bytes
from pixal.io.png import encode_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Image = NDArray[Any]


def read_image(path: Path) -> Image:
    """Read an image file.

    Returns:
        The image as (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16. Its EXIF orientation is applied. Grey images
        become RGB.

    Raises:
        InputError: The file is not an image, is damaged or truncated, or is too large to be a photograph (a
            decompression bomb).
    """
    return decode_image(read_bytes(path))


def decode_image(data: bytes) -> Image:
    """Decode the bytes of an image file, like ``read_image``."""
    if not len(data):
        raise InputError("the file is empty")
    has_alpha, orientation = _inspect(data)
    flags = cv2.IMREAD_UNCHANGED if has_alpha else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise InputError("is not an image, or is damaged")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"has {image.dtype} values; PIXAL reads 8- and 16-bit images")
    is_tiff = data[:2] in (b"II", b"MM")
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
    # IMREAD_UNCHANGED, the only way to keep alpha, does not apply the EXIF orientation, except for TIFF.
    return _upright(image, orientation) if has_alpha and not is_tiff else image


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # Not savefig: encoding with Pillow takes longer than drawing.
    image = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    write_bytes(path, encode_png(image, fingerprint=fingerprint), sync=False)


def _inspect(data: bytes) -> tuple[bool, int]:
    """Check the header before the image is decoded; return whether it has alpha, and the EXIF orientation (1 to 8)."""
    _check_complete(data)
    try:
        with PIL.Image.open(io.BytesIO(data)) as header:
            has_alpha = "A" in header.getbands() or "transparency" in header.info
            # For a PNG without EXIF in its header, getexif would decode the whole image to search after the pixels.
            has_exif = "exif" in header.info or header.format == "TIFF"
            if not (has_alpha and has_exif):
                return has_alpha, 1
            return has_alpha, int(header.getexif().get(PIL.ExifTags.Base.Orientation, 1))
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"is too large: {error}") from error
    except (OSError, SyntaxError, ValueError):  # a 16-bit TIFF that Pillow cannot read, or not an image
        return False, 1


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
    head, tail = data[:12], data[-64:]
    if head.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        raise InputError("is truncated: the end of the JPEG is missing")
    if head.startswith(b"\x89PNG") and b"IEND" not in tail:
        raise InputError("is truncated: the end of the PNG is missing")
    if head.startswith(b"RIFF") and len(data) < int.from_bytes(head[4:8], "little") + 8:
        raise InputError("is truncated: the end of the WebP is missing")
    if head.startswith(b"BM") and len(data) < int.from_bytes(head[2:6], "little"):
        raise InputError("is truncated: the end of the BMP is missing")
