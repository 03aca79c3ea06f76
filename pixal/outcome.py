"""What a command did, and what it could not do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pixal.errors import InputError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """An image that could not be processed."""

    type_name: str
    image: str
    step: str
    reason: str

    def __str__(self) -> str:
        return f"{self.type_name}/{self.image}: {self.reason}"


@dataclass
class Outcome:
    """How many images a command (or its last step) finished, and which ones any of its steps could not."""

    done: int = 0
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def from_rows(cls, type_name: str, step: str, rows: Sequence[Mapping[str, Any]]) -> Outcome:
        """That of a step's rows: those whose ``status`` is ok, and the others with their ``reason``."""
        failed = [row for row in rows if row["status"] != "ok"]
        failures = [Failure(type_name, row["image"], step, row["reason"]) for row in failed]
        return cls(len(rows) - len(failed), failures)

    def followed_by(self, later: Outcome) -> Outcome:
        """This step followed by a later one on the same images."""
        return Outcome(later.done, [*self.failures, *later.failures])

    def combined_with(self, other: Outcome) -> Outcome:
        """This outcome and that of other images."""
        return Outcome(self.done + other.done, [*self.failures, *other.failures])

    def require_done(self, source: str | Path | None) -> Outcome:
        """Itself, if anything was done. Raises InputError otherwise."""
        if not self.done:
            first = self.failures[0] if self.failures else "there was nothing to do"
            raise InputError(f"{source}: none of {len(self.failures)} images could be processed; the first: {first}")
        return self


class Results(Protocol):
    """What ``validate``, ``detect``, ``evaluate`` and ``benchmark`` return, whatever the task."""

    @property
    def failures(self) -> Sequence[Failure | str]:
        """What could not be processed, each with its reason."""

    @property
    def failed(self) -> int:
        """How many items have the verdict "fail"; 0 for a task without verdicts."""

    @property
    def all_failed(self) -> bool:
        """Whether nothing at all could be processed."""

    def summary(self) -> str:
        """A table for people."""
