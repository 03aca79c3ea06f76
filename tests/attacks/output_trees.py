"""Compare the output of two runs, and find files that are not whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixal.io import ownership
from pixal.io.arrays import load_arrays
from pixal.io.files import file_hash
from pixal.io.images import read_image
from pixal.io.locking import LOCK_FILE

ROOTS = ("out", "validate")
Content = dict[str, Any]
"""What each file of a tree holds, by its path; the same for two runs that did the same."""

# Times, the hash over them, and ``execution.backend``, which is in the settings and changes no result.
_IGNORED = {"created", "training_seconds", "record_sha256", "seconds_per_part", "trained", "started", "backend"}
_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*(Z|[+-]\d\d:\d\d)?|\d?\d [A-Z][a-z]+ \d{4}, \d\d:\d\d")
_GROWING = ("inputs.part", "errors.npy")  # whole rows are read from them, by the journal


def content(folder: Path) -> Content:
    """The outputs below the working directory ``folder``, without times and paths."""
    return {path.relative_to(folder).as_posix(): _content(path, folder) for path in _files(folder)}


def differences(actual: Content, expected: Content) -> list[str]:
    """What differs between two trees, one line per file."""
    found = [f"missing: {name}" for name in sorted(expected.keys() - actual.keys())]
    found += [f"left: {name}" for name in sorted(actual.keys() - expected.keys())]
    for name in sorted(actual.keys() & expected.keys()):
        if not _same(actual[name], expected[name]):
            found.append(f"differs: {name}{_where(actual[name], expected[name])}")
    return found


def unfinished(folder: Path) -> list[str]:
    """The files that are damaged, although their names are those of finished files."""
    found = []
    for path in _files(folder):
        if path.name.startswith(".") or path.name in _GROWING:
            continue
        try:
            _check(path)
        except Exception as error:
            found.append(f"{path.relative_to(folder)}: {type(error).__name__}: {error}")
    return found


def strangers(folder: Path) -> list[str]:
    """The files in claimed folders that PIXAL wrote, but does not know as its own."""
    ownership._manifests.clear()
    return [str(path) for path in _files(folder) if path.name != ownership.MANIFEST and not ownership.owns(path)]


def _files(folder: Path) -> Iterator[Path]:
    for root in ROOTS:
        for path in sorted((folder / root).rglob("*")):
            if path.is_file() or not any(path.iterdir()):  # an empty folder counts, too
                yield path


def _content(path: Path, folder: Path) -> Any:
    if path.is_dir() or path.suffix in (".log", ".db") or path.name == LOCK_FILE:
        return None  # a database holds times and numbers of rows; tests/integration/test_history.py compares it
    if path.name == "sums.npz":
        return load_arrays(path)
    if path.suffix == ".npz" or path.suffix in (".png", ".jpg", ".tiff", ".keras", ".h5"):
        return file_hash(path)
    data = path.read_bytes().replace(str(folder).encode(), b"FOLDER")
    if path.suffix == ".yaml":
        return _without_times(yaml.safe_load(data))
    if path.suffix == ".json":
        return _without_times(json.loads(data))
    if path.suffix == ".journal":
        rows = (json.loads(line) for line in data.splitlines())
        return {str(row.get("source", row.get("file"))): _without_times(row | {"row": None}) for row in rows}
    return _TIME.sub(b"TIME", data)


def _check(path: Path) -> None:
    if path.suffix in (".png", ".jpg"):
        read_image(path)
    elif path.suffix == ".tiff":
        import tifffile

        tifffile.imread(path)
    elif path.suffix == ".npz":
        load_arrays(path)
    elif path.suffix == ".yaml":
        if not isinstance(yaml.safe_load(path.read_bytes()), dict):
            raise ValueError("no mapping")
    elif path.suffix == ".json":
        json.loads(path.read_bytes())
    elif path.suffix in (".csv", ".html"):
        data = path.read_bytes()
        if not data.endswith(b"\n") and not data.rstrip().endswith(b"</html>"):
            raise ValueError("cut off")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"sha256", "stat"}:  # a file that PIXAL wrote
        return value["sha256"]
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in _IGNORED}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def _same(actual: Any, expected: Any) -> bool:
    if not isinstance(expected, dict) or not any(isinstance(value, np.ndarray) for value in expected.values()):
        return bool(actual == expected)
    if actual.keys() != expected.keys():
        return False
    # Sums of float32, in the order in which the parts were done.
    return all(
        np.allclose(actual[name], expected[name], rtol=1e-4, atol=1e-6)
        if expected[name].dtype.kind == "f"
        else np.array_equal(actual[name], expected[name])
        for name in expected
    )


def _where(actual: Any, expected: Any) -> str:
    if isinstance(actual, dict) and isinstance(expected, dict):
        keys = [str(key) for key in expected if not _same_value(actual.get(key), expected[key])]
        return f" ({', '.join([*keys, *map(str, actual.keys() - expected.keys())])})"
    if isinstance(actual, bytes) and isinstance(expected, bytes):
        pairs = zip(actual.splitlines(), expected.splitlines(), strict=False)
        return next((f" ({line!r:.200} instead of {other!r:.200})" for line, other in pairs if line != other), "")
    return ""


def _same_value(actual: Any, expected: Any) -> bool:
    return bool(np.array_equal(actual, expected)) if isinstance(expected, np.ndarray) else bool(actual == expected)
