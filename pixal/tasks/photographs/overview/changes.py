"""Why a stored input, model or batch no longer fits the photographs and the settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.config.section import result_settings
from pixal.errors import InputError
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.learning.accepted import AcceptedParts
from pixal.tasks.photographs.preprocessing.records import InputStep
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.train_model.specification import ModelRecord
from pixal.version import __version__

_MOST_KEYS = 3  # that a reason names


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class StoredOrigin(_Stored):
    """The model of a type in ``results.json``."""

    record_sha256: str = ""


class StoredSummary(_Stored):
    """The counts of a type in ``results.json``."""

    false_alarm_rate: float
    parts: int
    failed: int
    errors: int
    model: StoredOrigin | None = None


class StoredModelSummary(_Stored):
    """The model in ``results.json``."""

    type: str | None = None


class StoredResults(_Stored):
    """The fields of ``results.json`` that are read."""

    created: str
    model: StoredModelSummary
    types: dict[str, StoredSummary]

    @classmethod
    def read(cls, path: Path) -> StoredResults | None:
        """Read the file; None if it is missing or damaged."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None


def input_changes(config: PhotographConfig, record: InputStep, created: str) -> list[str]:
    """Why the input of a type, or of all types, should be made again.

    Args:
        config: The settings.
        record: The record of the input.
        created: When it was written, ISO 8601.
    """
    now = result_settings(config.preprocessing)
    reasons = _changed_settings("preprocessing", result_settings(record.settings), now)
    for name, sources in own_sources(config, record).items():
        reasons += _changed_photographs(name, sources, created)
    return reasons


def model_changes(config: PhotographConfig, record: ModelRecord, input_sha256: str | None) -> list[str]:
    """Why a model should be trained again.

    Args:
        config: The settings.
        record: What training stored.
        input_sha256: The SHA-256 of the input of the type; None if there is none.
    """
    reasons = []
    default = config.paths.resolve("component_model_path").resolve()
    if input_sha256 not in (None, record.input_sha256) and record.input.resolve().is_relative_to(default):
        reasons.append("the input was made again since")
    before = {key: value for key, value in record.settings.get("model_training", {}).items() if key != "model_name"}
    reasons += _changed_settings("model_training", before, result_settings(config.model_training))
    if record.pixal_version != __version__:
        reasons.append(f"trained by PIXAL {record.pixal_version}, this is {__version__}")
    return reasons


def batch_changes(
    config: PhotographConfig, results: StoredResults, models: Mapping[str, ModelRecord | None]
) -> list[str]:
    """Why the verdicts of a batch should be repeated.

    Args:
        config: The settings.
        results: The results of the batch.
        models: The record of the model of each type; None for a type without a model.
    """
    reasons = []
    if results.model.type is None:
        for name in results.types:
            model = models.get(name)
            if model is None:
                reasons.append(f"{name} has no model any more")
            elif datetime.fromisoformat(model.created) > datetime.fromisoformat(results.created):
                reasons.append(f"the model of {name} was trained since")
            elif _is_other_model(results.types[name], model):
                reasons.append(f"another model of {name} is in use since")
    rates = {summary.false_alarm_rate for summary in results.types.values()} - {config.validation.false_alarm_rate}
    if rates:
        reasons.append(f"validation.false_alarm_rate was {min(rates):g}")
    return reasons


def _is_other_model(summary: StoredSummary, model: ModelRecord) -> bool:
    known = "" if summary.model is None else summary.model.record_sha256
    return known not in ("", model.record_sha256)


def own_sources(config: PhotographConfig, record: InputStep) -> dict[str, list[Path]]:
    """The photographs of each type that an input was made of, without those that ``accept`` has copied."""
    sources = {}
    for name in record.types:
        accepted = AcceptedParts.read(config.paths, name).folder.absolute()
        paths = [Path(image.source) for image in record.images(name)]
        sources[name] = [path for path in paths if not path.absolute().is_relative_to(accepted)]
    return sources


def common_folder(sources: Sequence[Path]) -> Path | None:
    """The folder that holds all photographs; None without any."""
    with suppress(ValueError):  # on several drives
        return Path(os.path.commonpath([path.absolute().parent for path in sources])) if sources else None
    return None


def _changed_settings(section: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One reason that names the settings with another value, without those that an earlier version did not have."""
    keys = [f"{section}.{key}" for key in _different(before, now)]
    if not keys:
        return []
    more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
    return [f"changed since: {', '.join(keys[:_MOST_KEYS])}{more}"]


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    keys = []
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            keys += [f"{key}.{inner}" for inner in _different(before[key], value)]
        elif key in before and before[key] != value:
            keys.append(key)
    return keys


def _changed_photographs(type_name: str, sources: Sequence[Path], created: str) -> list[str]:
    """Reasons: photographs that are gone, that were written since, or that have been added to their folder."""
    known = {path.absolute() for path in sources}
    missing = sum(not path.is_file() for path in known)
    written = datetime.fromisoformat(created).timestamp() + 1  # the time is in whole seconds
    changed = sum(path.stat().st_mtime > written for path in known if path.is_file())
    added = 0
    folder = common_folder(sources)
    if folder is not None and folder.is_dir():
        with suppress(InputError, OSError):
            found = [photo.path.absolute() for photos in list_photographs(folder).values() for photo in photos]
            added = len(set(found) - known)
    return [
        f"{type_name}: {count} {'photograph' if count == 1 else 'photographs'} {what}"
        for count, what in ((missing, "missing"), (changed, "changed"), (added, f"added in {folder}"))
        if count
    ]
