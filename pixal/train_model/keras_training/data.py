"""What a fit is fed: rows in memory, or read from disk batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixal.inputs import InputSet
from pixal.train_model.family import Rows


class Data(Protocol):
    """Training data: how many rows there are, and any of them as (inputs, targets)."""

    def __len__(self) -> int: ...

    def start(self, epoch: int) -> None:
        """Be told that an epoch (from 1) begins: what differs from epoch to epoch depends on its number alone."""
        return

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """The inputs (an array, or a list of them) and the targets of ``rows``."""


@dataclass(frozen=True)
class Arrays(Data):
    """Data in memory."""

    inputs: list[NDArray[np.float32]]
    targets: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """See ``Data``."""
        inputs = [values[rows] for values in self.inputs]
        return (inputs[0] if len(inputs) == 1 else inputs), self.targets[rows]


class InputRows(Data):
    """Rows of an InputSet as data whose targets are the images themselves, read from disk where memory is short."""

    def __init__(
        self,
        inputs: InputSet,
        rows: Rows,
        labels: NDArray[np.float32],
        *,
        label_in_target: bool,
        memory_limit: float,
    ) -> None:
        """``label_in_target``: targets are (n, D + T), image and label. ``memory_limit``: GB that may be held."""
        self._inputs, self._rows, self._labels = inputs, rows, labels[rows]
        self._label_in_target = label_in_target
        fits = len(rows) * inputs.data.shape[1] * 4 <= memory_limit * 2**30
        self._held = inputs.rows(rows) if fits else None

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, rows: Rows) -> tuple[Any, NDArray[np.float32]]:
        """See ``Data``."""
        images = self._inputs.rows(self._rows[rows]) if self._held is None else self._held[rows]
        labels = self._labels[rows]
        target = np.hstack([images, labels]) if self._label_in_target else images
        return (images if labels.shape[1] == 1 else [images, labels]), target
