"""Settings of earlier versions: values that meant something else, and the records that a run stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixal.config.yaml_file import Key, YamlFile, read_yaml
from pixal.config.yaml_limits import RECORDS

_RECORDS = ("model_training.yaml", "preprocessing.yaml")
_VERSION = "pixal_version"  # a key of every record, and of no settings


@dataclass(frozen=True)
class FormerValue:
    """Values of a setting that the first version of PIXAL understood in another way.

    Attributes:
        key: The dotted key.
        is_former: Whether a value is one of them.
        reason: Why it cannot be used.
    """

    key: str
    is_former: Callable[[Any], bool]
    reason: str


@dataclass(frozen=True)
class StoredSettings:
    """The settings in a record of an earlier run.

    Attributes:
        path: The record.
        content: The settings, as a file of settings holds them.
        component: The name of the component of the run.
    """

    path: Path
    content: YamlFile
    component: str


def read_stored_settings(folder: Path) -> StoredSettings | None:
    """Read the settings of a run from its folder of records (``metadata``); None if it is not such a folder.

    The record of a model holds all settings; that of ``preprocess`` those of its section.

    Raises:
        ConfigError: A file cannot be read.
    """
    for name in _RECORDS:
        path = folder / name
        if not path.is_file():
            continue
        record = read_yaml(path, RECORDS)
        settings = record.value.get("settings")
        if _VERSION not in record.value or not isinstance(settings, dict):
            return None
        prefix: Key = () if name == _RECORDS[0] else ("preprocessing",)
        value = settings if not prefix else {"preprocessing": settings}
        lines = {(*prefix, *key[1:]): line for key, line in record.lines.items() if key[0] == "settings" and key[1:]}
        return StoredSettings(path, YamlFile(value, lines), str(record.value.get("component", "")))
    return None
