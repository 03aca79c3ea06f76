"""Damaged image files: each is read as another decoder reads it, or is one named failure, in little time and memory."""

from __future__ import annotations

import csv
import io
import logging
import resource
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile
from mutations import Seed, mutants, seeds
from numpy.typing import NDArray
from tries import tries

import pixal
from pixal.errors import PixalError
from pixal.io.images import decode_image, read_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),  # what Pillow says of damaged metadata
]

MAX_SECONDS = 2.0  # of processor time
MAX_MEMORY = 500_000_000  # bytes
SEED = 20_26


@pytest.fixture(autouse=True)
def _quiet_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("tifffile"), "disabled", True)


def read_by_pillow(data: bytes) -> NDArray[Any]:
    """The image as Pillow reads it, in the form of ``decode_image``."""
    with PIL.Image.open(io.BytesIO(data)) as file:
        image = PIL.ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):
            return np.dstack([np.asarray(image).astype(np.uint16)] * 3)
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def is_read_alike(image: NDArray[Any], mutant: Seed, base: Seed) -> bool:
    """Whether another decoder reads the same pixels, or the damage has not changed them."""
    others = [decode_image(base.data)]
    with suppress(Exception):
        if not (mutant.suffix == ".tiff" and image.dtype == np.uint16):  # which Pillow does not read
            others.append(read_by_pillow(mutant.data))
    with suppress(Exception), tifffile.TiffFile(io.BytesIO(mutant.data)) as file:
        others.append(file.pages.first.asarray())
    return any(other.shape == image.shape and np.array_equal(other, image) for other in others)


def test_undamaged_files_are_read_as_by_other_decoders() -> None:
    for seed in seeds():
        image = decode_image(seed.data)
        if seed.suffix == ".tiff":
            with tifffile.TiffFile(io.BytesIO(seed.data)) as file:
                expected = np.atleast_3d(file.pages.first.asarray()) if "lzw" not in seed.name else image
        else:
            expected = read_by_pillow(seed.data)
        np.testing.assert_array_equal(image, np.broadcast_to(expected, image.shape), err_msg=seed.name)


def test_damaged_files_are_read_as_others_read_them_or_refused() -> None:
    given = seeds()
    bases = {seed.name: seed for seed in given}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = refused = 0
    for what, mutant in mutants(given, tries(600, 20_000), SEED):
        start = time.process_time()
        try:
            image = decode_image(mutant.data)
        except PixalError:
            image = None
        assert time.process_time() - start < MAX_SECONDS, what
        if image is None:
            refused += 1
        else:
            read += 1
            assert is_read_alike(image, mutant, bases[mutant.name]), what
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MAX_MEMORY
    assert min(read, refused) > (read + refused) / 4  # the damage is neither too small nor too large to test anything


def test_damaged_photographs_get_a_verdict_each_and_good_ones_keep_theirs(
    trained_front: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("configs", "out"):
        shutil.copytree(trained_front / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "batch/front"
    folder.mkdir(parents=True)
    good = sorted((rendered / "production/Part/front").iterdir())[0]
    given = [seed for seed in seeds(read_image(good)) if "alpha" not in seed.name and "rgba" not in seed.name]
    count, files = tries(16, 200), {}
    for number, (_, mutant) in enumerate(mutants(given, count, SEED + 1)):
        files[f"{number:03d}{mutant.suffix}"] = mutant.data
    for seed in given:
        files[f"whole {seed.name}{seed.suffix}"] = seed.data
    for name, data in files.items():
        (folder / name).write_bytes(data)
    batch = pixal.validate("batch", quiet=True)
    with Path("validate/Part/results.csv").open(newline="", encoding="utf-8") as table:
        rows = {row["image"]: row for row in csv.DictReader(table)}
    assert set(rows) == set(files)
    assert len(batch.failures) == sum(row["verdict"] == "error" for row in rows.values())
    for name, data in files.items():
        row = rows[name]
        try:
            decode_image(data)
            is_readable = True
        except PixalError:
            is_readable = False
        if not is_readable:
            assert row["verdict"] == "error", name
        if row["verdict"] == "error":
            assert row["reason"], name
            assert row["score"] == "", name
        else:
            assert np.isfinite(float(row["score"])), name
    colours = [rows[f"whole {name}"]["score"] for name in ("png rgb.png", "bmp.bmp", "tiff lzw.tiff", "tiff.tiff")]
    assert len(set(colours)) == 1
    assert colours[0] != ""
