"""What one consensus mask a type is worth beside each photograph's own mask: the whole chain, once with each.

    python tests/benchmarks/consensus_mask.py BATCH

With its own mask, a photograph is black wherever its own background removal says so before anything is compared, and
the consensus mask is the union of the training masks; everything else is the shipped configuration.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from page import write_configs, write_section

import pixal
from pixal.tasks.photographs.alignment.align import align_photograph, warp
from pixal.tasks.photographs.preprocessing import input_step
from pixal.tasks.photographs.preprocessing.background_step import read_rgba
from pixal.tasks.photographs.verdicts import preparation

MEASURES = ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "pixel_ap", "aupro")


def main() -> None:
    """Measure and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", type=Path)
    options = parser.parse_args()
    batch = options.batch.absolute()
    component = next((batch / "train").iterdir()).name
    lines = [f"| cut by | type | {' | '.join(MEASURES)} |", f"|---|---|{'---:|' * len(MEASURES)}"]
    for cut, overrides in (
        ("consensus mask", ()),
        ("foreground mask", ("preprocessing.preprocessor.consensus=0.01",)),
    ):
        with tempfile.TemporaryDirectory() as work:
            write_configs(Path(work), component)
            os.chdir(work)
            if overrides:
                input_step.read_rgba = _blacked_out(read_rgba)
                preparation.align_photograph = _aligned_and_blacked_out
            config = pixal.load_config(overrides=[*overrides, "plotting.plot_anomaly_heatmap=false"])
            pixal.preprocess(batch / "train" / component, config=config, quiet=True)
            pixal.train(config=config, quiet=True)
            found = pixal.validate(
                batch / "production" / component, truth=batch / "truth", config=config, quiet=True
            ).metrics
            os.chdir("/")
        for name, row in {**found["types"], "all": found["overall"]}.items():
            lines.append(f"| {cut} | {name} | {' | '.join(f'{row[key]:.3f}' for key in MEASURES)} |")
    write_section("consensus", lines)


def _blacked_out(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def read_and_cut(path: Path) -> Any:
        image, mask = read(path)
        return image * mask[..., None].astype(image.dtype), mask

    return read_and_cut


def _aligned_and_blacked_out(image: Any, mask: Any, *rest: Any) -> Any:
    found = align_photograph(image, mask, *rest)
    moved = warp(mask.astype(np.uint8), found.homography, nearest=True)
    return replace(found, aligned=found.aligned * moved[..., None].astype(found.aligned.dtype))


if __name__ == "__main__":
    main()
