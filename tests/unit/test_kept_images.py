"""Aligned photographs that are kept in memory are those of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.io.files import file_hash
from pixal.io.images import encode_image, with_alpha
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.preprocessing.background_step import read_rgba
from pixal.tasks.photographs.preprocessing.kept_images import KeptImages

SIZE = (20, 31)
BOX = Box(3, 4, 20, 12)


def photograph(path: Path, dtype: Any = np.uint8) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Write a photograph with its mask; return both."""
    random = np.random.default_rng(1)
    image, mask = random.integers(0, 255, (*SIZE, 3), dtype=dtype), random.random(SIZE) > 0.5
    path.write_bytes(encode_image(".png", with_alpha(image, mask)))
    return image, mask


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_kept_photograph_is_that_of_its_file(tmp_path: Path, dtype: Any) -> None:
    path, kept = tmp_path / "a.png", KeptImages()
    image, mask = photograph(path, dtype)
    kept.keep(path, file_hash(path), image, mask, BOX)
    assert kept.sha256(path) == file_hash(path)
    assert kept.sha256(tmp_path / "b.png") is None
    assert kept.take(path, Box(2, 4, 20, 12)) is None  # not all of it is kept
    found = kept.take(path, Box(5, 6, 7, 8))
    assert found is not None
    read, read_mask = read_rgba(path)
    np.testing.assert_array_equal(found[0][BOX.window], read[BOX.window])
    np.testing.assert_array_equal(found[1], read_mask)
    assert kept.take(path, BOX) is None  # it was taken


def test_a_photograph_whose_file_has_changed_is_not_used(tmp_path: Path) -> None:
    path, kept = tmp_path / "a.png", KeptImages()
    image, mask = photograph(path)
    kept.keep(path, file_hash(path), image, mask, BOX)
    path.write_bytes(path.read_bytes() + b"more")
    assert kept.sha256(path) is None
    assert kept.take(path, BOX) is None
    path.unlink()
    assert kept.take(path, BOX) is None


def test_the_memory_is_bounded(tmp_path: Path) -> None:
    image, mask = photograph(tmp_path / "a.png")
    kept = KeptImages(max_bytes=2 * (BOX.width * BOX.height * 3 + mask.size // 8))
    for name in "abc":
        photograph(tmp_path / f"{name}.png")
        kept.keep(tmp_path / f"{name}.png", name, image, mask, BOX)
    assert [kept.sha256(tmp_path / f"{name}.png") for name in "abc"] == ["a", "b", None]
    assert kept.take(tmp_path / "a.png", BOX) is not None
    kept.keep(tmp_path / "c.png", "c", image, mask, BOX)
    assert kept.sha256(tmp_path / "c.png") == "c"
