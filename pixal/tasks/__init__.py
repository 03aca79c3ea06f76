"""Kinds of input. Each task is one folder here, or a class in another package; ``pixal.registry`` lists them."""

from __future__ import annotations

from pixal.config import Config
from pixal.registry import TASKS
from pixal.tasks.task import Task

__all__ = ["Task", "configured_task"]


def configured_task(config: Config) -> Task:
    """The task that the settings name."""
    kind: type[Task] = TASKS.load(config.parameters.task)
    return kind()
