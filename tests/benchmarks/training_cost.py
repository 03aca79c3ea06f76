"""Measure the cost of the projected and of a plain dense autoencoder: seconds per epoch, memory, disk space.

    python tests/benchmarks/training_cost.py out.npz [--plain-epochs 4]

out.npz is written by ``pixal preprocess`` for one type. Its first three channels are used. Both models have the same
hidden layers, data and batches, and each is fitted in a separate process. The plain one takes about 15 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from page import peak_memory, write_section

_CHANNELS = 3


@dataclass(frozen=True)
class _Cost:
    """Cost of one fit.

    Attributes:
        images: Number of images.
        values: Values per image.
        weights: Weights of the model.
        epochs: Number of epochs.
        fit_seconds: Time of the whole fit.
        epoch_seconds: Median time of an epoch, without the first one, which includes tracing.
        file_bytes: Size of the ``.keras`` and of the ``.weights.h5`` file.
        peak_gb: Peak memory of the process.
    """

    images: int
    values: int
    weights: int
    epochs: int
    fit_seconds: float
    epoch_seconds: float
    file_bytes: list[int]
    peak_gb: float = 0.0


def main() -> None:
    """Measure both models, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", type=Path, metavar="out.npz")
    parser.add_argument("--epochs", type=int, default=300, help="epochs of the projected model")
    parser.add_argument("--plain-epochs", type=int, default=4, help="epochs of the plain model; 0: leave it out")
    parser.add_argument("--fit", choices=("auto", "none"), help=argparse.SUPPRESS)  # used in the measured process
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        options.result.write_text(json.dumps(asdict(_fit(options.inputs, options.fit, options.epochs))))
        return
    projected = _measure(options.inputs, "auto", options.epochs)
    lines = [
        "| model | weights | epochs | fit s | s per epoch | peak GB | `.keras` MB | `.weights.h5` MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        _row("projected", projected),
    ]
    note = f"{projected.images} images of {projected.values} values, batches of 32."
    if options.plain_epochs:
        plain = _measure(options.inputs, "none", options.plain_epochs)
        lines.append(_row("plain", plain))
        note += (
            f" The plain autoencoder takes {plain.epoch_seconds / projected.epoch_seconds:.0f} times as long per epoch,"
            f" {plain.peak_gb / projected.peak_gb:.0f} times the memory"
            f" and {sum(plain.file_bytes) / sum(projected.file_bytes):.0f} times the disk space."
        )
    write_section("training", lines, note)


def _row(name: str, cost: _Cost) -> str:
    files = " | ".join(f"{size / 1e6:.1f}" for size in cost.file_bytes)
    costs = f"{cost.fit_seconds:.1f} | {cost.epoch_seconds:.4f} | {cost.peak_gb:.2f} | {files}"
    return f"| {name} | {cost.weights:,} | {cost.epochs} | {costs} |"


def _measure(inputs: Path, projection: str, epochs: int) -> _Cost:
    """Fit a model in a separate process, and measure its memory."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        options = ["--fit", projection, "--epochs", str(epochs), "--result", str(result)]
        process = subprocess.Popen([sys.executable, __file__, str(inputs), *options])
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{projection}: exit status {os.waitstatus_to_exitcode(status)}")
        cost = _Cost(**json.loads(result.read_text()))
    return replace(cost, peak_gb=peak_memory(usage.ru_maxrss))


def _fit(path: Path, projection: str, epochs: int) -> _Cost:
    """Fit a model on the first channels of an input set, and measure time and disk space."""
    from pixal.config.schema import ModelTraining
    from pixal.inputs import InputSet
    from pixal.train_model.autoencoder.model import Autoencoder
    from pixal.train_model.family import FitControl
    from pixal.train_model.keras_training.hardware import set_up_tensorflow

    whole = InputSet.load(path)
    shape = (*whole.shape[:2], _CHANNELS)
    data = np.ascontiguousarray(whole.images()[..., :_CHANNELS]).reshape(len(whole), -1)
    inputs = InputSet(data, shape, whole.channels[:_CHANNELS], whole.names)
    # Without the accuracy, which would need a second pass through the plain network.
    settings = ModelTraining(input_projection=projection, n_epochs=epochs, metric_accuracy=False)  # type: ignore[arg-type]
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
        return _Cost(
            images=len(inputs),
            values=data.shape[1],
            weights=model.model.count_params(),
            epochs=epochs,
            fit_seconds=ends[-1] - ends[0],
            epoch_seconds=float(np.median(np.diff(ends)[1:])),
            file_bytes=[file.stat().st_size for file in files],
        )


if __name__ == "__main__":
    main()
