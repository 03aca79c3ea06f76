"""How a fit went."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class History:
    """How a fit went: one value per epoch. The lists stay empty for a family without epochs.

    Attributes:
        loss: Mean loss of the training rows.
        validation_loss: Mean loss of the validation rows; empty without such rows.
        accuracy: Share of accurate values in the training rows; empty if it is not measured.
        validation_accuracy: Share of accurate values in the validation rows.
        learning_rate: The learning rate of each epoch.
        best_epoch: The epoch whose weights were kept, counted from 1; 0 without epochs.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    best_epoch: int = 0
