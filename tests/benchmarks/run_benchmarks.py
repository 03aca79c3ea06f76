"""Run the whole chain on a batch, stage by stage, and write what it took and found to ``docs/benchmarks.md``.

    python tests/benchmarks/run_benchmarks.py BATCH [BATCH ...] [--note TEXT]

A BATCH is a folder with ``train/COMPONENT``, ``production/COMPONENT`` and ``truth``. Without one, a batch of 1920x1080
photographs is rendered. Each command runs as a process of its own, start-up included, in both label modes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from page import measure, write_configs, write_section

MEASURES = ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "pixel_ap", "aupro")


def main() -> None:
    """Measure and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", nargs="*", type=Path)
    parser.add_argument("--note", default="", help="what the batches are, for the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        batches = [path.absolute() for path in options.batch] or [_render(Path(scratch) / "rendered")]
        stages, found = [], []
        for batch in batches:
            for mode in (False, True):
                work = Path(scratch) / f"{batch.name}_{mode}"
                work.mkdir()
                more_stages, more_found = _chain(batch, work, mode)
                stages += more_stages
                found += more_found
    lines = [
        "| batch | models | stage | wall s | CPU s | peak GB |",
        "|---|---|---|---:|---:|---:|",
        *stages,
        "",
        f"| batch | models | type | {' | '.join(MEASURES)} |",
        f"|---|---|---|{'---:|' * len(MEASURES)}",
        *found,
    ]
    write_section("chain", lines, options.note)


def _render(folder: Path) -> Path:
    from pixal.synthetic import write_batch

    write_batch(folder, train=40, good=20, bad=20, severity=0.4, frame_size=(1920, 1080))
    return folder


def _chain(batch: Path, work: Path, one_hot: bool) -> tuple[list[str], list[str]]:
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
    stages, total = [], 0.0
    for name, command in commands.items():
        wall, cpu, memory = measure([*command, "-q", "--set", f"model_training.one_hot_encoding={one_hot}"], work)
        total += wall
        stages.append(f"| {batch.name} | {mode} | {name} | {wall:.1f} | {cpu:.1f} | {memory:.2f} |")
    stages.append(f"| {batch.name} | {mode} | **all** | **{total:.1f}** | | |")
    measures = json.loads((work / "validate" / component / "metrics.json").read_text())
    found = []
    for name, row in {**measures["types"], "all": measures["overall"]}.items():
        values = " | ".join("" if row.get(key) is None else f"{row[key]:.3f}" for key in MEASURES)
        found.append(f"| {batch.name} | {mode} | {name} | {values} |")
    return stages, found


if __name__ == "__main__":
    main()
