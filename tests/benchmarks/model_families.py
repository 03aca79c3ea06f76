"""Compare the model families on the same inputs: how well they find defects, and their cost.

    python tests/benchmarks/model_families.py BATCH [BATCH ...] [--images 40 8] [--families gaussian padim:KEY=VALUE]

A BATCH is a folder with ``train/COMPONENT``, ``production/COMPONENT`` and ``truth``. The first photographs of each type
of ``train`` are used. Each command is a separate process, without overlays of parts. The photographs are prepared once,
by ``validate`` of the first family; the other families use ``detect``. Settings of ``model_training`` can be appended
to the name of a family, for example ``:n_epochs=50`` or ``:model_options.size=redux``. The table goes to
``docs/models.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from page import ROOT, measure, write_configs, write_section

from pixal.config import load_config
from pixal.inputs import InputSet
from pixal.registry import MODELS
from pixal.tasks.photographs.training.stored import load_trained
from pixal.train_model.family import family_named

_WITHOUT_MAPS = ("plotting.plot_anomaly_heatmap=false", "validation.save_anomaly_maps=false")
_MEASURES = ("image_auroc", "detection_rate", "false_alarm_rate", "aupro", "pixel_ap")
_CHUNK_SIZE = 4  # parts, as in validation


def main() -> None:
    """Measure all families, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batches", type=Path, nargs="+", metavar="BATCH")
    parser.add_argument("--images", type=int, nargs="+", default=[40, 8], help="good photographs per type")
    families = [name for name, path in MODELS.builtin.items() if path.startswith("pixal.train_model.")]  # give maps
    parser.add_argument("--families", nargs="+", default=families, metavar="NAME[:KEY=VALUE...]")
    parser.add_argument("--note", default="", help="added to the page")
    options = parser.parse_args()
    results: dict[tuple[int, str], list[dict[str, float]]] = {}
    for images, batch in itertools.product(options.images, [path.absolute() for path in options.batches]):
        with tempfile.TemporaryDirectory() as scratch:
            work = _preprocess(Path(scratch), batch, images)
            for family in options.families:
                row = _measure_family(work, batch, family)
                results.setdefault((images, family), []).append(row)
                sys.stderr.write(f"{images} images, {batch.name}, {family}: {row}\n")
    lines = [
        "| good images | model | image AUROC | detection rate | false alarms | AUPRO | pixel AP | fits s | s per part "
        "| peak GB | model MB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (images, family), rows in results.items():
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        accuracy = " | ".join(f"{mean[key]:.3f}" for key in _MEASURES)
        cost = f"{mean['fits']:.1f} | {mean['part']:.4f} | {mean['peak']:.2f} | {mean['bytes'] / 1e6:.1f}"
        name, *settings = family.split(":")
        lines.append(f"| {images} | {' '.join([f'`{name}`', *settings])} | {accuracy} | {cost} |")
    note = f"Means over {len(options.batches)} batches. {options.note}"
    write_section("models", lines, note.strip(), page=ROOT / "docs" / "models.md")


def _preprocess(work: Path, batch: Path, images: int) -> Path:
    """Preprocess ``images`` photographs of each type in the working directory ``work``, and return it."""
    (component,) = (batch / "train").iterdir()
    write_configs(work, component.name)
    for folder in (path for path in component.iterdir() if path.is_dir()):
        chosen = sorted(path for path in folder.iterdir() if path.is_file())[:images]
        (work / "photos" / folder.name).mkdir(parents=True)
        for path in chosen:
            shutil.copy(path, work / "photos" / folder.name)
    measure(["preprocess", "-q", "-i", "photos"], work)
    return work


def _measure_family(work: Path, batch: Path, family: str) -> dict[str, float]:
    """Metrics and cost of one family, trained in ``work``. Seconds of fits and bytes are sums over the types."""
    name, *settings = family.split(":")
    overrides = [*_WITHOUT_MAPS, f"model_training.model={name}", *(f"model_training.{setting}" for setting in settings)]
    options = list(itertools.chain.from_iterable(("--set", text) for text in overrides))
    _, _, peak = measure(["train", "-q", *options], work)
    (component,) = (batch / "production").iterdir()
    validated = work / "validate" / component.name
    command = ["detect"] if validated.exists() else ["validate", "-i", str(component)]
    measure([*command, "-q", "--truth", str(batch / "truth"), *options], work)
    metrics = json.loads((validated / "metrics.json").read_text())["overall"]
    costs = [_measure_cost(work, validated, path.parent.name, overrides) for path in validated.glob("*/out.npz")]
    return {
        **{key: metrics[key] for key in _MEASURES},
        "fits": sum(cost["fits"] for cost in costs),
        "part": float(np.mean([cost["part"] for cost in costs])),
        "peak": peak,
        "bytes": sum(cost["bytes"] for cost in costs),
    }


def _measure_cost(work: Path, validated: Path, type_name: str, overrides: list[str]) -> dict[str, float]:
    """Cost of one type: seconds of all fits and the calibration, seconds per part, and bytes of the model files."""
    config = load_config(work / "configs", overrides)
    os.chdir(work)  # the paths of the configuration are relative
    trained = load_trained(config, type_name)
    family_named(trained.record.model).set_up(config.model_training)
    model = trained.load_anomaly_model()
    inputs = InputSet.load(validated / type_name / "out.npz")
    chunks = list(inputs.iterate_slices(_CHUNK_SIZE))
    model.error(inputs, chunks[0])  # not measured: TensorFlow traces the model in its first call
    started = time.perf_counter()
    for rows in chunks:
        model.error(inputs, rows)
    part_seconds = (time.perf_counter() - started) / len(inputs)
    name = trained.record.model_name
    files = [path for path in trained.folder.iterdir() if path.name.startswith(f"{name}.")]
    size = sum(path.stat().st_size for path in files)
    os.chdir("/")
    return {"fits": trained.record.training_seconds, "part": part_seconds, "bytes": size}


if __name__ == "__main__":
    main()
