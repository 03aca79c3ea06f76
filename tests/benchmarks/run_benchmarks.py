"""Measure the whole chain on batches: time, memory, and how well it finds defects.

    python tests/benchmarks/run_benchmarks.py [BATCH ...] [--note TEXT]

A BATCH is a folder with ``train/COMPONENT``, ``production/COMPONENT`` and ``truth``. Without one, a batch of 1920x1080
photographs is rendered. Each command is a separate process, with start-up. Both label modes are measured. The tables go
to ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from page import measure, write_configs, write_section

MEASURES = ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "pixel_ap", "aupro")


def main() -> None:
    """Measure all batches, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", nargs="*", type=Path)
    parser.add_argument("--note", default="", help="what the batches are, for the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        batches = [path.absolute() for path in options.batch] or [_render(Path(scratch) / "rendered")]
        cost_rows, metric_rows = [], []
        for batch in batches:
            for one_hot in (False, True):
                work = Path(scratch) / f"{batch.name}_{one_hot}"
                work.mkdir()
                costs, metrics = _run_chain(batch, work, one_hot)
                cost_rows += costs
                metric_rows += metrics
    lines = [
        "| batch | models | stage | wall s | CPU s | peak GB |",
        "|---|---|---|---:|---:|---:|",
        *cost_rows,
        "",
        f"| batch | models | type | {' | '.join(MEASURES)} |",
        f"|---|---|---|{'---:|' * len(MEASURES)}",
        *metric_rows,
    ]
    write_section("chain", lines, options.note)


def _render(folder: Path) -> Path:
    from pixal.synthetic import write_batch

    write_batch(folder, train=40, good=20, bad=20, severity=0.4, frame_size=(1920, 1080))
    return folder


def _run_chain(batch: Path, work: Path, one_hot: bool) -> tuple[list[str], list[str]]:
    """Preprocess, train and validate a batch; return the table rows of the costs and of the metrics."""
    component = next((batch / "train").iterdir()).name
    write_configs(work, component)
    mode = "one-hot" if one_hot else "one model per type"
    images = len(list((batch / "train" / component).rglob("*.*")))
    parts = len(list((batch / "production" / component).rglob("*.*")))
    commands = {
        f"preprocess, {images} photographs": ["preprocess", "-i", str(batch / "train" / component)],
        "train": ["train"],
        f"validate, {parts} photographs": [
            *("validate", "-i", str(batch / "production" / component)),
            *("--truth", str(batch / "truth")),
        ],
    }
    cost_rows, total = [], 0.0
    for name, command in commands.items():
        wall, cpu, memory = measure([*command, "-q", "--set", f"model_training.one_hot_encoding={one_hot}"], work)
        total += wall
        cost_rows.append(f"| {batch.name} | {mode} | {name} | {wall:.1f} | {cpu:.1f} | {memory:.2f} |")
    cost_rows.append(f"| {batch.name} | {mode} | **all** | **{total:.1f}** | | |")
    metrics = json.loads((work / "validate" / component / "metrics.json").read_text())
    metric_rows = []
    for name, row in {**metrics["types"], "all": metrics["overall"]}.items():
        values = " | ".join("" if row.get(key) is None else f"{row[key]:.3f}" for key in MEASURES)
        metric_rows.append(f"| {batch.name} | {mode} | {name} | {values} |")
    return cost_rows, metric_rows


if __name__ == "__main__":
    main()
