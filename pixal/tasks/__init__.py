"""Tasks: kinds of input. Each task is a folder here or a class in another package; ``pixal.registry`` lists them."""

from __future__ import annotations

from pixal.config import Config
from pixal.registry import TASKS
from pixal.tasks.task import Task

__all__ = ["Task", "configured_task"]


def configured_task(config: Config) -> Task:
    """Return the task that the settings name."""
    task_type: type[Task] = TASKS.load(config.parameters.task)
    return task_type()
