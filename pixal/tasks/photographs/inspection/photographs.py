"""Measure the photographs of a folder, in parallel; memory does not grow with their number."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Execution
from pixal.errors import InputError
from pixal.execution import map_parallel
from pixal.io.files import data_hash, reserve_file
from pixal.io.images import Image, decode_image
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.inspection.image_figures import (
    FINGERPRINT_SIZE,
    HASH_BITS,
    ImageFigures,
    fine_structure,
    image_figures,
    perceptual_hash,
)
from pixal.tasks.photographs.verdicts.drift import light_quantities

_FORMATS = {b"\xff\xd8": "JPEG", b"\x89P": "PNG", b"RI": "WebP", b"II": "TIFF", b"MM": "TIFF", b"BM": "BMP"}
_SMALLEST_LEVEL = 1e-4  # of noise and contrast: a fortieth of a level of 8 bits; 0 has no logarithm


@dataclass(frozen=True)
class InspectedPhotograph:
    """The measured properties of one file.

    Attributes:
        photograph: The file.
        problem: Why it cannot be read; "" if it can.
        format: For example ``JPEG``, from the first bytes; "" if the file is no image.
        bytes: Size of the file.
        width: Width in pixels, upright; 0 if it cannot be read.
        height: Height in pixels.
        bits: Bits per channel.
        figures: The figures; None if it cannot be read.
        hash: The perceptual hash as hexadecimal digits.
        file_hash: SHA-256 of the file.
        pixel_hash: SHA-256 of the pixels.
    """

    photograph: Photograph
    problem: str = ""
    format: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    bits: int = 0
    figures: ImageFigures | None = None
    hash: str = ""
    file_hash: str = ""
    pixel_hash: str = ""

    @property
    def image(self) -> str:
        """Its name in tables."""
        return self.photograph.image


@dataclass(frozen=True)
class InspectedType:
    """The photographs of one type.

    Attributes:
        name: The type.
        photographs: All files, sorted by name.
        readable: Those that can be read, in the same order.
        structures: The fine structure of each readable photograph, (N, 4096). It is in a temporary file.
    """

    name: str
    photographs: tuple[InspectedPhotograph, ...]
    readable: tuple[InspectedPhotograph, ...]
    structures: NDArray[np.int8]

    @property
    def bits(self) -> NDArray[np.bool_]:
        """The perceptual hashes of the readable photographs, (N, 256)."""
        data = np.frombuffer(bytes.fromhex("".join(photo.hash for photo in self.readable)), np.uint8)
        return np.unpackbits(data.reshape(len(self.readable), HASH_BITS // 8), axis=1).astype(bool)

    def column(self, name: str) -> NDArray[np.float64]:
        """A figure of the readable photographs, (N,)."""
        return np.array([getattr(photo.figures, name) for photo in self.readable], np.float64)

    def values(self) -> dict[str, NDArray[np.float64]]:
        """The figures in which photographs are compared, (N,) each."""
        names = ("red", "green", "blue", "spread", "noise", "sharpness", "clipped_dark", "clipped_bright")
        columns = {name: self.column(name) for name in names}
        for name in ("noise", "spread"):
            columns[name] = np.maximum(columns[name], _SMALLEST_LEVEL)
        return light_quantities(columns.pop("red"), columns.pop("green"), columns.pop("blue")) | columns


class _Measured(NamedTuple):
    photograph: InspectedPhotograph
    structure: NDArray[np.int8] | None = None


def inspect_type(
    name: str, photographs: Sequence[Photograph], execution: Execution, *, step: str, quiet: bool
) -> InspectedType:
    """Read and measure the photographs of one type.

    Args:
        name: The type.
        photographs: Its photographs.
        execution: Where to work.
        step: Name of the progress bar.
        quiet: Show no progress bar.
    """
    structures = _temporary_rows(len(photographs))
    inspected: list[InspectedPhotograph] = []
    readable: list[InspectedPhotograph] = []
    for measured in map_parallel(_measure, photographs, execution, step=step, quiet=quiet):
        inspected.append(measured.photograph)
        if measured.structure is not None:
            structures[len(readable)] = measured.structure
            readable.append(measured.photograph)
    return InspectedType(name, tuple(inspected), tuple(readable), structures[: len(readable)])


def joined(first: InspectedType, second: InspectedType) -> InspectedType:
    """The photographs of both, those of ``first`` before the others."""
    structures = _temporary_rows(len(first.readable) + len(second.readable))
    structures[: len(first.readable)] = first.structures
    structures[len(first.readable) :] = second.structures
    photographs, readable = first.photographs + second.photographs, first.readable + second.readable
    return InspectedType(first.name, photographs, readable, structures)


def as_rgb(image: Image) -> Image:
    """An image (H, W, 3) or (H, W, 4) without its alpha channel."""
    return image if image.shape[2] == 3 else np.ascontiguousarray(image[..., :3])


def _measure(photograph: Photograph) -> _Measured:
    inspected = partial(InspectedPhotograph, photograph)
    data = b""
    try:
        data = photograph.read()
        image = as_rgb(decode_image(data))
    except InputError as error:
        return _Measured(inspected(problem=str(error), format=_FORMATS.get(data[:2], ""), bytes=len(data)))
    return _Measured(
        inspected(
            format=_FORMATS.get(data[:2], ""),
            bytes=len(data),
            width=image.shape[1],
            height=image.shape[0],
            bits=8 * image.itemsize,
            figures=image_figures(image),
            hash=np.packbits(perceptual_hash(image)).tobytes().hex(),
            file_hash=data_hash(data),
            pixel_hash=data_hash(image.tobytes()),
        ),
        fine_structure(image),
    )


def _temporary_rows(count: int) -> NDArray[np.int8]:
    """An array (``count``, 4096) in a temporary file, which the system removes."""
    if not count:
        return np.zeros((0, FINGERPRINT_SIZE), np.int8)
    file: IO[bytes]
    with tempfile.TemporaryFile() as file:  # the map keeps a handle of its own
        reserve_file(file, count * FINGERPRINT_SIZE)
        return np.memmap(file, np.int8, "r+", shape=(count, FINGERPRINT_SIZE))
