"""The history of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class History:
    """The history of a fit: one value per epoch. The lists stay empty for a family without epochs.

    Attributes:
        loss: Mean loss of the training rows.
        validation_loss: Mean loss of the validation rows; empty without such rows.
        accuracy: Share of accurate values in the training rows; empty if it is not measured.
        validation_accuracy: Share of accurate values in the validation rows.
        learning_rate: The learning rate of each epoch.
        times: When each epoch has ended, in seconds since 1970; 0 where it is not known.
        best_epoch: The epoch whose weights were kept, counted from 1; 0 without epochs.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list, compare=False)
    best_epoch: int = 0

    def as_notes(self, *, with_times: bool) -> dict[str, Any]:
        """The history as JSON values. A file that must be the same for the same training has no times."""
        notes = asdict(self)
        if not with_times:
            del notes["times"]
        return notes

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> History:
        """The history that ``as_notes`` gave."""
        history = cls(**notes)
        history.times += [0.0] * (len(history.loss) - len(history.times))
        return history
