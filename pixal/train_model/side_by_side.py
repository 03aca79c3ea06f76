"""Work on several items at the same time: on one in this process, on the others in processes of their own."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pixal.train_model.training_processes import stop_training

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_side_by_side(
    items: Sequence[Item], here: Callable[[Item], object], elsewhere: Callable[[Item], Result], others: int
) -> list[Result]:
    """Call ``here`` or ``elsewhere`` once per item. An error, or Ctrl-C, stops the processes of the others.

    Args:
        items: The items. The first one is worked on here.
        here: Called in this thread.
        elsewhere: Called in other threads; it waits for a process, see ``TrainingOnWorker``.
        others: Number of processes besides this one.

    Returns:
        What ``elsewhere`` returned, in the order in which the calls ended.
    """
    waiting, results = deque(items[1:]), list[Result]()

    def help_out() -> None:
        while waiting:
            results.append(elsewhere(waiting.pop()))

    with ThreadPoolExecutor(others) as pool:
        try:
            helpers = [pool.submit(help_out) for _ in range(min(others, len(waiting)))]
            here(items[0])
            while waiting:
                here(waiting.popleft())
            for helper in helpers:
                helper.result()
        except BaseException:
            waiting.clear()
            stop_training()
            raise
    return results


class CollectedWarnings(logging.Handler):
    """Keeps warnings of another process, to be logged in this one.

    Attributes:
        found: Name of the logger, level and text of each.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.found.append((record.name, record.levelno, record.getMessage()))

    @staticmethod
    def log(found: Sequence[tuple[str, int, str]]) -> None:
        """Log what another process has collected."""
        for name, level, text in found:
            logging.getLogger(name).log(level, "%s", text)
