"""Check TIFF files before they are decoded: OpenCV fills the pixels that it cannot decode without an error."""

from __future__ import annotations

import io
import struct
from typing import Any, BinaryIO, cast

import PIL.TiffImagePlugin
from isal import isal_zlib

from pixal.errors import InputError

_NONE, _LZW, _DEFLATE, _PACKBITS = 1, 5, (8, 32946), 32773  # values of the tag Compression
_PLANES = 2  # value of the tag PlanarConfiguration
# Values of the tag PhotometricInterpretation, and their channels without alpha. OpenCV misreads other combinations.
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
_READ_BY_OPENCV = (_NONE, 2, 3, 4, _LZW, 7, *_DEFLATE, _PACKBITS)  # others decode to nothing, without an error
_IsalError = cast(type[Exception], isal_zlib.error)
_NUMBERS = (
    *("imagelength", "imagewidth", "samplesperpixel", "bitspersample", "planarconfig", "compression", "rowsperstrip"),
    *("tilelength", "tilewidth"),
)
_LONG = 4  # type of a tag: unsigned integer of 32 bits
_BATCH_BYTES = 50_000_000  # strips that are decoded at a time


def tiff_size(file: BinaryIO) -> tuple[int, int, int, int]:
    """Height, width, channels and bits per channel of the first image. Raise ``InputError`` for a damaged header."""
    page = _first_page(file)
    return page.imagelength, page.imagewidth, page.samplesperpixel, page.bitspersample


def check_segments(data: bytes) -> None:
    """Decode all strips or tiles of the first image strictly.

    Deflate has a checksum. LZW and PackBits have none, but most damaged strips decode to another length, which libtiff
    reports to Pillow. Damage to pixels that are not compressed cannot be found.

    Raises:
        InputError: A strip or tile is incomplete or damaged, or OpenCV does not know the compression.
    """
    page = _first_page(io.BytesIO(data))
    _check_layout(page)
    rows, row_bytes = _rows_per_segment(page), _row_bytes(page)
    by_rows: dict[int, list[bytes]] = {}
    for index, (start, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        if start + count > len(data):
            raise InputError("is truncated: the end of the TIFF is missing")
        if page.compression == _NONE and 0 < count < row_bytes * rows[index % len(rows)]:
            raise InputError("is damaged: a part of its pixels is missing")
        if count:  # else the segment is not stored, because all its pixels are 0
            by_rows.setdefault(rows[index % len(rows)], []).append(data[start : start + count])
    try:
        for height, segments in by_rows.items():
            if page.compression in _DEFLATE:
                for segment in segments:
                    _inflate(segment, row_bytes * height, row_bytes * rows[0])
            elif page.compression in (_LZW, _PACKBITS):
                size = max(1, _BATCH_BYTES // (row_bytes * height))
                for start in range(0, len(segments), size):
                    _decode_strips(segments[start : start + size], row_bytes, height, page.compression)
    except (OSError, ValueError, _IsalError) as error:
        raise InputError("is damaged: its compressed pixels cannot be decoded") from error


def _check_layout(page: Any) -> None:
    """Raise ``InputError`` for pixels that OpenCV would misread, and where some of them are missing."""
    if page.planarconfig == _PLANES and page.samplesperpixel > 1 and page.bitspersample > 8:  # it mixes the planes up
        raise InputError("stores each channel on a plane of its own; save it with the channels of a pixel together")
    if page.compression not in _READ_BY_OPENCV:
        raise InputError(f"has the TIFF compression {int(page.compression)}; save it with LZW or deflate")
    colours = _COLOURS.get(page.photometric)
    if colours is None or not colours <= page.samplesperpixel <= colours + 1:
        raise InputError(
            f"has {page.samplesperpixel} channels in the TIFF colour space "
            f"{getattr(page.photometric, 'name', page.photometric)}; save it as grey or RGB"
        )
    segments = len(_rows_per_segment(page))
    if page.is_tiled:
        segments = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    if page.planarconfig == _PLANES:
        segments *= page.samplesperpixel
    if len(page.dataoffsets) < segments:
        raise InputError("is damaged: a part of its pixels is missing")


def _first_page(file: BinaryIO) -> Any:
    import tifffile

    try:
        with tifffile.TiffFile(file) as content:
            page = content.pages.first
            if not all(isinstance(getattr(page, name), int) for name in _NUMBERS):
                raise ValueError("several values for a tag that has one")
            if page.is_tiled and not (page.tilewidth and page.tilelength):
                raise ValueError("tiles without pixels")
            if not (page.imagelength and page.imagewidth and page.samplesperpixel and page.bitspersample):
                raise ValueError("no pixels, or pixels without bits")
            if len(page.dataoffsets) != len(page.databytecounts):
                raise ValueError("strips without a length")
            return page
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, struct.error) as error:
        raise InputError("is not an image, or is damaged") from error


def _rows_per_segment(page: Any) -> list[int]:
    """Rows of each strip of a plane, or of each tile."""
    if page.is_tiled:
        return [page.tilelength]
    full = min(page.rowsperstrip or page.imagelength, page.imagelength)
    return [min(full, page.imagelength - start) for start in range(0, page.imagelength, full)]


def _row_bytes(page: Any) -> int:
    """Bytes in a row of a strip or tile, before compression."""
    samples = page.samplesperpixel if page.planarconfig == 1 else 1
    width = page.tilewidth if page.is_tiled else page.imagewidth
    return int((width * samples * page.bitspersample + 7) // 8)


def _inflate(segment: bytes, least: int, most: int) -> None:
    """Decompress a strip to its checksum. Raise an error if it does not have ``least`` to ``most`` bytes."""
    stream = isal_zlib.decompressobj()
    length = len(stream.decompress(segment, most + 1))
    if not (least <= length <= most and stream.eof):
        raise ValueError(f"{length} bytes instead of {least}")


def _decode_strips(strips: list[bytes], width: int, height: int, compression: int) -> None:
    """Decode strips of ``height`` rows as a grey TIFF, whose pixels are their bytes. Raise ``OSError`` on damage.

    Pillow itself does not read all TIFF files that OpenCV reads, for example 16-bit RGB.
    """
    lengths = [len(strip) for strip in strips]
    starts = [8 + sum(lengths[:index]) for index in range(len(strips))]
    end = 8 + sum(lengths)
    values = {256: [width], 257: [height * len(strips)], 258: [8], 259: [compression], 262: [1], 273: starts}
    values |= {277: [1], 278: [height], 279: lengths}
    arrays_at, entries, arrays = end + 2 + 12 * len(values) + 4, b"", b""
    for tag, numbers in values.items():
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        is_inline = len(numbers) == 1
        where = packed if is_inline else struct.pack("<I", arrays_at + len(arrays))
        entries += struct.pack("<HHI", tag, _LONG, len(numbers)) + where
        arrays += b"" if is_inline else packed
    file = struct.pack("<2sHI", b"II", 42, end) + b"".join(strips)
    file += struct.pack("<H", len(values)) + entries + bytes(4) + arrays
    with PIL.TiffImagePlugin.TiffImageFile(io.BytesIO(file)) as image:  # without the limit of PIL.Image.open
        image.load()
