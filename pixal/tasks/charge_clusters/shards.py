"""Model input on disk: Arrow files of compressed blocks of events, and batches from them in random order.

A shard holds blocks of consecutive events; a block can be read alone. An epoch is a random order of all blocks, which
are read some at a time (a pool) and whose events are mixed within the pool. Each event comes once per epoch. The order
depends on the seed and the number of the epoch alone, so that a run resumes at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import atomic_write, open_regular
from pixal.tasks.charge_clusters.files import reason_of
from pixal.tasks.charge_clusters.normalization import Normalization

if TYPE_CHECKING:
    import pyarrow as pa

    from pixal.tasks.charge_clusters.reading import Events

Raw = tuple[NDArray[np.float32], NDArray[np.float32]]
Batch = tuple[NDArray[np.float32], NDArray[np.float32]]

_BLOCK_BYTES = 1 << 20  # of the charges of a block
_SHARD_BLOCKS = 512
_POOL_BLOCKS = 64


@dataclass(frozen=True)
class Block:
    """Some consecutive events of a shard: its file, their place in it, and their number."""

    path: Path
    index: int
    events: int


class ShardWriter:
    """Writes the events of one split to shards. Use as a context manager."""

    def __init__(self, folder: Path, name: str, shape: tuple[int, int, int]) -> None:
        """Prepare to write ``folder/NAME-00000.arrow`` and so on, with charges of ``shape``."""
        self.shards: list[dict[str, Any]] = []
        self.events = 0
        self._folder, self._name, self._shape = folder, name, shape
        self._block = max(16, _BLOCK_BYTES // (4 * int(np.prod(shape))))
        self._waiting: list[Raw] = []
        self._count = 0  # of the events that wait
        self._file = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write_blocks(1)
        self._file.__exit__(kind, error, trace)

    def add(self, events: Events) -> None:
        """Append events."""
        if not len(events):
            return
        self._waiting.append((events.charge.reshape(len(events), -1), events.labels))
        self._count += len(events)
        self.events += len(events)
        if self._count >= self._block:
            self._write_blocks(self._block)

    def _write_blocks(self, smallest: int) -> None:
        """Write the waiting events in blocks, until fewer than ``smallest`` are left."""
        if not self._count:
            return
        charge = np.concatenate([charge for charge, _ in self._waiting])
        labels = np.concatenate([labels for _, labels in self._waiting])
        start = 0
        while len(charge) - start >= smallest:
            stop = min(start + self._block, len(charge))
            self._write(charge[start:stop], labels[start:stop])
            start = stop
        self._waiting, self._count = [(charge[start:], labels[start:])], len(charge) - start

    def _write(self, charge: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        import pyarrow as pa

        arrays = [_fixed_lists(charge), _fixed_lists(labels)]
        batch = pa.record_batch(arrays, names=["charge", "labels"])
        if self._writer is None or len(self.shards[-1]["blocks"]) == _SHARD_BLOCKS:
            self._open(batch.schema)
        self._writer.write_batch(batch)
        self.shards[-1]["blocks"].append(len(charge))

    def _open(self, schema: pa.Schema) -> None:
        """End the current shard, and begin another one."""
        import pyarrow as pa

        self._file.close()
        path = self._folder / f"{self._name}-{len(self.shards):05d}.arrow"
        temporary = self._file.enter_context(atomic_write(path))
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._writer = self._file.enter_context(pa.ipc.new_file(str(temporary), schema, options=options))
        self.shards.append({"file": path.name, "blocks": []})


class EventStream:
    """The events of one split, in batches."""

    def __init__(
        self,
        blocks: Sequence[Block],
        shape: tuple[int, int, int],
        normalization: Normalization,
        *,
        batch_size: int,
        seed: int | None,
    ) -> None:
        """Prepare to read.

        Args:
            blocks: The blocks of the split.
            shape: Shape of the charges of an event.
            normalization: Applied to charges and labels.
            batch_size: Events per batch; the last batch of an epoch can be smaller.
            seed: Seed of the order; None: the order of the files.
        """
        self._blocks, self._shape, self._normalization = blocks, shape, normalization
        self._batch_size, self._seed = batch_size, seed

    def __len__(self) -> int:
        """Number of events."""
        return sum(block.events for block in self._blocks)

    @cached_property
    def steps(self) -> int:
        """Number of batches in an epoch."""
        return -(-len(self) // self._batch_size)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Yield normalised charges (n, rows, columns, slices) and scaled labels (n, 4) of an epoch.

        The next pool is read by another thread meanwhile.

        Args:
            epoch: Number of the epoch, from 1.
            first: The batch to begin with, from 0. The batches before it are not read.
        """
        size, waiting = self._batch_size, None
        for charge, labels in self._pools(epoch, first * size):
            if waiting is not None:
                charge, labels = np.concatenate([waiting[0], charge]), np.concatenate([waiting[1], labels])
            full = len(labels) - len(labels) % size
            for start in range(0, full, size):
                yield charge[start : start + size], labels[start : start + size]
            waiting = charge[full:], labels[full:]
        if waiting is not None and len(waiting[1]):
            yield waiting

    def raw(self) -> Iterator[Raw]:
        """Yield charges in electrons and labels, pool by pool, in the order of the files."""
        with _Files() as files:
            for pool, _ in self._plan(0):
                yield self._read(pool, files)

    def _pools(self, epoch: int, skipped: int) -> Iterator[Batch]:
        """The mixed pools of an epoch, without the first ``skipped`` events."""
        with _Files() as files, ThreadPoolExecutor(1) as reader:
            following: Future[Batch] | None = None
            for pool, generator in self._plan(epoch):
                count = sum(block.events for block in pool)
                order = None if generator is None else generator.permutation(count)  # also of a pool that is skipped
                if skipped >= count:
                    skipped -= count
                    continue
                previous, following = following, reader.submit(self._mixed, pool, order, skipped, files)
                skipped = 0
                if previous is not None:
                    yield previous.result()
            if following is not None:
                yield following.result()

    def _plan(self, epoch: int) -> Iterator[tuple[list[Block], np.random.Generator | None]]:
        """The pools of an epoch in their order, and the generator that mixes each."""
        generator = None if self._seed is None else np.random.default_rng((self._seed, epoch))
        order = np.arange(len(self._blocks)) if generator is None else generator.permutation(len(self._blocks))
        for start in range(0, len(order), _POOL_BLOCKS):
            yield [self._blocks[index] for index in order[start : start + _POOL_BLOCKS]], generator

    def _mixed(self, pool: list[Block], order: NDArray[np.intp] | None, skipped: int, files: _Files) -> Batch:
        charge, labels = self._read(pool, files)
        chosen = slice(skipped, None) if order is None else order[skipped:]
        charge = charge[chosen]
        return self._normalization.charge(charge), self._normalization.labels(labels[chosen], charge)

    def _read(self, pool: list[Block], files: _Files) -> Raw:
        blocks = [files.read(block) for block in pool]
        charge = np.concatenate([charge for charge, _ in blocks]).reshape(-1, *self._shape)
        return charge, np.concatenate([labels for _, labels in blocks])


class _Files:
    """Open shards. Blocks are read, not mapped, so that they count in memory only while they are used."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._readers: dict[Path, Any] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def read(self, block: Block) -> Raw:
        """The charges (n, values) and labels (n, 4) of a block. Raise ``InputError`` if it is damaged."""
        import pyarrow as pa

        try:
            if block.path not in self._readers:
                file = self._stack.enter_context(open_regular(block.path))
                options = pa.ipc.IpcReadOptions(use_threads=False)
                self._readers[block.path] = self._stack.enter_context(pa.ipc.open_file(file, options=options))
            batch = self._readers[block.path].get_batch(block.index)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{block.path} is damaged ({reason_of(error)}); run preprocess --force") from error
        charge, labels = (batch[name].flatten().to_numpy().reshape(block.events, -1) for name in ("charge", "labels"))
        return charge, labels


def _fixed_lists(rows: NDArray[np.float32]) -> pa.FixedSizeListArray:
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).ravel()), rows.shape[1])
