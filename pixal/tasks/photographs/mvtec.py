"""Find the folders of public data sets: MVTec AD (Bergmann et al. 2021), others with its layout, and MVTec AD 2."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

GOOD = "good"
"""Name of the folders that hold good images."""

_TEST_LAYOUTS = (
    ("test", "ground_truth"),  # MVTec AD
    ("test_public", "test_public/ground_truth"),  # MVTec AD 2
)


@dataclass(frozen=True)
class DataSetFolder:
    """The folders of one object of a data set, such as ``bottle`` of MVTec AD.

    Attributes:
        train: Good images to train on, ``ROOT/train/good``.
        test: Test images, one folder per kind: ``ROOT/test/KIND``.
        masks: Masks of the defects: ``ROOT/ground_truth/KIND``.
    """

    train: Path
    test: Path
    masks: Path

    def test_folders(self) -> list[Path]:
        """Return the folders of test images: ``good``, and one per kind of defect."""
        folders = self.test.iterdir() if self.test.is_dir() else ()
        return sorted(path for path in folders if path.is_dir() and path != self.masks and path.name[0] != ".")

    def find_mask(self, image: str) -> Path | None:
        """Return the mask of the test image ``KIND/NAME.png``: ``KIND/NAME_mask.png`` or ``KIND/NAME.png``, or None."""
        stem = (self.masks / image).with_suffix("")
        candidates = (stem.with_name(f"{stem.name}{suffix}.png") for suffix in ("_mask", ""))
        return next((path for path in candidates if path.is_file()), None)


def find_data_set(root: Path) -> DataSetFolder | None:
    """Return the folders below ``root`` if it is one object of a data set.

    Returns:
        None if ``root`` has neither good training images nor good test images.
    """
    train = root / "train" / GOOD
    test, masks = next((layout for layout in _TEST_LAYOUTS if _is_folder(root / layout[0] / GOOD)), _TEST_LAYOUTS[0])
    if not _is_folder(train) and not _is_folder(root / test / GOOD):
        return None
    return DataSetFolder(train, root / test, root / masks)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  # Path.is_dir raises PermissionError
