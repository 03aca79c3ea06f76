"""The accuracy of a fit: the share of values that are reconstructed well."""

from __future__ import annotations

from typing import Protocol

from pixal.train_model.history import History

ACCURACY_TOLERANCE = 0.02  # a value reconstructed within it counts as accurate; inputs have the range [0, 1]


class Accuracy(Protocol):
    """Measures the share of values that are reconstructed within ``ACCURACY_TOLERANCE``."""

    def measure_epoch(self, history: History) -> None:
        """Add the accuracy of the current epoch to ``history``."""
