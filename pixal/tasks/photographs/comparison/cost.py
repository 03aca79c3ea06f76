"""The cost of a model: memory while it is trained, and time per part."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pixal.inputs import InputSet
from pixal.train_model.family import AnomalyModel

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)
_TIMED_PARTS = 5


@dataclass(frozen=True)
class Cost:
    """The cost of a model.

    Attributes:
        training_seconds: The duration of training: all fits and the calibration.
        memory_gb: By how much memory grew at most during training; None where the system does not tell (not Linux).
        seconds_per_part: The time in which the model computes the error of one prepared part.
    """

    training_seconds: float
    memory_gb: float | None
    seconds_per_part: float


@dataclass
class MemoryGrowth:
    """By how much the memory of this process grew at most.

    Attributes:
        gb: The growth; None where the system does not tell.
    """

    gb: float | None = None


@contextmanager
def measured_memory() -> Iterator[MemoryGrowth]:
    """Measure by how much the resident memory of this process grows at most while the block runs (Linux only)."""
    growth = MemoryGrowth()
    before: float | None = None
    try:
        _RESET.write_text(_RESET_PEAK)
        before = _status_gb("VmRSS")
    except OSError:  # another system, or not allowed
        pass
    yield growth
    if before is not None:
        growth.gb = max(0.0, _status_gb("VmHWM") - before)


def seconds_per_part(model: AnomalyModel, inputs: InputSet) -> float:
    """The median time in which the model computes the error of one part."""
    times = []
    for row in range(min(_TIMED_PARTS + 1, len(inputs))):
        start = time.perf_counter()
        model.error(inputs, slice(row, row + 1))
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:] or times))  # the first call builds and loads what later ones share


def _status_gb(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e9
