"""What the model families are worth, and what they cost: each on the same inputs, made of the same batches.

    python tests/benchmarks/model_families.py BATCH [BATCH ...] [--images 40 8] [--families gaussian padim:KEY=VALUE]

A BATCH is a folder with ``train/COMPONENT``, ``production/COMPONENT`` and ``truth``; the first photographs of each type
of ``train`` are used. Commands run as processes of their own, as a user would run them, without the pictures of parts;
the batch's photographs are prepared once, by the first family's ``validate``, the others judge by ``detect``. After a
family's name stand settings of ``model_training`` that are not the default, as ``n_epochs=50`` or
``model_options.size=redux``. Writes the table of ``docs/models.md``.
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
from typing import Any

import numpy as np
from page import ROOT, measure, write_configs, write_section

from pixal.config import load_config
from pixal.inputs import InputSet
from pixal.registry import MODELS
from pixal.tasks.photographs.training.stored import load_trained
from pixal.train_model.family import family_named

_PLAIN = ("plotting.plot_anomaly_heatmap=false", "validation.save_anomaly_maps=false")
_MEASURES = ("image_auroc", "detection_rate", "false_alarm_rate", "aupro", "pixel_ap")
_ROWS = 4  # parts at a time, as in validation


def main() -> None:
    """Measure and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("batches", type=Path, nargs="+", metavar="BATCH")
    parser.add_argument("--images", type=int, nargs="+", default=[40, 8], help="good photographs of a type")
    parser.add_argument("--families", nargs="+", default=list(MODELS.builtin), metavar="NAME[:KEY=VALUE...]")
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    found: dict[tuple[int, str], list[dict[str, float]]] = {}
    for images, batch in itertools.product(options.images, [path.absolute() for path in options.batches]):
        with tempfile.TemporaryDirectory() as scratch:
            work = _prepared(Path(scratch), batch, images)
            for family in options.families:
                found.setdefault((images, family), []).append(row := _measured(work, batch, family))
                sys.stderr.write(f"{images} images, {batch.name}, {family}: {row}\n")
    lines = [
        "| good images | model | image AUROC | detection rate | false alarms | AUPRO | pixel AP | fits s | s per part "
        "| peak GB | model MB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (images, family), rows in found.items():
        mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        accuracy = " | ".join(f"{mean[key]:.3f}" for key in _MEASURES)
        cost = f"{mean['fits']:.1f} | {mean['part']:.4f} | {mean['peak']:.2f} | {mean['bytes'] / 1e6:.1f}"
        name, *settings = family.split(":")
        lines.append(f"| {images} | {' '.join([f'`{name}`', *settings])} | {accuracy} | {cost} |")
    note = f"Means over {len(options.batches)} batches. {options.note}"
    write_section("models", lines, note.strip(), page=ROOT / "docs" / "models.md")


def _prepared(work: Path, batch: Path, images: int) -> Path:
    """A working directory in which ``images`` photographs of each type are preprocessed."""
    (component,) = (batch / "train").iterdir()
    write_configs(work, component.name)
    for folder in (path for path in component.iterdir() if path.is_dir()):
        chosen = sorted(path for path in folder.iterdir() if path.is_file())[:images]
        (work / "photos" / folder.name).mkdir(parents=True)
        for path in chosen:
            shutil.copy(path, work / "photos" / folder.name)
    measure(["preprocess", "-q", "-i", "photos"], work)
    return work


def _measured(work: Path, batch: Path, family: str) -> dict[str, float]:
    """Accuracy and cost of one family on what ``work`` holds; of several types the seconds and bytes of all."""
    name, *settings = family.split(":")
    overrides = [*_PLAIN, f"model_training.model={name}", *(f"model_training.{setting}" for setting in settings)]
    options = list(itertools.chain.from_iterable(("--set", text) for text in overrides))
    _, _, peak = measure(["train", "-q", *options], work)
    (component,) = (batch / "production").iterdir()
    validated = work / "validate" / component.name
    judge = ["detect"] if validated.exists() else ["validate", "-i", str(component)]
    measure([*judge, "-q", "--truth", str(batch / "truth"), *options], work)
    accuracy = json.loads((validated / "metrics.json").read_text())["overall"]
    costs = [_cost(work, validated, type_name.parent.name, overrides) for type_name in validated.glob("*/out.npz")]
    return {
        **{key: accuracy[key] for key in _MEASURES},
        "fits": sum(cost["fits"] for cost in costs),
        "part": float(np.mean([cost["part"] for cost in costs])),
        "peak": peak,
        "bytes": sum(cost["bytes"] for cost in costs),
    }


def _cost(work: Path, validated: Path, type_name: str, overrides: list[str]) -> dict[str, Any]:
    """Seconds of all fits and the calibration of a type, seconds a part, and bytes of the model's own files."""
    config = load_config(work / "configs", overrides)
    os.chdir(work)  # the configuration's paths are relative
    trained = load_trained(config, type_name)
    family_named(trained.record.model).set_up(config.model_training)
    model = trained.load_anomaly_model()
    inputs = InputSet.load(validated / type_name / "out.npz")
    blocks = list(inputs.iterate_slices(_ROWS))
    model.error(inputs, blocks[0])  # TensorFlow traces once
    began = time.perf_counter()
    for rows in blocks:
        model.error(inputs, rows)
    part = (time.perf_counter() - began) / len(inputs)
    name = trained.record.model_name
    files = [path for path in trained.folder.iterdir() if path.name.startswith(f"{name}.")]
    size = sum(path.stat().st_size for path in files)
    os.chdir("/")
    return {"fits": trained.record.training_seconds, "part": part, "bytes": size}


if __name__ == "__main__":
    main()
