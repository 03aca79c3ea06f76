"""Render a batch of photographs to train and to validate on, and write it with its truth."""

from __future__ import annotations

import csv
import json
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Execution
from pixal.errors import InputError
from pixal.execution import map_parallel
from pixal.io.files import write_bytes
from pixal.synthetic.canvas import Image
from pixal.synthetic.component import TYPES, draw_component
from pixal.synthetic.defects import KINDS
from pixal.synthetic.photograph import RenderedPhotograph, render_photograph

_log = logging.getLogger(__name__)

JPEG_QUALITY = 92


@dataclass(frozen=True)
class RenderedBatch:
    """The folders of a batch. Each contains one folder per type.

    Attributes:
        train: Photographs of good parts to train on.
        production: Photographs of good and defective parts to validate.
        truth: Labels, masks and poses.
    """

    train: Path
    production: Path
    truth: Path


def write_batch(
    out: Path | str,
    *,
    component: str = "Demo_Flex",
    types: Sequence[str] = TYPES,
    train: int = 16,
    good: int = 8,
    bad: int = 8,
    severity: float = 1.0,
    seed: int = 7,
    frame_size: tuple[int, int] = (640, 360),
    kinds: Sequence[str] = KINDS,
    most_defects: int = 2,
) -> RenderedBatch:
    """Render a batch of photographs. The same arguments write the same bytes.

    Files below ``out``, for each type::

        train/COMPONENT/TYPE/image_000.jpg       good parts
        production/COMPONENT/TYPE/part_000.jpg   good and defective parts in random order
        truth/TYPE/labels.csv                    name,label,kind of the production photographs (label 1: defective)
        truth/TYPE/masks/NAME.png                pixels of the defects, for defective parts
        truth/TYPE/foreground/NAME.png           pixels of the part
        truth/TYPE/poses.json                    3x3 matrix by name, from the reference frame to the photograph

    Each part has its own random numbers, so the numbers of parts change only the names of production photographs.

    Args:
        out: Folder of the batch.
        component: Name of the component.
        types: Types to render, of ``TYPES``.
        train: Number of training photographs per type.
        good: Number of good production photographs per type.
        bad: Number of defective production photographs per type.
        severity: Severity of the defects: 1 is easy to see, 0.4 is small and faint.
        seed: Seed of the random numbers.
        frame_size: Width and height of the photographs in pixels.
        kinds: Kinds of defects, of ``KINDS``.
        most_defects: Largest number of defects per defective part; the smallest is 1.

    Raises:
        InputError: If a number, type or kind is invalid, or ``out`` contains images of another batch.
    """
    _check(types, kinds, train, good, bad, severity, most_defects)
    out = Path(out)
    batch = RenderedBatch(out / "train" / component, out / "production" / component, out / "truth")
    for type_name in types:
        generator = _PartGenerator(type_name, seed, tuple(kinds), most_defects)
        names = [
            *(("train", i, f"image_{i:03d}") for i in range(train)),
            *((group, i, f"part_{k:03d}") for k, (group, i) in enumerate(generator.production_order(good, bad))),
        ]
        folders = _TypeFolders(batch, type_name)
        folders.create(out, [(group, name) for group, _, name in names])
        render = _TypeRenderer(generator, folders, draw_component(type_name, frame_size), frame_size, severity)
        rows: list[tuple[str, int, str]] = []
        poses: dict[str, list[list[float]]] = {}
        rendered = map_parallel(render, names, Execution(), step="", quiet=True)
        for (group, _, name), (pose, defects) in zip(names, rendered, strict=True):
            poses[name] = pose.tolist()
            if group != "train":
                rows.append((name, int(bool(defects)), "+".join(sorted(set(defects))) or "good"))
        folders.save_truth(rows, poses)
        _log.info("%s: rendered %d training and %d production images", type_name, train, good + bad)
    return batch


@dataclass(frozen=True)
class _PartGenerator:
    """The random numbers of the parts of one type, by group (train, good or bad) and number in the group."""

    type_name: str
    seed: int
    kinds: tuple[str, ...]
    most_defects: int

    def stream(self, group: str, number: int) -> np.random.Generator:
        # crc32, because str hashes differ between runs.
        words = [zlib.crc32(word.encode()) for word in (self.type_name, group)]
        return np.random.default_rng([self.seed, *words, number])

    def part(self, group: str, number: int) -> tuple[np.random.Generator, list[str]]:
        """Return the random numbers of a part, and the kinds of its defects."""
        rng = self.stream(group, number)
        count = int(rng.integers(1, self.most_defects + 1)) if group == "bad" else 0
        return rng, [str(k) for k in rng.choice(self.kinds, count)]

    def production_order(self, good: int, bad: int) -> list[tuple[str, int]]:
        """Return group and number of the production parts, in random order."""
        parts = [("good", i) for i in range(good)] + [("bad", i) for i in range(bad)]
        return [parts[i] for i in self.stream("order", 0).permutation(len(parts))]


class _TypeFolders:
    """The folders of one type."""

    def __init__(self, batch: RenderedBatch, type_name: str) -> None:
        self.train, self.production = batch.train / type_name, batch.production / type_name
        self.truth = batch.truth / type_name
        self.masks, self.foreground = self.truth / "masks", self.truth / "foreground"

    def create(self, out: Path, parts: list[tuple[str, str]]) -> None:
        """Create the folders. Raise InputError if they contain files that are not of this batch."""
        expected = {
            self.train: {f"{name}.jpg" for group, name in parts if group == "train"},
            self.production: {f"{name}.jpg" for group, name in parts if group != "train"},
            self.masks: {f"{name}.png" for group, name in parts if group == "bad"},
            self.foreground: {f"{name}.png" for _, name in parts},
        }
        for folder, names in expected.items():
            folder.mkdir(parents=True, exist_ok=True)
            others = sorted(path.name for path in folder.iterdir() if path.name not in names)
            if others:
                raise InputError(
                    f"{folder} contains {len(others)} files of another batch, such as {others[0]}; "
                    f"remove {out} or choose another folder"
                )

    def save(self, group: str, name: str, photo: RenderedPhotograph) -> None:
        folder = self.train if group == "train" else self.production
        colours = cv2.cvtColor(photo.image, cv2.COLOR_RGB2BGR)
        write_bytes(folder / f"{name}.jpg", _encode(".jpg", np.asarray(colours, np.uint8)))
        write_bytes(self.foreground / f"{name}.png", _encode(".png", photo.foreground))
        if group == "bad":
            write_bytes(self.masks / f"{name}.png", _encode(".png", photo.defects))

    def save_truth(self, rows: list[tuple[str, int, str]], poses: dict[str, list[list[float]]]) -> None:
        with (self.truth / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("name", "label", "kind"), *rows])
        (self.truth / "poses.json").write_text(json.dumps(poses, indent=1) + "\n", encoding="utf-8")


def _encode(extension: str, image: Image) -> bytes:
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if extension == ".jpg" else []
    done, data = cv2.imencode(extension, image, settings)
    if not done:
        raise InputError(f"OpenCV could not encode an image as {extension}")
    return data.tobytes()


def _check(
    types: Sequence[str],
    kinds: Sequence[str],
    train: int,
    good: int,
    bad: int,
    severity: float,
    most_defects: int,
) -> None:
    unknown_types = [name for name in types if name not in TYPES]
    if unknown_types or not types:
        raise InputError(f"unknown demo type {unknown_types or 'list (empty)'}: choose from {', '.join(TYPES)}")
    unknown_kinds = [kind for kind in kinds if kind not in KINDS]
    if unknown_kinds or not kinds:
        raise InputError(f"unknown defect kind {unknown_kinds or 'list (empty)'}: choose from {', '.join(KINDS)}")
    if min(train, good, bad) < 0:
        raise InputError(f"train ({train}), good ({good}) and bad ({bad}) must be 0 or more")
    if most_defects < 1 or not severity > 0:
        raise InputError(f"most_defects ({most_defects}) must be at least 1, severity ({severity}) above 0")


@dataclass(frozen=True)
class _TypeRenderer:
    """Renders and writes photographs of one type."""

    generator: _PartGenerator
    folders: _TypeFolders
    reference: tuple[Image, Image]
    frame_size: tuple[int, int]
    severity: float

    def __call__(self, named: tuple[str, int, str]) -> tuple[NDArray[np.float64], list[str]]:
        """Write the photograph of a group, number and name; return its pose and the kinds of its defects."""
        group, number, name = named
        rng, defects = self.generator.part(group, number)
        photo = render_photograph(*self.reference, defects, rng, frame_size=self.frame_size, severity=self.severity)
        self.folders.save(group, name, photo)
        return photo.pose, defects
