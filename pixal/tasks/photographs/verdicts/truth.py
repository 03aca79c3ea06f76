"""What is known of a batch's parts: whether they are good, the kinds of their defects, and where those are."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.images import read_mask
from pixal.tasks.photographs.discovery import benchmark_tests
from pixal.tasks.photographs.mvtec import GOOD, Benchmark, find_benchmark


@dataclass(frozen=True)
class Truth:
    """What is known of a type's parts.

    labels: file name, and name in ``validate/``, to 0 (good) or 1; kinds alike. masks: files by name in ``validate/``,
    None where there are no masks at all.
    """

    labels: dict[str, int]
    kinds: dict[str, str]
    masks: dict[str, Path] | None

    def of(self, image: str, name: str) -> dict[str, Any] | None:
        """What is known of a part, by its file name or else its name in ``validate/``: label and kind."""
        for key in (image, name):
            if key in self.labels:
                return {"label": self.labels[key], "kind": self.kinds[key]}
        return None

    def mask(self, image: str, name: str, size: tuple[int, int]) -> NDArray[np.bool_] | None:
        """The defect's pixels (H, W) = ``size`` of a part; all false for a good one; None where not known."""
        if self.masks is None:
            return None
        path = self.masks.get(name)
        if path is None:
            known = self.of(image, name)
            return np.zeros(size, bool) if known and known["label"] == 0 else None
        try:
            mask = read_mask(path)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if mask.shape != size:
            raise InputError(f"{path} is {mask.shape[1]}x{mask.shape[0]}, its photograph {size[1]}x{size[0]} pixels")
        return mask


def read_truth(root: Path, types: list[str]) -> dict[str, Truth]:
    """The truth of each type: ``root/TYPE/labels.csv``, or for a single type ``root/labels.csv``.

    A folder laid out as those of MVTec AD is read as such where it has no ``labels.csv``. Raises InputError where there
    is no truth, or a table cannot be used.
    """
    if not root.is_dir():
        raise InputError(f"--truth {root} does not exist")
    found = {}
    for name in types:
        folder = root / name
        if len(types) == 1 and not folder.is_dir():
            folder = root
        path = folder / "labels.csv"
        if not path.is_file():
            if benchmark := find_benchmark(folder):
                found[name] = _of_benchmark(benchmark)
                continue
            raise InputError(f"--truth: {path} does not exist; it lists name,label[,kind] of each part (1: defective)")
        try:
            found[name] = _read_labels(path)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"--truth: {path} cannot be read ({error}); save it as CSV in UTF-8") from error
    return found


def _read_labels(path: Path) -> Truth:
    labels: dict[str, int] = {}
    kinds: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"name", "label"} <= set(reader.fieldnames or ()):
            raise InputError(f"{path}: its first line has to name the columns name,label[,kind]")
        for row in reader:
            if row["label"] not in ("0", "1"):
                raise InputError(
                    f"{path}, line {reader.line_num}: label {row['label']!r} is neither 0 (good) nor 1 (defective)"
                )
            if labels.get(row["name"], int(row["label"])) != int(row["label"]):
                raise InputError(f"{path}, line {reader.line_num}: {row['name']} has another label further up")
            for name in {row["name"], Path(row["name"]).stem}:
                labels[name] = int(row["label"])
                kinds[name] = (row.get("kind") or "").strip()
    folder = path.parent / "masks"
    masks = {file.stem: file for file in sorted(folder.glob("*.png"))} if folder.is_dir() else None
    return Truth(labels, kinds, masks)


def _of_benchmark(benchmark: Benchmark) -> Truth:
    """A test image's kind is its folder, and each kind but ``good`` is a defect."""
    photographs = benchmark_tests("", benchmark)
    kinds = {photo.image: photo.image.split("/")[0] for photo in photographs}
    kinds |= {photo.name: kinds[photo.image] for photo in photographs}
    masks = {photo.name: path for photo in photographs if (path := benchmark.mask(photo.image))}
    return Truth({key: int(kind != GOOD) for key, kind in kinds.items()}, kinds, masks or None)
