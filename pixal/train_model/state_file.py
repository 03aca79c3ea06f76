"""Arrays and JSON in one file, written as a whole: the state of a training run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixal.io.arrays import load_arrays
from pixal.io.files import atomic_write
from pixal.io.json_text import parse_json

_DATE = (1980, 1, 1, 0, 0, 0)  # fixed, so that the same state gives the same file

NamedArrays = Iterable[tuple[str, NDArray[Any]]]


@dataclass(frozen=True)
class FitState:
    """The state of a fit between two epochs.

    Attributes:
        arrays: Weights and optimizer variables, by name.
        notes: Everything else, as JSON values.
    """

    arrays: dict[str, NDArray[Any]]
    notes: dict[str, Any]


def write_state(path: Path, arrays: NamedArrays, notes: Mapping[str, Any]) -> None:
    """Write arrays, one in memory at a time, and notes as JSON. The same content gives the same bytes."""
    text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (("notes", text), *arrays):
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                npy_format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_state(path: Path) -> FitState:
    """Read what ``write_state`` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged.
        KeyError: The file was not written by ``write_state``.
    """
    arrays = load_arrays(path)
    notes = parse_json(arrays.pop("notes").tobytes())
    return FitState(arrays, notes)
