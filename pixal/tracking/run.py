"""A run, and what is logged in it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

COMPONENT_TAG = "pixal.component"
MODEL_TAG = "pixal.model"
"""Tag with the fingerprint of a model: of a run of ``train``, and (with ``.TYPE``) of runs that used the model."""

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


class TrackedMetric(NamedTuple):
    """A value of a metric.

    Attributes:
        name: Its name.
        value: Its value, which is finite.
        step: The epoch; 0 where there are none.
        time: When it was measured, in milliseconds since 1970.
    """

    name: str
    value: float
    step: int
    time: int


class TrackedDataset(NamedTuple):
    """A data set of a run.

    Attributes:
        name: Its name.
        digest: A hash of its content, at most 36 characters.
        source: The path of its file or folder.
        context: What it is for: ``training`` or ``validation``.
        profile: What is counted in it, by name.
    """

    name: str
    digest: str
    source: str
    context: str
    profile: dict[str, Any]


class TrackedFile(NamedTuple):
    """A file of a run, and the artifact folder that it goes into."""

    path: Path
    folder: str


class TrackedModel(NamedTuple):
    """A stored model, as ``pixal export`` finds it.

    Attributes:
        task: The task that it is for.
        component: The component.
        owner: The type that it is for; None for one model of all types.
        record_file: The file of its record.
        record_sha256: The SHA-256 of that file.
        folder: The folder of its files.
    """

    task: str
    component: str
    owner: str | None
    record_file: Path
    record_sha256: str
    folder: Path


@dataclass
class TrackedRun:
    """A run with the data that it has logged so far.

    Attributes:
        experiment: Name of the experiment.
        name: Name of what the run works on, for example the image type.
        command: The command, for example ``train``.
        id: Stands for the run in all loggers.
        start_time: Milliseconds since 1970.
        end_time: Milliseconds since 1970; None while the run goes on.
        status: How the run ended, as MLflow names it.
        metrics: The metrics, in their order.
        params: The settings as text, by dotted name.
        tags: The tags by name.
        datasets: The data sets.
        artifacts: The files.
        model: The stored model; None if there is none.
    """

    experiment: str
    name: str
    command: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    start_time: int = field(default_factory=lambda: now())
    end_time: int | None = None
    status: Status = "RUNNING"
    metrics: list[TrackedMetric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    datasets: list[TrackedDataset] = field(default_factory=list)
    artifacts: list[TrackedFile] = field(default_factory=list)
    model: TrackedModel | None = None

    @property
    def run_name(self) -> str:
        """The name of the run: the command, the component, and what it works on, which sorts by command."""
        return " ".join(dict.fromkeys(filter(None, (self.command, self.tags.get(COMPONENT_TAG), self.name))))


def now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
