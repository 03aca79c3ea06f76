"""Network inputs that preprocessing passes to a model, in memory or in an ``.npz`` file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.arrays import ARCHIVE_ERRORS, load_arrays, map_member, release_pages
from pixal.io.growing import GrowingRows

_CHUNK_BYTES = 1 << 28  # of rows that are processed together


@dataclass(frozen=True)
class InputSet:
    """Network inputs of N parts.

    Attributes:
        data: Input values in [0, 1], (N, H*W*C) float32. It may be a read-only memory map.
        shape: (H, W, C).
        channels: The C channel names.
        names: The N names of the photographs that the rows come from.
        labels: In one-hot mode, (N, T) float32 with a single 1 per row. Otherwise None.
        types: In one-hot mode, the T type names. Otherwise empty.
        targets: The K values per row that a regression model learns to predict, (N, K) float32, or None.
        path: The file that the data is mapped from; None: it is in memory.
    """

    data: NDArray[np.float32]
    shape: tuple[int, int, int]
    channels: tuple[str, ...]
    names: tuple[str, ...]
    labels: NDArray[np.float32] | None = None
    types: tuple[str, ...] = ()
    targets: NDArray[np.float32] | None = None
    path: Path | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process reads the file again, where there is one, instead of getting all rows."""
        if self.path is not None:
            return InputSet.load, (self.path,)
        return InputSet, tuple(getattr(self, field.name) for field in fields(self))

    def __post_init__(self) -> None:
        values = int(np.prod(self.shape))
        if self.data.ndim != 2 or self.data.shape[1] != values:
            raise InputError(f"data has shape {self.data.shape}, but shape {self.shape} needs (N, {values})")
        if len(self.names) != len(self.data) or len(self.channels) != self.shape[2]:
            raise InputError(
                f"{len(self.data)} rows with {len(self.names)} names, {self.shape[2]} channels with "
                f"{len(self.channels)} names"
            )
        if self.labels is not None and self.labels.shape != (len(self.data), len(self.types)):
            raise InputError(f"labels have shape {self.labels.shape} for {len(self.data)} rows and types {self.types}")
        if self.targets is not None and (self.targets.ndim != 2 or len(self.targets) != len(self.data)):
            raise InputError(f"targets have shape {self.targets.shape} for {len(self.data)} rows")

    def __len__(self) -> int:
        return len(self.data)

    def rows(
        self, rows: slice | NDArray[np.integer[Any]] = slice(None), columns: slice = slice(None)
    ) -> NDArray[np.float32]:
        """Copy rows into memory.

        Unlike ``data[rows]``, this releases the pages of a memory map, so that the memory of the process stays small.

        Args:
            rows: Which rows: a slice, or n row indices.
            columns: Which of the H*W*C values of a row.

        Returns:
            The values, (n, D) float32.
        """
        selected = self.data[rows, columns]
        copied = np.array(selected, np.float32) if isinstance(rows, slice) else np.asarray(selected, np.float32)
        release_pages(self.data)
        return copied

    def images(self, rows: slice | NDArray[np.integer[Any]] = slice(None)) -> NDArray[np.float32]:
        """Copy rows into memory as images, (n, H, W, C) float32."""
        return self.rows(rows).reshape(-1, *self.shape)

    def rows_per_chunk(self, most: int = 16) -> int:
        """Number of rows to process together: ``most``, or fewer if the images are large."""
        return int(np.clip(_CHUNK_BYTES // (4 * self.data.shape[1]), 1, most))

    def iterate_chunks(self, rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Split row indices, in their order, into chunks whose rows fit into memory."""
        size = self.rows_per_chunk()
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def rows_of_type(self, index: int) -> NDArray[np.intp]:
        """Indices of the rows of type number ``index``; of all rows if there is only one type."""
        return np.arange(len(self)) if self.labels is None else np.flatnonzero(self.labels[:, index])

    def subset(self, rows: slice | NDArray[np.intp]) -> InputSet:
        """Copy rows into a new ``InputSet`` in memory."""
        names = tuple(np.array(self.names, object)[rows])
        labels = None if self.labels is None else self.labels[rows]
        targets = None if self.targets is None else self.targets[rows]
        return InputSet(self.rows(rows), self.shape, self.channels, names, labels, self.types, targets)

    def iterate_slices(self, size: int = 16) -> Iterator[slice]:
        """Split all rows into slices of ``size`` rows; the last may be shorter."""
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def with_images(self, images: NDArray[np.float32], type_index: int = 0) -> InputSet:
        """Make an ``InputSet`` of other images with the same shape and channels.

        Args:
            images: The images, (n, H, W, C).
            type_index: In one-hot mode, the number of the type of all images.

        Returns:
            The new set, in memory. The rows are named 0, 1, 2, ...
        """
        labels = None
        if self.labels is not None:
            labels = np.zeros((len(images), len(self.types)), np.float32)
            labels[:, type_index] = 1
        names = tuple(str(number) for number in range(len(images)))
        return InputSet(images.reshape(len(images), -1), self.shape, self.channels, names, labels, self.types)

    @classmethod
    def load(cls, path: Path) -> InputSet:
        """Read an ``out.npz`` file. The data is memory-mapped: it stays on disk until it is used.

        Raises:
            InputError: The file is missing, is damaged, or was not written by PIXAL.
        """
        try:
            arrays = load_arrays(path, leave_out="data")
            if missing := {"shape", "channels", "names"} - arrays.keys():
                raise InputError(f"has no {', '.join(sorted(missing))}; it was not written by PIXAL")
            data = map_member(path, "data.npy")
            return cls(
                data,
                tuple(int(n) for n in arrays["shape"]),  # type: ignore[arg-type]
                tuple(str(name) for name in arrays["channels"]),
                tuple(str(name) for name in arrays["names"]),
                arrays.get("labels"),
                tuple(str(name) for name in arrays.get("types", ())),
                arrays.get("targets"),
                path.absolute(),
            )
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist; run preprocess first") from error
        except ARCHIVE_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{path}: is damaged or not an .npz file ({reason}); run make_input again") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


class InputSetWriter:
    """Write an ``out.npz`` file row by row, so that memory does not grow with the number of parts.

    Use it as a context manager. The complete file appears when the block ends without an error. Each row is written to
    disk once.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], channels: Sequence[str], types: Sequence[str] = ()
    ) -> None:
        """Prepare to write.

        Args:
            path: The file to write.
            shape: (H, W, C) of each image.
            channels: The C channel names.
            types: In one-hot mode, the type names. Each appended part then needs one of them.
        """
        self._path, self._shape = path, shape
        self._channels, self._types = tuple(channels), tuple(types)
        self._names: list[str] = []
        self._labels: list[int] = []
        self._targets: list[NDArray[np.float32]] = []

    def __enter__(self) -> InputSetWriter:
        temporary = self._path.with_name(f".{uuid.uuid4().hex[:12]}.{self._path.name}")
        self._rows = GrowingRows(temporary, int(np.prod(self._shape)))
        self._rows.start()
        return self

    def append(
        self,
        image: NDArray[np.float32],
        name: str,
        type_name: str | None = None,
        target: Sequence[float] | NDArray[np.float32] | None = None,
    ) -> None:
        """Add a part.

        Args:
            image: The input of the part, (H, W, C) float32.
            name: The name of the row.
            type_name: The type of the part, in one-hot mode.
            target: The K values that a regression model learns to predict. Either all parts have them or none.

        Raises:
            InputError: The image or the target does not have the expected shape.
        """
        if image.shape != self._shape:
            raise InputError(f"{name}: input has shape {image.shape}, expected {self._shape}")
        self._add_target(name, target)
        self._rows.append(image)
        self._names.append(name)
        if self._types:
            self._labels.append(self._types.index(str(type_name)))

    def _add_target(self, name: str, target: Sequence[float] | NDArray[np.float32] | None) -> None:
        shape = None if target is None else np.shape(target)
        expected = shape
        if self._names:
            expected = self._targets[0].shape if self._targets else None
        if shape != expected or (shape is not None and len(shape) != 1):
            raise InputError(f"{name}: target has shape {shape}, expected {expected or '(K,)'}")
        if target is not None:
            self._targets.append(np.asarray(target, np.float32))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                arrays = describing_arrays(self._shape, self._channels, self._names, self._types, self._labels)
                if self._targets:
                    arrays["targets"] = np.stack(self._targets)
                self._rows.finish(self._path, arrays)
        finally:
            self._rows.path.unlink(missing_ok=True)


def describing_arrays(
    shape: tuple[int, int, int],
    channels: Sequence[str],
    names: Sequence[str],
    types: Sequence[str] = (),
    type_indices: Sequence[int] = (),
) -> dict[str, NDArray[Any]]:
    """Make the arrays of an ``out.npz`` that describe its rows.

    Args:
        shape: (H, W, C) of each image.
        channels: The C channel names.
        names: The name of each row.
        types: In one-hot mode, the type names.
        type_indices: In one-hot mode, the index of each row's type.
    """
    arrays: dict[str, NDArray[Any]] = {
        "shape": np.array(shape, np.int64),
        "channels": np.array(channels),
        "names": np.array(names, str),
    }
    if types:
        arrays["labels"] = np.eye(len(types), dtype=np.float32)[list(type_indices)]
        arrays["types"] = np.array(types)
    return arrays


def evenly_spaced(rows: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Select at most ``count`` of the rows, evenly spaced."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.intp)]
