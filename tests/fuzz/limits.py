"""Read a file within limits of time and memory."""

from __future__ import annotations

import gc
import time
from pathlib import Path

from fuzz.readers import accepts

SECONDS = 2.0  # of processor time, so that a busy machine fails no test
MEMORY = 500_000  # kB


def check(name: str, data: bytes, folder: Path) -> bool:
    """Read a file, and return whether its reader accepts it. Fail if that takes too much time or memory."""
    _forget_peak()
    memory, start = peak_memory(), time.thread_time()
    gc.freeze()  # going over all objects of a process that has run many tests takes seconds
    try:
        accepted = accepts(name, data, folder)
    finally:
        gc.unfreeze()
    used, seconds = peak_memory() - memory, time.thread_time() - start
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert used < MEMORY, f"{used // 1000} MB"
    return accepted


def peak_memory() -> int:
    """The largest memory of this process since the last check began, kB; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return
