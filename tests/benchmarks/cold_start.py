"""Measure how long one photograph takes from the command to the verdict and the report, in a new process.

    python tests/benchmarks/cold_start.py [--runs 5] [--families gaussian autoencoder combined]

A batch of 1920x1080 pixels is rendered, and a model of each family is trained. Of the runs of each family the fastest
counts, because other work on the machine can only make a run slower.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from page import measure, write_configs, write_section

from pixal.synthetic import write_batch

COMPONENT = "Benchmark"


def main() -> None:
    """Measure all families, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--families", nargs="+", default=["gaussian", "autoencoder", "combined"])
    options = parser.parse_args()
    lines = ["| family | report s | end s | CPU s | peak GB |", "|---|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as scratch:
        batch = Path(scratch) / "batch"
        write_batch(
            batch, component=COMPONENT, types=("front",), train=12, good=1, bad=1, frame_size=(1920, 1080), severity=0.4
        )
        photograph = next((batch / "production" / COMPONENT / "front").iterdir())
        for family in options.families:
            work = Path(scratch) / family
            write_configs(work, COMPONENT)
            chosen = ["--set", f"model_training.model={family}"]
            measure(["preprocess", "-q", "-i", str(batch / "train" / COMPONENT), *chosen], work)
            measure(["train", "-q", *chosen], work)
            runs = [_run(photograph, work) for _ in range(options.runs)]
            report, end, cpu, memory = (min(values) for values in zip(*runs, strict=True))
            lines.append(f"| {family} | {report:.2f} | {end:.2f} | {cpu:.2f} | {memory:.2f} |")
    load = os.getloadavg()[2]
    write_section("cold_start", lines, f"The fastest of {options.runs} runs; load of the machine {load:.1f}.")


def _run(photograph: Path, work: Path) -> tuple[float, float, float, float]:
    """Seconds until the report is written, and until the process ends, CPU seconds, and peak memory in GB."""
    shutil.rmtree(work / "validate", ignore_errors=True)
    started = time.time()
    end, cpu, memory = measure(["validate", "-q", "-i", str(photograph)], work)
    report = work / "validate" / COMPONENT / "report.html"
    time.sleep(5)  # the process that writes the run into MLflow
    return report.stat().st_mtime - started, end, cpu, memory


if __name__ == "__main__":
    main()
