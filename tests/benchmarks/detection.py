"""Measure how well the default settings find defects, for different numbers of good images.

    python tests/benchmarks/detection.py WORK BATCH [BATCH ...] [--counts 40 16 8 5] [--note TEXT]

A BATCH is a folder with ``train/COMPONENT``, ``production/COMPONENT`` and ``truth``, with one image type. The first
good images, by name, are used for training. ``preprocess``, ``train`` and ``validate`` run as separate processes,
without figures. The results stay in WORK, and runs that are already done are skipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from page import WITHOUT_FIGURES, measure, write_configs, write_section
from tqdm import tqdm

_MEASURES = ("image_auroc", "aupro", "pixel_ap", "detection_rate", "false_alarm_rate")


def main() -> None:
    """Do the runs that are not done yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the results")
    parser.add_argument("batch", nargs="+", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=[40, 16, 8, 5], help="numbers of good images")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed to all commands")
    parser.add_argument("--note", default="", help="what the batches are, for the page")
    options = parser.parse_args()
    lines = [f"| good images | {' | '.join(_MEASURES)} |", f"|---:|{'---:|' * len(_MEASURES)}"]
    for count in options.counts:
        runs = [
            _run(options.work / batch.name / str(count), batch.absolute(), count, options.set)
            for batch in tqdm(options.batch, desc=f"{count} good images")
        ]
        cells = []
        for name in _MEASURES:
            values = [metrics[name] for metrics in runs]
            cells.append(f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    write_section("detection", lines, options.note)


def _run(work: Path, batch: Path, count: int, settings: list[str]) -> dict[str, float]:
    """The overall metrics of a run. It is skipped if it is already done."""
    component = next((batch / "train").iterdir()).name
    path = work / "validate" / component / "metrics.json"
    if not path.is_file():
        _run_commands(work, batch, component, count, settings)
    metrics: dict[str, float] = json.loads(path.read_text())["overall"]
    return metrics


def _run_commands(work: Path, batch: Path, component: str, count: int, settings: list[str]) -> None:
    """Preprocess, train and validate, with ``count`` good images."""
    write_configs(work, component)
    for type_folder in sorted((batch / "train" / component).iterdir()):
        folder = work / "good" / component / type_folder.name
        folder.mkdir(parents=True)
        for photograph in sorted(type_folder.iterdir())[:count]:
            (folder / photograph.name).symlink_to(photograph)
    overrides = [word for setting in (*WITHOUT_FIGURES, *settings) for word in ("--set", setting)]
    for command in (
        ["preprocess", "-i", str(work / "good" / component)],
        ["train"],
        ["validate", "-i", str(batch / "production" / component), "--truth", str(batch / "truth")],
    ):
        measure([*command, "-q", *overrides], work)


if __name__ == "__main__":
    main()
