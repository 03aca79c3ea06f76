"""Merge the files of a configuration folder, and check the result against a schema."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pixal.config.schema import Parameters
from pixal.config.yaml_file import Key, YamlFile, parse_value
from pixal.errors import ConfigError, nearest_hint

_log = logging.getLogger(__name__)

_MAX_SHOWN = 100  # characters


def section_names(schema: type[Parameters]) -> tuple[str, ...]:
    """Names of the sections of ``parameters.yaml``. Each section may have a file of its own."""
    return tuple(name for name, field in schema.model_fields.items() if field.annotation is not str)


@dataclass
class Document:
    """The settings of all files of a folder.

    Attributes:
        schema: What the settings must be.
        value: The settings as nested mappings.
        sources: Where each key was set, for error messages: a file and a line, or an override.
    """

    schema: type[Parameters]
    value: dict[str, Any] = field(default_factory=dict)
    sources: dict[Key, str] = field(default_factory=dict)

    def merge(self, file: YamlFile, path: Path, name: str) -> None:
        """Add the settings of a file.

        Args:
            file: The content of the file.
            path: The file, for error messages.
            name: ``parameters``, or the name of the section that the file holds. The section's name may be the top
                key of the file, but need not be.

        Raises:
            ConfigError: Another file sets one of the keys.
        """
        prefix: Key = ()
        if name != "parameters" and not (set(file.value) and set(file.value) <= set(self.schema.model_fields)):
            prefix = (name,)
        for key, line in file.lines.items():
            full_key = (*prefix, *key)
            if full_key in self.sources and not isinstance(_value_at(file.value, key), dict):
                raise ConfigError(
                    f"{path}, line {line}: key {'.'.join(full_key)} is also set in {self.sources[full_key]}; keep one"
                )
            self.sources.setdefault(full_key, f"{path}, line {line}")
        value: dict[str, Any] = file.value
        for section in reversed(prefix):
            value = {section: value}
        _merge(self.value, value)

    def override(self, text: str, *, option: str = "--set") -> None:
        """Apply one ``KEY=VALUE``. Raise ``ConfigError`` if it is malformed or the key is unknown.

        Args:
            text: The setting.
            option: Where it was given, for error messages.
        """
        name, equals, value = text.partition("=")
        key = tuple(name.strip().split("."))
        if not equals or not all(key):
            raise ConfigError(f"{option} {text}: expected KEY=VALUE, for example model_training.n_epochs=100")
        try:
            parsed = parse_value(value)
        except ValueError as error:
            raise ConfigError(f"{option} {_shortened(text)}: the value cannot be used: {error}") from error
        _require_known(self.schema, key, f"{option} {text}")
        inner = self.value
        for section in key[:-1]:
            if not isinstance(inner.get(section), dict):
                inner[section] = {}
            inner = inner[section]
        inner[key[-1]] = parsed
        self.sources[key] = f"{option} {text}"

    def validated(self) -> Parameters:
        """Return the settings as typed objects. Raise ``ConfigError`` for the first unknown key or bad value."""
        for key in _all_keys(self.value):
            _require_known(self.schema, key, self._source(key))
        self._replace_former_values()
        for name in section_names(self.schema):  # an empty section ("validation:") gets the default values
            if self.value.get(name, ...) is None:
                del self.value[name]
        try:
            return self.schema.model_validate(self.value)
        except ValidationError as error:
            first = error.errors()[0]
            key = _setting_key(self.schema, tuple(str(part) for part in first["loc"] if not isinstance(part, int)))
            raise ConfigError(f"{self._source(key)}: {'.'.join(key)}: {_reason(first)}") from error

    def _replace_former_values(self) -> None:
        """Use the default where a file holds a value that an earlier version understood in another way; say so."""
        for former in self.schema.former_values:
            *sections, name = former.key.split(".")
            inner = _value_at(self.value, tuple(sections))
            source = self._source((*sections, name))
            if not isinstance(inner, dict) or not former.is_former(inner.get(name)) or source.startswith("--set"):
                continue
            value = inner.pop(name)
            default = _value_at(self.schema().model_dump(), (*sections, name))
            _log.warning("%s: %s: %s %s; %s is used", source, former.key, value, former.reason, default)

    def _source(self, key: Key) -> str:
        """The source of a key, or of the nearest key above it that was set."""
        while key and key not in self.sources:
            key = key[:-1]
        return self.sources.get(key, "configuration")


def _shortened(text: str) -> str:
    """Text for a message, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}…"


def _reason(error: Mapping[str, Any]) -> str:
    """Return the message of a pydantic error, reworded for users."""
    message = str(error["msg"]).removeprefix("Value error, ")
    value = error.get("input")
    if error["type"] == "literal_error":
        allowed = [text.strip("'\" ") for text in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{value!r} is not one of {', '.join(allowed)}{nearest_hint(str(value), allowed)}"
    if error["type"] == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, not {value!r}"


def _require_known(schema: type[Parameters], key: Key, source: str) -> None:
    """Raise ``ConfigError`` if ``key`` is not in the schema. The message names the nearest key that is."""
    model: type[BaseModel] = schema
    for depth, part in enumerate(key):
        known = model.model_fields
        if part not in known:
            siblings = [".".join((*key[:depth], name)) for name in known]
            name = ".".join(key[: depth + 1])
            raise ConfigError(f"{source}: unknown key {name}{_hint_for_key(name, siblings, part, schema)}")
        inner = known[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            if depth + 1 < len(key) and not _allows_mapping(inner):
                raise ConfigError(
                    f"{source}: {'.'.join(key[: depth + 1])} is a single value, it has no key {key[depth + 1]}"
                )
            return
        model = inner


def _setting_key(schema: type[Parameters], key: Key) -> Key:
    """The start of ``key`` that names a setting. The rest is a position in its value, or pydantic's name for a type."""
    model: Any = schema
    for depth, part in enumerate(key):
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return key[:depth]
        model = model.model_fields[part].annotation
    return key


def _allows_mapping(annotation: Any) -> bool:
    """Whether a setting of this type may be a mapping whose keys the user chooses (names of image types)."""
    return get_origin(annotation) is dict or any(_allows_mapping(inner) for inner in get_args(annotation))


def _hint_for_key(name: str, siblings: Iterable[str], last: str, schema: type[Parameters]) -> str:
    """A hint for an unknown key.

    It names the key elsewhere in the schema that has the same last part, or else the most similar sibling, or else the
    key anywhere with the most similar last part.
    """
    by_last_part = {key[-1]: ".".join(key) for key in _all_keys(schema().model_dump())}
    if last in by_last_part:
        return f"; the nearest is {by_last_part[last]}"
    if hint := nearest_hint(name, siblings):
        return hint
    nearest = difflib.get_close_matches(last, by_last_part, 1, 0.7)
    return f"; the nearest is {by_last_part[nearest[0]]}" if nearest else ""


def _all_keys(value: Mapping[str, Any], prefix: Key = ()) -> list[Key]:
    """All keys of a nested mapping, each with the keys above it."""
    keys: list[Key] = []
    for name, inner in value.items():
        keys.append((*prefix, str(name)))
        if isinstance(inner, dict):
            keys += _all_keys(inner, (*prefix, str(name)))
    return keys


def _merge(target: dict[str, Any], value: Mapping[str, Any]) -> None:
    """Add ``value`` to ``target``, merging nested mappings."""
    for key, inner in value.items():
        if isinstance(inner, dict) and isinstance(target.get(key), dict):
            _merge(target[key], inner)
        else:
            target[key] = inner


def _value_at(value: Any, key: Key) -> Any:
    """The value at ``key`` in nested mappings, or None."""
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value
