"""A simulation of ``pixal validate`` on a Dask cluster: how many parts per second do W workers give?

The workers take groups of parts. What is done one part after the other limits their number: the scheduler, the process
of the command (it stores verdicts and inputs), and the file system, which all workers share.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Literal

import numpy as np

GROUP = 4  # parts that a worker takes at once
_WINDOW = 2  # groups per worker that are sent before their results are taken
_JITTER = 0.2  # relative standard deviation of the time that a worker takes

Limit = Literal["workers", "command", "scheduler", "file system"]


@dataclass(frozen=True)
class Costs:
    """What one part costs, in seconds of one processor that works at full speed, and in bytes.

    Attributes:
        worker: Seconds in a worker.
        command: Seconds in the process of the command, one part after the other.
        scheduler: Seconds in the scheduler, one group after the other, per group.
        read: Bytes that a worker reads.
        written: Bytes that a worker writes.
        bandwidth: Bytes per second of the file system that all workers share.
    """

    worker: float
    command: float
    scheduler: float
    read: float
    written: float
    bandwidth: float

    @property
    def file_system(self) -> float:
        """Seconds per part that the shared file system is busy."""
        return (self.read + self.written) / self.bandwidth

    def limits(self, workers: int) -> dict[Limit, float]:
        """Parts per second that each stage could do by itself."""
        return {
            "workers": workers / (self.worker + self.file_system),
            "command": 1 / self.command,
            "scheduler": GROUP / self.scheduler,
            "file system": 1 / self.file_system,
        }


def simulate(costs: Costs, workers: int, groups: int, *, size: int = GROUP, whole: bool = False) -> float:
    """Parts per second of ``workers`` workers, with queues before each stage that does one thing after the other.

    A group goes to the scheduler, waits for a worker, which reads, computes and writes, and returns its result by the
    scheduler to the command, which takes results in the order of the groups.

    Args:
        costs: What one part costs.
        workers: Number of workers with one thread each.
        groups: Number of groups.
        size: Number of parts in a group.
        whole: Count from the first call to the last result. Default: the second half, without the start.
    """
    random = np.random.default_rng(0)
    free = [0.0] * workers  # when each worker is free
    heapq.heapify(free)
    scheduler = disk = command = 0.0  # when each of these is free
    taken = np.zeros(groups)  # when the command has stored a group
    window = _WINDOW * workers
    for group in range(groups):
        sent = taken[group - window] if group >= window else 0.0
        scheduler = max(scheduler, sent) + costs.scheduler
        start = max(heapq.heappop(free), scheduler)
        disk = max(disk, start) + size * costs.file_system
        compute = size * costs.worker * max(0.1, random.normal(1, _JITTER))
        end = max(disk, start + size * costs.file_system) + compute
        heapq.heappush(free, end)
        command = max(command, end) + size * costs.command
        taken[group] = command
    if whole:
        return float(size * groups / taken[-1])
    half = groups // 2
    return float(size * (groups - half) / (taken[-1] - taken[half - 1]))
