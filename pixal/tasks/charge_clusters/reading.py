"""Read charge clusters from parquet files, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.outcome import Failure
from pixal.tasks.charge_clusters.columns import AT_EDGE, LABEL_COLUMNS, charge_columns
from pixal.tasks.charge_clusters.files import ClusterFile, failure, open_parquet, reason_of
from pixal.tasks.charge_clusters.settings import Clusters

_BYTES = 32 << 20  # of charges that are read at a time
_LARGEST_LABEL = 20  # scales; beyond, a label is in another unit, or is no label
_REASONS = {
    "labels": "labels that are not finite",
    "charges": "charges that are not finite",
    "scale": f"labels beyond {_LARGEST_LABEL} times clusters.label_scales (are x and y in µm?)",
}


@dataclass(frozen=True)
class Events:
    """Clusters of one file.

    Attributes:
        rows: Their rows in the file, (n,).
        charge: Charge in electrons, (n, rows, columns, slices) float32.
        labels: x, y, cotAlpha, cotBeta, (n, 4) float32; NaN where they are not read.
    """

    rows: NDArray[np.int64]
    charge: NDArray[np.float32]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, chosen: NDArray[Any]) -> Events:
        """The clusters that ``chosen``, a mask or indices, selects."""
        return Events(self.rows[chosen], self.charge[chosen], self.labels[chosen])


class EventReader:
    """Reads the usable clusters of a file.

    Attributes:
        failures: What was left out, and why; complete when all events have been read.
    """

    def __init__(self, file: ClusterFile, settings: Clusters) -> None:
        """Prepare to read ``file``. The settings say which columns and clusters are used."""
        self.failures: list[Failure] = []
        self._file, self._settings = file, settings
        self._left_out = dict.fromkeys(_REASONS, 0)

    def __iter__(self) -> Iterator[Events]:
        """Yield the clusters in the order of the file, some rows at a time."""
        import pyarrow as pa

        file, start = self._file, 0
        try:
            labels, contained = self._read_labels()
            for charge in self._read_charge():
                stop = start + len(charge)
                kept = self._usable(labels[start:stop], charge) & contained[start:stop]
                if kept.any():
                    yield Events(np.arange(start, stop), charge, labels[start:stop]).select(kept)
                start = stop
        except (pa.ArrowException, OSError, ValueError, InputError) as error:
            reason = f"row {start} and the {file.rows - start - 1} after it cannot be read: {reason_of(error)}"
            self.failures.append(failure(file.path, "reading", reason))
        self._report()

    def _read_labels(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The labels of all rows, (n, 4), and whether the settings let a row be used, (n,)."""
        edge = self._file.edge_column if self._settings.contained else None
        names = [*(LABEL_COLUMNS if self._file.labels else ()), *([edge] if edge else [])]
        with open_parquet(self._file.labels or self._file.path) as file:
            table = file.read(names, use_threads=False)
        labels = np.full((self._file.rows, len(LABEL_COLUMNS)), np.nan, np.float32)
        if self._file.labels:
            labels = _matrix(table.columns[: len(LABEL_COLUMNS)])
        contained = np.ones(len(labels), bool)
        if edge:
            at_edge = np.asarray(table[edge].to_numpy(), np.float64)
            contained = at_edge == 0 if edge == AT_EDGE else np.abs(at_edge) < self._settings.edge_charge
        return labels, contained

    def _read_charge(self) -> Iterator[NDArray[np.float32]]:
        """The charge of the next rows, (n, rows, columns, slices)."""
        settings = self._settings
        names = charge_columns(settings.used_slices, settings.rows * settings.columns)
        with open_parquet(self._file.path) as file:
            for batch in file.iter_batches(max(1, _BYTES // (4 * len(names))), columns=names):
                by_slice = _matrix([batch[name] for name in names]).reshape(
                    len(batch), len(settings.used_slices), settings.rows, settings.columns
                )
                yield np.ascontiguousarray(by_slice.transpose(0, 2, 3, 1)) + np.float32(0)  # no negative zeros

    def _usable(self, labels: NDArray[np.float32], charge: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Count the rows with bad values, and return which rows have none."""
        labelled = np.isfinite(labels).all(1) | (self._file.labels is None)
        charged = np.isfinite(charge.sum((1, 2, 3)))  # a sum is finite where all are; electrons do not overflow
        in_scale = np.ones(len(labels), bool)
        if self._file.labels and self._settings.label_scales != "auto":
            with np.errstate(invalid="ignore"):
                in_scale &= (np.abs(labels) <= _LARGEST_LABEL * np.array(self._settings.label_scales)).all(1)
        self._left_out["labels"] += int((~labelled).sum())
        self._left_out["charges"] += int((labelled & ~charged).sum())
        self._left_out["scale"] += int((labelled & charged & ~in_scale).sum())
        return np.asarray(labelled & charged & in_scale)

    def _report(self) -> None:
        for reason, count in self._left_out.items():
            if count:
                text = f"left out {count} of {self._file.rows} rows with {_REASONS[reason]}"
                self.failures.append(failure(self._file.path, "reading", text))


def add_noise(events: Events, noise: float, seed: int) -> Events:
    """Add Gaussian noise to each pixel and slice.

    The noise depends on the seed and on the place of the events in their file: a file gets the same noise again.

    Args:
        events: Consecutive events of a file.
        noise: Standard deviation in electrons; 0: no noise.
        seed: Seed of the noise.
    """
    if not noise or not len(events):
        return events
    generator = np.random.default_rng((seed, int(events.rows[0])))
    drawn = generator.standard_normal(events.charge.shape, np.float32)
    return Events(events.rows, events.charge + np.float32(noise) * drawn, events.labels)


def _matrix(columns: Sequence[Any]) -> NDArray[np.float32]:
    """Arrow columns as one array, (rows, columns) float32. Missing values become NaN."""
    values = np.empty((len(columns), len(columns[0])), np.float32)
    for target, column in zip(values, columns, strict=True):
        target[:] = column.to_numpy(zero_copy_only=False)
    return np.asarray(values.T)
