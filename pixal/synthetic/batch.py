"""Writes a batch of rendered photographs to train and to validate on, with its truth."""

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

from pixal.errors import InputError
from pixal.synthetic.canvas import Image
from pixal.synthetic.component import TYPES, draw_component
from pixal.synthetic.defects import KINDS
from pixal.synthetic.photograph import Photograph, render_photograph

log = logging.getLogger(__name__)

JPEG_QUALITY = 92


@dataclass(frozen=True)
class Batch:
    """Where a batch lies: `train` and `production` hold one folder a type, as does `truth`."""

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
) -> Batch:
    """Render a batch of parts below `out`; the same arguments write the same bytes.

    `train` good training images a type, and `good` and `bad` production images, of `frame_size` (width,
    height) pixels; a defective part has one to `most_defects` defects from `kinds`, of `severity` (1 is plain
    to see, 0.4 small and faint). Below `out`, a type:

        train/COMPONENT/TYPE/image_000.jpg       good parts
        production/COMPONENT/TYPE/part_000.jpg   good and defective parts, mixed
        truth/TYPE/labels.csv                    name,label,kind (1 = defective), of production
        truth/TYPE/masks/NAME.png                defect pixels, defective parts only
        truth/TYPE/foreground/NAME.png           the component's pixels
        truth/TYPE/poses.json                    name to 3x3 matrix, reference frame to photograph

    Each part has a random stream of its own: how many others are made changes only the name that a production
    part gets.

    Raises `InputError` on bad numbers, unknown types or kinds, or an `out` with images of another batch.
    """
    _check(types, kinds, train, good, bad, severity, most_defects)
    out = Path(out)
    batch = Batch(out / "train" / component, out / "production" / component, out / "truth")
    for type_name in types:
        lot = _Lot(type_name, seed, tuple(kinds), most_defects)
        names = [
            *(("train", i, f"image_{i:03d}") for i in range(train)),
            *((group, i, f"part_{k:03d}") for k, (group, i) in enumerate(lot.mixed(good, bad))),
        ]
        folders = _Folders(batch, type_name)
        folders.make(out, [(group, name) for group, _, name in names])
        reference = draw_component(type_name, frame_size)
        rows: list[tuple[str, int, str]] = []
        poses: dict[str, list[list[float]]] = {}
        for group, i, name in names:
            rng, drawn = lot.part(group, i)
            photo = render_photograph(*reference, drawn, rng, frame_size=frame_size, severity=severity)
            folders.save(group, name, photo)
            poses[name] = photo.pose.tolist()
            if group != "train":
                rows.append((name, int(bool(drawn)), "+".join(sorted(set(drawn))) or "good"))
        folders.save_truth(rows, poses)
        log.info("%s: rendered %d training and %d production images", type_name, train, good + bad)
    return batch


@dataclass(frozen=True)
class _Lot:
    """The parts of one type, each found by its group and number in it."""

    type_name: str
    seed: int
    kinds: tuple[str, ...]
    most_defects: int

    def stream(self, group: str, number: int) -> np.random.Generator:
        # crc32, for str hashes differ from run to run.
        words = [zlib.crc32(word.encode()) for word in (self.type_name, group)]
        return np.random.default_rng([self.seed, *words, number])

    def part(self, group: str, number: int) -> tuple[np.random.Generator, list[str]]:
        """The part's random stream and its defects."""
        rng = self.stream(group, number)
        count = int(rng.integers(1, self.most_defects + 1)) if group == "bad" else 0
        return rng, [str(k) for k in rng.choice(self.kinds, count)]

    def mixed(self, good: int, bad: int) -> list[tuple[str, int]]:
        """The production parts in the random order they are named in."""
        parts = [("good", i) for i in range(good)] + [("bad", i) for i in range(bad)]
        return [parts[i] for i in self.stream("order", 0).permutation(len(parts))]


class _Folders:
    """The folders of one type."""

    def __init__(self, batch: Batch, type_name: str) -> None:
        self.train, self.production = batch.train / type_name, batch.production / type_name
        self.truth = batch.truth / type_name
        self.masks, self.foreground = self.truth / "masks", self.truth / "foreground"

    def make(self, out: Path, parts: list[tuple[str, str]]) -> None:
        """Create the folders; stop at files that this batch would leave beside its own."""
        mine = {
            self.train: {f"{name}.jpg" for group, name in parts if group == "train"},
            self.production: {f"{name}.jpg" for group, name in parts if group != "train"},
            self.masks: {f"{name}.png" for group, name in parts if group == "bad"},
            self.foreground: {f"{name}.png" for _, name in parts},
        }
        for folder, names in mine.items():
            folder.mkdir(parents=True, exist_ok=True)
            strangers = sorted(p.name for p in folder.iterdir() if p.name not in names)
            if strangers:
                raise InputError(
                    f"{folder} holds files of another batch ({strangers[0]}, {len(strangers)} in all): "
                    f"remove {out} or choose another folder"
                )

    def save(self, group: str, name: str, photo: Photograph) -> None:
        folder = self.train if group == "train" else self.production
        colours = cv2.cvtColor(photo.image, cv2.COLOR_RGB2BGR)
        (folder / f"{name}.jpg").write_bytes(_encoded(".jpg", np.asarray(colours, np.uint8)))
        (self.foreground / f"{name}.png").write_bytes(_encoded(".png", photo.foreground))
        if group == "bad":
            (self.masks / f"{name}.png").write_bytes(_encoded(".png", photo.defects))

    def save_truth(self, rows: list[tuple[str, int, str]], poses: dict[str, list[list[float]]]) -> None:
        with (self.truth / "labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("name", "label", "kind"), *rows])
        (self.truth / "poses.json").write_text(json.dumps(poses, indent=1) + "\n", encoding="utf-8")


def _encoded(extension: str, image: Image) -> bytes:
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
    unknown = [t for t in types if t not in TYPES]
    if unknown or not types:
        raise InputError(f"unknown demo type {unknown or 'list (empty)'}: choose from {', '.join(TYPES)}")
    strange = [k for k in kinds if k not in KINDS]
    if strange or not kinds:
        raise InputError(f"unknown defect kind {strange or 'list (empty)'}: choose from {', '.join(KINDS)}")
    if min(train, good, bad) < 0:
        raise InputError(f"train ({train}), good ({good}) and bad ({bad}) must be 0 or more")
    if most_defects < 1 or not severity > 0:
        raise InputError(f"most_defects ({most_defects}) must be at least 1, severity ({severity}) above 0")
