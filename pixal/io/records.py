"""Read and write records (metadata files in YAML) and tables (CSV)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixal.config.yaml_limits import CONSTRUCTION_ERRORS, LOADER, RECORDS, YamlLimitError, check_limits, read_limited
from pixal.errors import InputError
from pixal.io.files import read_bytes, write_bytes, write_if_changed
from pixal.io.names import printable

_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_NEEDS_QUOTES = frozenset(',"')
RECORD_HASH = "record_sha256"


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a metadata file atomically. Values are converted by ``to_builtin``."""
    text = yaml.dump(to_builtin(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    write_bytes(path, text.encode())


def read_record(path: Path) -> dict[str, Any]:
    """Read a metadata file. Raise ``InputError`` if it is missing or is not a mapping in YAML."""
    try:
        text = read_limited(path, RECORDS)
        check_limits(text, RECORDS)
        content = yaml.load(text, LOADER)  # the safe loader, in C
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except YamlLimitError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{where}: is not a metadata file: {error.problem}") from error
    except (OSError, *CONSTRUCTION_ERRORS) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a metadata file")
    return content


def with_hash(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a record as YAML values, with the SHA-256 of all of it as ``record_sha256``.

    The hash shows that a record was edited or damaged. It is no signature: who edits the record on purpose can also
    compute the hash anew.
    """
    values = {str(key): to_builtin(value) for key, value in content.items() if key != RECORD_HASH}
    return values | {RECORD_HASH: _hash(values)}


def has_valid_hash(content: Mapping[str, Any]) -> bool:
    """Whether a record holds exactly what ``with_hash`` returned: no value was changed, added or removed."""
    values = {key: value for key, value in content.items() if key != RECORD_HASH}
    expected = _hash(values)
    return expected is not None and content.get(RECORD_HASH) == expected


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table atomically. A file that already holds this table is not written again.

    Args:
        path: The file.
        columns: The columns to write, in this order.
        rows: Values by column, see ``table_text``.
    """
    write_if_changed(path, table_text(columns, rows).encode())


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The text of a CSV table.

    Args:
        columns: The columns, in this order.
        rows: Values by column. None and missing values become empty cells; floats get 9 significant digits. Text that
            a spreadsheet would take for a formula gets an apostrophe in front (OWASP, "CSV Injection"); numbers do not.
            Control characters, and bytes that are not UTF-8, are escaped.
    """
    lines = [",".join(columns)]
    lines += (",".join([_cell(row.get(column)) for column in columns]) for row in rows)
    return "".join(f"{line}\n" for line in lines)


def read_table(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    """Read a table that ``write_table`` has written; empty cells are "".

    Args:
        path: The file.
        columns: The columns that it must have.

    Raises:
        InputError: It is missing or damaged, or lacks one of the columns.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a table ({error})") from error
    for row in rows:
        if None in row or None in row.values() or not row.keys() >= set(columns):
            raise InputError(f"{path}: is not a table with the columns {', '.join(columns)}")
    return [{name: _unescaped(text) for name, text in row.items()} for row in rows]


def to_builtin(value: Any) -> Any:
    """Convert a value to the types of YAML and JSON.

    Arrays, tuples and sets become lists, paths become strings, and NumPy numbers become Python numbers.
    """
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


def _hash(values: Mapping[str, Any]) -> str | None:
    """SHA-256 of YAML values; None for what no record holds, for example a date, bytes, or a list inside itself."""
    try:
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    except (TypeError, ValueError, RecursionError):
        return None


def _unescaped(text: str) -> str:
    """The text of a cell without the apostrophe in front of what looks like a formula."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA_STARTS) else text


def _cell(value: Any) -> str:
    """Convert a value to a CSV cell (RFC 4180)."""
    if value is None:
        return ""
    if isinstance(value, float | np.floating):
        return f"{float(value):.9g}"
    text = printable(str(value))
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.intersection(text) else text
