"""Work for worker processes, as a command: what ``validate`` does, without photographs."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

from pixal.config.schema import Execution
from pixal.execution import map_parallel


def main() -> int:
    """Work in two threads until a signal comes, with more workers from time to time."""
    execution = Execution(backend="processes", workers=3)
    try:
        with ThreadPoolExecutor(1) as background:
            for round_ in range(100):
                future = background.submit(work, 2 + round_, execution)
                work(2 + round_, execution)
                future.result()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def work(count: int, execution: Execution) -> None:
    for _ in map_parallel(pause, range(count), execution, step="work", quiet=True):
        pass


def pause(_: int) -> None:
    time.sleep(0.01)
