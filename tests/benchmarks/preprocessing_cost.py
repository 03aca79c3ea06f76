"""What ``pixal preprocess`` takes: photographs a second, and memory, by number of photographs, workers and backend.

    python tests/benchmarks/preprocessing_cost.py PHOTOGRAPHS [--most 400]

PHOTOGRAPHS is a folder of good photographs of one type. They are repeated under other names where more are needed. Each
run is a process of its own, with pictures and start-up; the outputs of every backend are compared byte by byte.
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
    """Measure and write the page's table."""
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
        made = set()
        for backend, workers, count, run in runs:
            work = Path(scratch) / "run"
            if run == "first run":
                shutil.rmtree(work, ignore_errors=True)
                _lay_out(work, source, count)
            command = ["preprocess", "-q", "-i", "photos", "--workers", str(workers)]
            wall, cpu, memory = measure([*command, "--set", f"execution.backend={backend}"], work)
            lines.append(
                f"| {backend} | {workers} | {count} | {run} | {wall:.1f} | {count / wall:.1f} | {cpu / count:.2f} "
                f"| {memory:.2f} |"
            )
            if count == 40:
                made.add(_digest(work / "out" / COMPONENT))
    if len(made) != 1:
        raise SystemExit("the backends did not give the same bytes")
    write_section("preprocessing", lines, "The outputs of all runs of 40 photographs are the same, byte for byte.")


def _lay_out(work: Path, source: list[Path], count: int) -> None:
    folder = work / "photos" / "front"
    folder.mkdir(parents=True)
    for number, path in enumerate(itertools.islice(itertools.cycle(source), count)):
        shutil.copy(path, folder / f"part_{number:04d}{path.suffix}")
    write_configs(work, COMPONENT)


def _digest(folder: Path) -> str:
    """The SHA-256 of all images and arrays below ``folder``, names included."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".png", ".jpg", ".npz", ".csv"):
            digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
