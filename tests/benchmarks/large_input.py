"""Measure ``pixal train`` on an input larger than memory: 50 GB by default.

    python tests/benchmarks/large_input.py [--gb 50] [--images 8000] [--set KEY=VALUE ...]

The input is an ``out.npz`` written as a sparse file: most values are zeros that take no disk space, but are read like
any other values. Two rows of pixels of each image contain a pattern that varies, and noise. About 4 GB of disk space
are needed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy_format
from page import measure, write_configs, write_section

from pixal.io.files import file_hash
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.preprocessing.records import InputStep, TypeRecord
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographParameters

_CHANNELS = ("LAB_L", "LAB_a", "LAB_b")
_FILLED_ROWS = 2  # rows of pixels of an image that are not zero
_SETTINGS = ("execution.memory_limit=2", "model_training.n_epochs=10")


def main() -> None:
    """Write the input, train on it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=50, help="size of the input in 10^9 bytes")
    parser.add_argument("--images", type=int, default=8000, help="number of images")
    parser.add_argument("--folder", type=Path, help="folder for temporary files; default: that of the system")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed to pixal train")
    options = parser.parse_args()
    side = int((options.gb * 1e9 / options.images / len(_CHANNELS) / 4) ** 0.5)
    settings = [*_SETTINGS, *options.set]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        work = Path(temporary)
        write_configs(work, "Large")
        path = work / "out" / "Large" / "type" / "out.npz"
        state = _write_state(path.parent / "metadata", side)
        _write_inputs(path, options.images, side)
        started = time.perf_counter()
        sha256 = file_hash(path)
        hashing_seconds = time.perf_counter() - started
        record = InputStep(
            component="Large",
            input=path.name,
            input_dim=side * side * len(_CHANNELS),
            shape=(side, side, len(_CHANNELS)),
            channels=tuple(_CHANNELS),
            n_images=options.images,
            sha256=sha256,
            types={
                "type": TypeRecord(
                    background_method="none",
                    pool_size=1,
                    crop_box=state.box,
                    shape=state.shape,
                    part_pixels=int(state.mask.sum()),
                    state_sha256=file_hash(path.parent / "metadata" / "preprocessing.npz"),
                )
            },
            settings=state.settings,
        )
        record.write(path.parent / "metadata" / "preprocessing.yaml")
        command = ["train", "-q", *(word for setting in settings for word in ("--set", setting))]
        wall, cpu, peak = measure(command, work)
        size, disk = path.stat().st_size, path.stat().st_blocks * 512
    lines = [
        "| input GB | on disk GB | images | values per image | wall s | CPU s | peak GB |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        f"| {size / 1e9:.1f} | {disk / 1e9:.2f} | {options.images} | {side * side * len(_CHANNELS)} "
        f"| {wall:.0f} | {cpu:.0f} | {peak:.2f} |",
    ]
    names = ", ".join(f"`{setting}`" for setting in settings)
    note = f"With {names}. Computing the SHA-256 of the input alone takes {hashing_seconds:.0f} s."
    write_section("large", lines, note)


def _write_inputs(path: Path, images: int, side: int) -> None:
    """Write an ``out.npz`` whose data are sparse. The CRC of the data in the archive is wrong, but is never checked."""
    generator = np.random.default_rng(0)
    length = _FILLED_ROWS * side * len(_CHANNELS)
    patterns = generator.random((20, length)) / np.arange(1, 21)[:, None]
    header = {"descr": "<f4", "fortran_order": False, "shape": (images, side * side * len(_CHANNELS))}
    with path.open("w+b") as file, zipfile.ZipFile(file, "w") as archive:
        info = zipfile.ZipInfo("data.npy")
        with archive.open(info, "w", force_zip64=True) as member:
            npy_format.write_array_header_1_0(member, header)
        start, image_bytes = file.tell(), 4 * side * side * len(_CHANNELS)
        for index in range(images):
            file.seek(start + index * image_bytes + 4 * (side // 2) * side * len(_CHANNELS))
            values = 0.4 + 0.05 * generator.normal(size=20) @ patterns + generator.normal(0, 0.01, length)
            file.write(values.astype("<f4").tobytes())
        archive.start_dir = start + images * image_bytes
        info.file_size = info.compress_size = archive.start_dir - start + info.file_size
        file.seek(info.header_offset)
        file.write(info.FileHeader(zip64=True))
        other_arrays = {
            "shape": np.array([side, side, len(_CHANNELS)]),
            "channels": np.array(_CHANNELS),
            "names": np.array([f"{index}.png" for index in range(images)]),
        }
        for name, array in other_arrays.items():
            with archive.open(f"{name}.npy", "w") as member:
                npy_format.write_array(member, array, allow_pickle=False)


def _write_state(folder: Path, side: int) -> PreprocessingState:
    """Write the preprocessing state that ``pixal train`` stores with the model."""
    mask = np.zeros((side, side), bool)
    mask[1:-1, 1:-1] = True
    features = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    reference = Reference(np.zeros((side, side, 3), np.uint8), mask, features)
    preprocessor = {"pool_size": 1, "channels": list(_CHANNELS)}
    settings = PhotographParameters.model_validate({"preprocessing": {"preprocessor": preprocessor}}).preprocessing
    state = PreprocessingState("type", reference, mask, ~mask, Box(0, 0, side, side), None, settings)
    state.save(folder / "preprocessing.npz")
    return state


if __name__ == "__main__":
    main()
