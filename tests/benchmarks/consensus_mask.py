"""Measure the whole chain, once with the consensus mask and once with the foreground mask of each photograph.

    python tests/benchmarks/consensus_mask.py BATCH

With the foreground mask, each aligned photograph is black outside its own mask, and the consensus mask is the union of
the training masks. All other settings are the defaults.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import write_configs, write_section

import pixal
from pixal.tasks.photographs.preprocessing import input_step, prepare
from pixal.tasks.photographs.preprocessing.prepare import ModelInput, make_model_input
from pixal.tasks.photographs.preprocessing.state import PreprocessingState

MEASURES = ("image_auroc", "f1_max", "false_alarm_rate", "detection_rate", "pixel_ap", "aupro")


def main() -> None:
    """Measure both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batch", type=Path, help="folder with train/COMPONENT, production/COMPONENT and truth")
    options = parser.parse_args()
    batch = options.batch.absolute()
    component = next((batch / "train").iterdir()).name
    lines = [f"| cut by | type | {' | '.join(MEASURES)} |", f"|---|---|{'---:|' * len(MEASURES)}"]
    for mask_name, overrides in (
        ("consensus mask", ()),
        ("foreground mask", ("preprocessing.preprocessor.consensus=0.01",)),
    ):
        with tempfile.TemporaryDirectory() as work:
            write_configs(Path(work), component)
            os.chdir(work)
            if overrides:
                for module in (input_step, prepare):
                    module.make_model_input = _make_masked_input
            config = pixal.load_config(overrides=[*overrides, "plotting.plot_anomaly_heatmap=false"])
            pixal.preprocess(batch / "train" / component, config=config, quiet=True)
            pixal.train(config=config, quiet=True)
            outcome = pixal.validate(batch / "production" / component, truth=batch / "truth", config=config, quiet=True)
            os.chdir("/")
        metrics = outcome.metrics
        for name, row in {**metrics.types, "all": metrics.overall}.items():
            lines.append(f"| {mask_name} | {name} | {' | '.join(f'{row[key]:.3f}' for key in MEASURES)} |")
    write_section("consensus", lines)


def _make_masked_input(image: NDArray[Any], mask: NDArray[np.bool_], state: PreprocessingState) -> ModelInput:
    """The model input of an aligned photograph (H, W, 3) that is black outside its own mask (H, W)."""
    return make_model_input(image * mask[..., None].astype(image.dtype), mask, state)


if __name__ == "__main__":
    main()
