"""Measure ``pixal preprocess``: time and memory for different numbers of photographs, workers and backends.

    python tests/benchmarks/preprocessing_cost.py PHOTOGRAPHS [--most 400]

PHOTOGRAPHS is a folder of good photographs of one type. If more are needed, they are copied under other names. Each run
is a separate process, with figures and start-up. The outputs of all backends must be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path

from page import measure, write_configs, write_section

COMPONENT = "Benchmark"


def main() -> None:
    """Measure all runs, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--most", type=int, default=400, help="photographs of the largest run")
    options = parser.parse_args()
    source = sorted(path for path in options.photographs.absolute().iterdir() if path.is_file())
    processors = os.cpu_count() or 1
    runs = [
        ("threads", processors, 40, "first run"),
        ("threads", processors, 40, "again, nothing changed"),
        ("threads", 1, 40, "first run"),
        ("processes", processors, 40, "first run"),
        ("dask", processors, 40, "first run"),
        ("threads", processors, options.most, "first run"),
    ]
    lines = [
        "| backend | workers | photographs | run | wall s | photographs per second | CPU s per photograph | peak GB |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        hashes = set()
        for backend, workers, count, run in runs:
            work = Path(scratch) / "run"
            if run == "first run":
                shutil.rmtree(work, ignore_errors=True)
                _copy_photographs(work, source, count)
            command = ["preprocess", "-q", "-i", "photos", "--workers", str(workers)]
            wall, cpu, memory = measure([*command, "--set", f"execution.backend={backend}"], work)
            lines.append(
                f"| {backend} | {workers} | {count} | {run} | {wall:.1f} | {count / wall:.1f} | {cpu / count:.2f} "
                f"| {memory:.2f} |"
            )
            if count == 40:
                hashes.add(_folder_hash(work / "out" / COMPONENT))
    if len(hashes) != 1:
        raise SystemExit("the backends gave different outputs")
    write_section("preprocessing", lines, "All runs of 40 photographs gave the same outputs, byte for byte.")


def _copy_photographs(work: Path, source: list[Path], count: int) -> None:
    """Copy ``count`` photographs to a new working directory."""
    folder = work / "photos" / "front"
    folder.mkdir(parents=True)
    for number, path in enumerate(itertools.islice(itertools.cycle(source), count)):
        shutil.copy(path, folder / f"part_{number:04d}{path.suffix}")
    write_configs(work, COMPONENT)


def _folder_hash(folder: Path) -> str:
    """The SHA-256 of the names and contents of all images, arrays and tables in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".jpg", ".npz", ".csv"):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
