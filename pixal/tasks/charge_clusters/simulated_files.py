"""Write simulated clusters as parquet files, in the two layouts that PIXAL reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pixal.io.files import atomic_write
from pixal.tasks.charge_clusters.columns import CHARGE_AT_EDGE, LABEL_COLUMNS
from pixal.tasks.charge_clusters.simulation import Clusters, Sensor, simulate_chunks

if TYPE_CHECKING:
    import pyarrow as pa

Layout = Literal["pairs", "merged"]

_ROW_GROUP = 5000


def write_simulation(
    folder: Path, count: int, *, seed: int, files: int = 1, layout: Layout = "merged", sensor: Sensor | None = None
) -> list[Path]:
    """Simulate clusters and write them into ``folder``.

    Args:
        folder: The folder; it is created.
        count: Number of clusters in all files together.
        seed: Seed of all random numbers. Files have clusters of their own.
        files: Number of files (pairs of files with ``pairs``), of equal size up to one cluster.
        layout: ``pairs``: ``recon3D_N.parquet`` with the charges and ``labels_N.parquet`` with the truth.
            ``merged``: ``part.N.parquet`` with both, and ``chargeOriginal_atEdge``.
        sensor: The sensor; None: the default one.

    Returns:
        The files with charges.
    """
    sizes = [count // files + (index < count % files) for index in range(files)]
    written = []
    for index, size in enumerate(sizes):
        chunks = _joined(simulate_chunks(size, seed=seed + index, sensor=sensor))
        if layout == "merged":
            path = folder / f"part.{index}.parquet"
            _write([path], ([_charge_columns(part) | _labels(part) | _edge(part)] for part in chunks))
        else:
            path, labels = folder / f"recon3D_{index}.parquet", folder / f"labels_{index}.parquet"
            _write([path, labels], ([_charge_columns(part), _labels(part)] for part in chunks))
        written.append(path)
    return written


def _joined(chunks: Iterator[Clusters]) -> Iterator[Clusters]:
    """Join small chunks to row groups."""
    parts: list[Clusters] = []
    for chunk in chunks:
        parts.append(chunk)
        if sum(len(part.labels) for part in parts) >= _ROW_GROUP:
            yield _join(parts)
            parts = []
    if parts:
        yield _join(parts)


def _join(parts: list[Clusters]) -> Clusters:
    return Clusters(np.concatenate([part.charge for part in parts]), np.concatenate([part.labels for part in parts]))


def _charge_columns(part: Clusters) -> dict[str, NDArray[Any]]:
    """Charges by column: slice by slice, row by row."""
    by_column = np.ascontiguousarray(part.charge.transpose(3, 1, 2, 0)).reshape(-1, len(part.labels))
    return {str(index): values for index, values in enumerate(by_column)}


def _labels(part: Clusters) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(part.labels[:, index]) for index, name in enumerate(LABEL_COLUMNS)}


def _edge(part: Clusters) -> dict[str, NDArray[Any]]:
    """The charge on the outermost pixels in the last slice."""
    last = part.charge[..., -1]
    inner = last[:, 1:-1, 1:-1].sum((1, 2))
    return {CHARGE_AT_EDGE: last.sum((1, 2)) - inner}


def _write(paths: list[Path], row_groups: Iterator[list[dict[str, NDArray[Any]]]]) -> None:
    """Write files of the same rows, one row group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with ExitStack() as stack:
        temporary = [stack.enter_context(atomic_write(path)) for path in paths]
        writers: list[Any] = []
        for tables in row_groups:
            arrow: list[pa.Table] = [pa.table(columns) for columns in tables]
            if not writers:
                options = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
                writers = [
                    stack.enter_context(pq.ParquetWriter(path, table.schema, **options))
                    for path, table in zip(temporary, arrow, strict=True)
                ]
            for writer, table in zip(writers, arrow, strict=True):
                writer.write_table(table)
