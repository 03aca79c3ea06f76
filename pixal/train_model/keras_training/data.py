"""Training data: rows in memory, or rows that are read from disk batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.family import Rows


class Data(Protocol):
    """Training data with a length and batches of inputs and targets."""

    def __len__(self) -> int: ...

    def start(self, epoch: int) -> None:
        """Prepare an epoch, counted from 1. Random choices depend on the epoch's number only."""
        return

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """The inputs (an array, or a list of arrays) and the targets of these rows of the data."""


@dataclass(frozen=True)
class Arrays(Data):
    """Data in memory.

    Attributes:
        inputs: One array per input of the network, (N, ...).
        targets: The targets, (N, ...).
    """

    inputs: list[NDArray[np.float32]]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """See ``Data``."""
        inputs = [values[rows] for values in self.inputs]
        return (inputs[0] if len(inputs) == 1 else inputs), self.targets[rows]


class InputRows(Data):
    """Rows of an ``InputSet``, with the images themselves as targets. Kept in memory if they fit, else read again."""

    def __init__(
        self,
        inputs: InputSet,
        rows: Rows,
        labels: NDArray[np.float32],
        *,
        label_in_target: bool,
        memory_limit: float,
    ) -> None:
        """Read the rows if they fit in memory.

        Args:
            inputs: All parts.
            rows: The rows to train on.
            labels: One-hot labels of all parts, (N, T).
            label_in_target: Whether targets are (n, D + T), image and label, instead of (n, D).
            memory_limit: The largest memory for the images, in GB.
        """
        self._inputs, self._rows, self._labels = inputs, rows, labels[rows]
        self._label_in_target = label_in_target
        fits = len(rows) * inputs.data.shape[1] * 4 <= memory_limit * 2**30
        self._images = inputs.rows(rows) if fits else None

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """See ``Data``."""
        images = self._inputs.rows(self._rows[rows]) if self._images is None else self._images[rows]
        labels = self._labels[rows]
        target = np.hstack([images, labels]) if self._label_in_target else images
        return (images if labels.shape[1] == 1 else [images, labels]), target
