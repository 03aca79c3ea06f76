"""The folders of public data sets: those of MVTec AD (Bergmann et al. 2021), which many others have, and MVTec AD 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GOOD = "good"
_TESTS = (("test", "ground_truth"), ("test_public", "test_public/ground_truth"))  # MVTec AD, MVTec AD 2


@dataclass(frozen=True)
class Benchmark:
    """One object of a data set: good images to train on, a folder a kind of test images, and the defects' masks.

    train: ``ROOT/train/good``. test: ``ROOT/test``, with a folder for each kind. masks: ``ROOT/ground_truth``.
    """

    train: Path
    test: Path
    masks: Path

    def kinds(self) -> list[Path]:
        """The folders of test images, ``good`` and one for each kind of defect."""
        found = self.test.iterdir() if self.test.is_dir() else ()
        return sorted(path for path in found if path.is_dir() and path != self.masks and path.name[0] != ".")

    def mask(self, image: str) -> Path | None:
        """The mask of a test image, by its name ``KIND/NAME.png``: ``KIND/NAME_mask.png`` or ``KIND/NAME.png``."""
        stem = (self.masks / image).with_suffix("")
        choices = (stem.with_name(f"{stem.name}{end}.png") for end in ("_mask", ""))
        return next((path for path in choices if path.is_file()), None)


def find_benchmark(root: Path) -> Benchmark | None:
    """The object whose folder is ``root``; None where it has neither good images to train on nor to test with."""
    train = root / "train" / GOOD
    test, masks = next((names for names in _TESTS if (root / names[0] / GOOD).is_dir()), _TESTS[0])
    if not train.is_dir() and not (root / test / GOOD).is_dir():
        return None
    return Benchmark(train, root / test, root / masks)
