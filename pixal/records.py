"""Metadata: what was done, with what, to what; YAML files beside every output."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pixal import __version__
from pixal.errors import InputError
from pixal.images import write_bytes, write_changed

# LibYAML's are ten times as fast as those in Python, and a record holds a row an image.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_LIBRARIES = ("numpy", "opencv-python-headless", "scikit-image", "keras", "rembg", "onnxruntime")


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a metadata file atomically; arrays become lists, paths strings, tuples lists."""
    text = yaml.dump(plain(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
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
    write_changed(path, text.getvalue().encode())


def provenance() -> dict[str, Any]:
    """When and with which versions something was made."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "pixal_version": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": _versions(),
    }


def fingerprint(*parts: Any) -> str:
    """A key for what is made of ``parts`` (hashes, settings, names) by these versions of PIXAL and its libraries."""
    text = json.dumps([__version__, _versions(), plain(parts)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """A value as YAML and JSON know it: arrays and tuples as lists, paths as strings, NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    return value


def data_hash(data: bytes) -> str:
    """The SHA-256 of a file's bytes."""
    return hashlib.sha256(data).hexdigest()


def file_hash(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def run_log(folder: Path, step: str) -> Iterator[None]:
    """Append the package's log messages to ``folder/step.log`` while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / f"{step}.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("pixal")
    logger.addHandler(handler)
    before = logger.level
    if logger.getEffectiveLevel() > logging.INFO:  # from Python, where nobody has asked for messages
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    versions = {}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{float(value):.9g}" if isinstance(value, float | np.floating) else value
