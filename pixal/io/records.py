"""Metadata: what was done, with what, to what; YAML files beside every output."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixal.errors import InputError
from pixal.io.files import write_bytes, write_if_changed

# LibYAML's are ten times as fast as those in Python, and a record holds a row an image.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a metadata file atomically; arrays become lists, paths strings, tuples lists."""
    text = yaml.dump(to_builtin(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_bytes(path, text.encode())


def read_record(path: Path) -> dict[str, Any]:
    """Read a metadata file. Raises InputError when it is missing or is none."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # the safe loader, in C
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no metadata file")
    return content


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table atomically, where it changes; None is an empty cell, floats keep 9 significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in columns])
    write_if_changed(path, text.getvalue().encode())


def to_builtin(value: Any) -> Any:
    """A value as YAML and JSON know it: arrays and tuples as lists, paths as strings, NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): to_builtin(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_builtin(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value


@lru_cache(maxsize=1)
def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{float(value):.9g}" if isinstance(value, float | np.floating) else value
