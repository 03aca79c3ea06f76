"""Read and write images; write any file so that no half of it is ever seen."""

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
    """The image as (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16, upright by its EXIF orientation; grey becomes RGB.

    Raises InputError for a file that is no image, is damaged or truncated, or is too large to be a photograph (a
    decompression bomb).
    """
    return decode_image(read_bytes(path))


def decode_image(data: bytes) -> Image:
    """The image that a file's bytes hold, as ``read_image`` gives it."""
    if not len(data):
        raise InputError("the file is empty")
    has_alpha, orientation = _inspect(data)
    flags = cv2.IMREAD_UNCHANGED if has_alpha else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise InputError(f"cannot be decoded: {error.err}") from error
    if image is None:
        raise InputError("is no image, or is damaged")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"holds {image.dtype} values; PIXAL reads 8- and 16-bit images")
    is_tiff = data[:2] in (b"II", b"MM")
    if has_alpha and is_tiff and image.dtype == np.uint8:
        # OpenCV multiplies the colours of an 8-bit TIFF by its alpha, and drops the alpha of a grey one.
        with PIL.Image.open(io.BytesIO(data)) as file:
            return np.asarray(PIL.ImageOps.exif_transpose(file).convert("RGBA"))
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == 2:
        image = np.dstack([image[..., :1]] * 3 + [image[..., 1:]])
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[image.shape[2]]
    image = cv2.cvtColor(image, code)
    # IMREAD_UNCHANGED, the only way to keep alpha, leaves the picture as it is stored, except for TIFF.
    return _upright(image, orientation) if has_alpha and not is_tiff else image


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask image as (H, W) bool: true where it is brighter than half of its brightest pixel (1, 255, …)."""
    values = read_image(path)[..., :3].max(-1)
    return np.asarray(values > values.max() // 2)


def as_uint8(image: Image) -> NDArray[np.uint8]:
    """The image in 8 bits, for pictures."""
    return np.asarray(image if image.dtype == np.uint8 else (image >> 8), np.uint8)


def write_image(path: Path, image: Image, *, quality: int = 92) -> None:
    """Write RGB, RGBA or grey atomically; the extension picks the format."""
    write_bytes(path, encode_image(path.suffix, image, quality=quality))


def encode_image(suffix: str, image: Image, *, quality: int = 92) -> bytes:
    """RGB, RGBA or grey as the bytes of a file of the format that ``suffix`` (".png", ".jpg") names."""
    if suffix.lower() == ".png":
        return encode_png(image)
    ordered = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(suffix, ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError(f"an image of shape {image.shape} could not be encoded as {suffix}")
    return data.tobytes()


def with_alpha(image: Image, mask: NDArray[Any]) -> Image:
    """RGB (H, W, 3) and a mask (H, W), bool or 0 to 255, as RGBA of the image's depth."""
    rgba = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA)
    most = np.iinfo(image.dtype).max
    scale = most if mask.dtype == np.bool_ else most // 255
    np.multiply(mask, scale, out=rgba[..., 3], casting="unsafe", dtype=image.dtype)
    return rgba


def write_figure(path: Path, figure: Figure, *, dpi: int = 120) -> None:
    """Write a matplotlib figure atomically."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    # Not savefig: Pillow's PNG takes longer than the drawing.
    write_image(path, np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def _inspect(data: bytes) -> tuple[bool, int]:
    """Refuse, by its header, what must not be decoded; return whether there is alpha, and the EXIF orientation."""
    _check_whole(data)
    try:
        with PIL.Image.open(io.BytesIO(data)) as header:
            has_alpha = "A" in header.getbands() or "transparency" in header.info
            # Asked for the EXIF of a PNG that has none up front, Pillow decodes all of it to look behind the pixels.
            has_exif = "exif" in header.info or header.format == "TIFF"
            turned = has_alpha and has_exif
            return has_alpha, int(header.getexif().get(PIL.ExifTags.Base.Orientation, 1)) if turned else 1
    except PIL.Image.DecompressionBombError as error:
        raise InputError(f"is too large: {error}") from error
    except (OSError, SyntaxError, ValueError):  # some 16-bit TIFF that Pillow does not know, or no image at all
        return False, 1


def _upright(image: Image, orientation: int) -> Image:
    """The picture (H, W, C) turned and mirrored as its EXIF orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _check_whole(data: bytes) -> None:
    """Decoders fill what a truncated file lacks with grey; its missing end marker tells."""
    head, tail = data[:12], data[-64:]
    if head.startswith(b"\xff\xd8") and b"\xff\xd9" not in data[-4096:]:
        raise InputError("is truncated: the JPEG's end is missing")
    if head.startswith(b"\x89PNG") and b"IEND" not in tail:
        raise InputError("is truncated: the PNG's end is missing")
    if head.startswith(b"RIFF") and len(data) < int.from_bytes(head[4:8], "little") + 8:
        raise InputError("is truncated: the WebP's end is missing")
    if head.startswith(b"BM") and len(data) < int.from_bytes(head[2:6], "little"):
        raise InputError("is truncated: the BMP's end is missing")
