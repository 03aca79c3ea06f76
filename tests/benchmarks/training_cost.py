"""What a plain dense autoencoder costs, and the projected one: seconds an epoch, memory, bytes on disk.

    python tests/benchmarks/training_cost.py out.npz [--plain-epochs 4]

out.npz is what ``pixal preprocess`` made of one type; its first three channels are used. Both models have the same
layers, data and batches, and each is fitted in a process of its own. The plain one takes some 15 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from page import write_section

_CHANNELS = 3


def main() -> None:
    """Measure both and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--epochs", type=int, default=300, help="of the projected model")
    parser.add_argument("--plain-epochs", type=int, default=4, help="of the plain model; 0: leave it out")
    parser.add_argument("--fit", choices=("auto", "none"), help=argparse.SUPPRESS)  # in the process that is measured
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        options.result.write_text(json.dumps(_fit(options.inputs, options.fit, options.epochs)))
        return
    projected = _measure(options.inputs, "auto", options.epochs)
    lines = [
        "| model | weights | epochs | fit s | s per epoch | peak GB | `.keras` MB | `.weights.h5` MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        _row("projected", projected),
    ]
    note = f"{projected['images']} images of {projected['values']} values, batches of 32."
    if options.plain_epochs:
        plain = _measure(options.inputs, "none", options.plain_epochs)
        lines.append(_row("plain", plain))
        epoch, memory, disk = (f"{plain[name] / projected[name]:.0f}" for name in ("epoch", "peak", "bytes"))
        note += (
            f" The plain one takes {epoch} times as long an epoch, {memory} times the memory, {disk} times the disk."
        )
    write_section("training", lines, note)


def _row(name: str, found: dict[str, Any]) -> str:
    files = " | ".join(f"{size / 1e6:.1f}" for size in found["files"])
    cost = f"{found['seconds']:.1f} | {found['epoch']:.4f} | {found['peak']:.2f} | {files}"
    return f"| {name} | {found['weights']:,} | {found['epochs']} | {cost} |"


def _measure(inputs: Path, kind: str, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["--fit", kind, "--epochs", str(epochs), "--result", str(result)]
        process = subprocess.Popen([sys.executable, __file__, str(inputs), *options])
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{kind}: exit status {os.waitstatus_to_exitcode(status)}")
        unit = 2**30 if sys.platform == "darwin" else 2**20
        found: dict[str, Any] = json.loads(result.read_text())
    return found | {"peak": usage.ru_maxrss / unit, "bytes": sum(found["files"])}


def _fit(path: Path, kind: str, epochs: int) -> dict[str, Any]:
    from pixal.config.schema import ModelTraining
    from pixal.inputs import InputSet
    from pixal.train_model.autoencoder.model import Autoencoder
    from pixal.train_model.family import FitControl
    from pixal.train_model.keras_training.hardware import set_up_tensorflow

    whole = InputSet.load(path)
    shape = (*whole.shape[:2], _CHANNELS)
    data = np.ascontiguousarray(whole.images()[..., :_CHANNELS]).reshape(len(whole), -1)
    inputs = InputSet(data, shape, whole.channels[:_CHANNELS], whole.names)
    # Accuracy is PIXAL's own, and would be another pass through the plain network.
    settings = ModelTraining(input_projection=kind, n_epochs=epochs, metric_accuracy=False)  # type: ignore[arg-type]
    set_up_tensorflow(settings)
    model = Autoencoder(
        {
            **settings.model_dump(),
            "input_dim": data.shape[1],
            "shape": list(shape),
            "channels": list(inputs.channels),
            "channel_weights": [1.0] * _CHANNELS,
            "types": ["benchmark"],
            "memory_limit": 4.0,
        }
    )
    ends = [time.perf_counter()]
    model.fit(
        inputs,
        np.arange(len(inputs)),
        np.ones((1, *shape[:2]), bool),
        FitControl(on_epoch=lambda epoch, loss: ends.append(time.perf_counter())),
    )
    with tempfile.TemporaryDirectory() as folder:
        files = model.save(Path(folder))
        return {
            "images": len(inputs),
            "values": data.shape[1],
            "weights": model.model.count_params(),
            "seconds": ends[-1] - ends[0],
            "epoch": float(np.median(np.diff(ends)[1:])),  # the first one traces
            "epochs": epochs,
            "files": [file.stat().st_size for file in files],
        }


if __name__ == "__main__":
    main()
