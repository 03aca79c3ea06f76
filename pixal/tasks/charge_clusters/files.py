"""Find the parquet files of charge clusters, and check their columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixal.errors import InputError
from pixal.io.files import open_regular
from pixal.outcome import Failure
from pixal.tasks.charge_clusters.columns import AT_EDGE, CHARGE_AT_EDGE, LABEL_COLUMNS, charge_columns
from pixal.tasks.charge_clusters.settings import Clusters

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_CHARGES, _LABELS = "recon3D", "labels"


@dataclass(frozen=True)
class ClusterFile:
    """A file with charges, and the file with their labels.

    Attributes:
        path: The file with the charges.
        labels: The file with the labels; the same one in the merged layout. None: the truth is not read.
        rows: Number of clusters.
        edge_column: The column that tells whether a cluster is contained; None: there is none.
    """

    path: Path
    labels: Path | None
    rows: int
    edge_column: str | None


def find_files(
    source: str | Path, settings: Clusters, *, labelled: bool = True
) -> tuple[list[ClusterFile], list[Failure]]:
    """Find the parquet files in a folder, or check a single one.

    ``recon3D*.parquet`` belongs to ``labels*.parquet`` with the same ending; any other file holds charges and labels.
    Numbers in names are sorted by value: ``part.2`` comes before ``part.10``.

    Args:
        source: The folder or the file.
        settings: Say which columns and clusters are used.
        labelled: Whether the labels are needed. False: they are neither looked for nor read.

    Returns:
        The files that can be used, and what is wrong with the others.

    Raises:
        InputError: No file can be used.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f"{source} does not exist")
    paths = [source] if source.is_file() else [path for path in source.iterdir() if path.suffix == ".parquet"]
    paths.sort(key=_natural)
    charges = [path for path in paths if not path.name.startswith(_LABELS)]
    files, failures = [], []
    for path in charges:
        try:
            files.append(_check(path, settings, labelled=labelled))
        except InputError as error:
            failures.append(failure(path, "reading", str(error)))
    known = {_labels_of(path) for path in charges}
    failures += [
        failure(path, "reading", f"there is no {_CHARGES}{path.name.removeprefix(_LABELS)} with the charges")
        for path in paths
        if labelled and path not in charges and path not in known
    ]
    if not files:
        first = f"; the first: {failures[0]}" if failures else ""
        raise InputError(f"{source} holds no parquet file of charge clusters that can be read{first}")
    return files, failures


def failure(path: Path, step: str, reason: str) -> Failure:
    """What is wrong with a file."""
    return Failure("clusters", path.name, step, reason)


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file for the block. Raise ``InputError`` if it is missing, empty, damaged, or no parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(path) as file:
        try:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"is no complete parquet file: {reason_of(error)}") from error
        yield parquet


def reason_of(error: Exception) -> str:
    """The first line of an error of Arrow."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _labels_of(path: Path) -> Path:
    if not path.name.startswith(_CHARGES):
        return path
    return path.with_name(_LABELS + path.name.removeprefix(_CHARGES))


def _check(path: Path, settings: Clusters, *, labelled: bool) -> ClusterFile:
    """Check the columns and the number of rows. Raise ``InputError`` if they do not fit."""
    with open_parquet(path) as file:
        rows, names = file.metadata.num_rows, set(file.schema_arrow.names)
        _require_numbers(file, _charge_names(names, settings))
    if not rows:
        raise InputError("holds no rows")
    labels = _labels_of(path)
    if labelled:
        _check_labels(labels, path, rows)
    edge = next((name for name in (AT_EDGE, CHARGE_AT_EDGE) if name in names), None)
    if settings.contained and (edge is None or labels != path):
        raise InputError(f"has no column {AT_EDGE} or {CHARGE_AT_EDGE}, which clusters.contained needs")
    return ClusterFile(path, labels if labelled else None, rows, edge)


def _check_labels(labels: Path, path: Path, rows: int) -> None:
    """Check that ``labels`` holds the labels of the ``rows`` of ``path``. Raise ``InputError`` if it does not."""
    if not labels.exists():
        raise InputError(f"there is no {labels.name} with the labels; without labels only detect can predict")
    try:
        with open_parquet(labels) as file:
            if missing := [name for name in LABEL_COLUMNS if name not in file.schema_arrow.names]:
                raise InputError(f"has no column {missing[0]!r} with labels; without labels only detect can predict")
            _require_numbers(file, LABEL_COLUMNS)
            if file.metadata.num_rows != rows:
                raise InputError(f"holds {file.metadata.num_rows} rows, but {path.name} holds {rows}")
    except InputError as error:
        raise error if labels == path else InputError(f"{labels.name}: {error}") from error


def _charge_names(names: set[str], settings: Clusters) -> list[str]:
    """The columns of the charges that are needed. Raise ``InputError`` for a sensor of another size."""
    pixels = settings.rows * settings.columns
    found, expected = sum(name.isdecimal() for name in names), settings.time_slices * pixels
    needed = charge_columns(settings.used_slices, pixels)
    if missing := [name for name in needed if name not in names]:
        raise InputError(
            f"has no column {missing[0]!r} (slice {int(missing[0]) // pixels}); it has {found} columns of charges, and "
            f"{settings.time_slices} slices of {settings.rows} x {settings.columns} pixels need {expected}"
        )
    if found != expected:
        raise InputError(
            f"has {found} columns of charges, but {settings.time_slices} slices of {settings.rows} x "
            f"{settings.columns} pixels need {expected}; set clusters.rows, clusters.columns or clusters.time_slices"
        )
    return needed


def _require_numbers(file: pq.ParquetFile, names: Sequence[str]) -> None:
    import pyarrow as pa

    schema = file.schema_arrow
    if missing := [name for name in names if name not in schema.names]:
        raise InputError(f"has no column {missing[0]!r}")
    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise InputError(f"column {name!r} holds {kind}, not numbers")
