"""Read the truth of a batch: which parts are defective, the kinds of their defects, and their masks."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.images import read_mask
from pixal.io.names import printable, shorten_stem
from pixal.report.document import PartTruth
from pixal.tasks.photographs.discovery import list_test_images
from pixal.tasks.photographs.mvtec import GOOD, DataSetFolder, find_data_set


@dataclass(frozen=True)
class Truth:
    """The truth of the parts of one type.

    Attributes:
        parts: The truth by the file name of the photograph, and by its name in ``validate/``.
        masks: The mask files by the name in ``validate/``; None if there are no masks at all.
    """

    parts: dict[str, PartTruth]
    masks: dict[str, Path] | None

    def part(self, image: str, name: str) -> PartTruth | None:
        """Return the truth of a part; None if not known.

        Args:
            image: The file name of its photograph, tried first.
            name: Its name in ``validate/``.
        """
        return self.parts.get(image) or self.parts.get(name)

    def mask(self, image: str, name: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """Return the pixels of a part's defects.

        Args:
            image: The file name of its photograph.
            name: Its name in ``validate/``.
            size: Height and width (H, W) of its photograph.

        Returns:
            (H, W), all False for a good part; None if not known.

        Raises:
            InputError: The mask cannot be read, or has another size.
        """
        if self.masks is None:
            return None
        path = self.masks.get(name)
        if path is None:
            truth = self.part(image, name)
            return np.zeros(size, bool) if truth is not None and truth.label == 0 else None
        try:
            mask = read_mask(path)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if mask.shape != size:
            raise InputError(f"{path} is {mask.shape[1]}x{mask.shape[0]}, its photograph {size[1]}x{size[0]} pixels")
        return mask


def read_truth(root: Path, types: list[str]) -> dict[str, Truth]:
    """Read the truth of each type from ``root/TYPE/labels.csv``, or for a single type from ``root/labels.csv``.

    A folder without ``labels.csv`` may have the layout of MVTec AD instead.

    Returns:
        The truth by type.

    Raises:
        InputError: The truth of a type is missing, or a table cannot be used.
    """
    if not root.is_dir():
        raise InputError(f"--truth {root} does not exist")
    truths = {}
    for name in types:
        folder = root / name
        if len(types) == 1 and not folder.is_dir():
            folder = root
        path = folder / "labels.csv"
        if not path.is_file():
            if data_set := find_data_set(folder):
                truths[name] = _data_set_truth(data_set)
                continue
            raise InputError(f"--truth: {path} does not exist; it lists name,label[,kind] of each part (1: defective)")
        try:
            truths[name] = _read_labels(path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"--truth: {path} cannot be read ({error}); save it as CSV in UTF-8") from error
    return truths


def _read_labels(path: Path) -> Truth:
    parts: dict[str, PartTruth] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"name", "label"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: the first line must name the columns name,label[,kind]")
        for row in reader:
            if row["name"] is None:  # fewer cells than columns
                raise InputError(f"{path}, line {reader.line_num}: the line has no name; write name,label[,kind]")
            if row["label"] not in ("0", "1"):
                raise InputError(
                    f"{path}, line {reader.line_num}: label {row['label']!r} is neither 0 (good) nor 1 (defective)"
                )
            part = PartTruth(int(row["label"]), (row.get("kind") or "").strip())
            if parts.get(row["name"], part).label != part.label:
                raise InputError(f"{path}, line {reader.line_num}: {row['name']} has another label on an earlier line")
            for name in {printable(row["name"]), shorten_stem(Path(row["name"]).stem)}:
                parts[name] = part
    folder = path.parent / "masks"
    masks = {shorten_stem(file.stem): file for file in sorted(folder.glob("*.png"))} if folder.is_dir() else None
    return Truth(parts, masks)


def _data_set_truth(data_set: DataSetFolder) -> Truth:
    """Return the truth of a public data set: the kind is the folder, and each kind but ``good`` is a defect."""
    parts: dict[str, PartTruth] = {}
    photographs = list_test_images("", data_set)
    for photo in photographs:
        kind = photo.image.split("/")[0]
        parts[photo.image] = parts[photo.name] = PartTruth(int(kind != GOOD), kind)
    masks = {photo.name: path for photo in photographs if (path := data_set.find_mask(photo.image))}
    return Truth(parts, masks or None)
