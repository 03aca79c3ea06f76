"""How well the shipped configuration finds defects, by the number of good images it was trained on.

    python tests/benchmarks/detection.py WORK BATCH [BATCH ...] [--counts 40 16 8 5] [--note TEXT]

A BATCH is a folder with ``train/COMPONENT``, ``production/COMPONENT`` and ``truth``, of one type. Of its good images
the first ones, by name, are trained on: preprocess, train and validate run as a user would run them, without pictures.
What they leave in WORK is kept, and a run that is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from page import measure, write_configs, write_section
from tqdm import tqdm

_MEASURES = ("image_auroc", "aupro", "pixel_ap", "detection_rate", "false_alarm_rate")
_PLAIN = [
    *("preprocessing.draw_matches=False", "preprocessing.save_metrics=False", "preprocessing.save_overlays=False"),
    *(f"plotting.plot_{name}=False" for name in ("loss", "accuracy", "anomaly_heatmap", "distributions")),
]


def main() -> None:
    """Run what is not there yet, and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("batch", nargs="+", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=[40, 16, 8, 5])
    parser.add_argument("--set", action="append", default=[], help="as pixal's own, for all commands")
    parser.add_argument("--note", default="", help="what the batches are, for the page")
    options = parser.parse_args()
    lines = [f"| good images | {' | '.join(_MEASURES)} |", f"|---:|{'---:|' * len(_MEASURES)}"]
    for count in options.counts:
        found = [
            _run(options.work / batch.name / str(count), batch.absolute(), count, options.set)
            for batch in tqdm(options.batch, desc=f"{count} good images")
        ]
        cells = []
        for name in _MEASURES:
            values = [measures[name] for measures in found]
            cells.append(f"{np.mean(values):.4f} ({min(values):.4f} to {max(values):.4f})")
        lines.append(f"| {count} | {' | '.join(cells)} |")
    write_section("detection", lines, options.note)


def _run(work: Path, batch: Path, count: int, settings: list[str]) -> dict[str, float]:
    component = next((batch / "train").iterdir()).name
    result = work / "validate" / component / "metrics.json"
    if not result.is_file():
        _train_on(work, batch, component, count, settings)
    found: dict[str, float] = json.loads(result.read_text())["overall"]
    return found


def _train_on(work: Path, batch: Path, component: str, count: int, settings: list[str]) -> None:
    write_configs(work, component)
    for type_folder in sorted((batch / "train" / component).iterdir()):
        folder = work / "good" / component / type_folder.name
        folder.mkdir(parents=True)
        for photograph in sorted(type_folder.iterdir())[:count]:
            (folder / photograph.name).symlink_to(photograph)
    given = [word for setting in (*_PLAIN, *settings) for word in ("--set", setting)]
    for command in (
        ["preprocess", "-i", str(work / "good" / component)],
        ["train"],
        ["validate", "-i", str(batch / "production" / component), "--truth", str(batch / "truth")],
    ):
        measure([*command, "-q", *given], work)


if __name__ == "__main__":
    main()
