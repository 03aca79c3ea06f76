"""Read a YAML file together with the line of each key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pixal.config.yaml_limits import (
    CONSTRUCTION_ERRORS,
    LOADER,
    SETTINGS,
    YamlLimitError,
    YamlLimits,
    check_limits,
    read_limited,
)
from pixal.errors import ConfigError

Key = tuple[str, ...]
"""A key and the keys above it, for example ``("model_training", "seed")``."""


@dataclass(frozen=True)
class YamlFile:
    """Content of a YAML file.

    Attributes:
        value: The mapping that the file holds. Empty for an empty file.
        lines: Line number of each key, counted from 1.
        anchored: The top-level keys whose value has an anchor.
    """

    value: dict[str, Any]
    lines: dict[Key, int]
    anchored: frozenset[str] = frozenset()


def read_yaml(path: Path, limits: YamlLimits = SETTINGS) -> YamlFile:
    """Read a YAML file that holds a mapping.

    Args:
        path: The file.
        limits: The largest size; by default that of files that users write.

    Raises:
        ConfigError: The file cannot be read, is not valid YAML, is larger than settings can be, has a key twice, or
            does not hold a mapping. The message names the file and, if possible, the line.
    """
    try:
        text = read_limited(path, limits)
        anchored = check_limits(text, limits, may_contain_itself=True)  # _collect_lines names the key
        loader = LOADER(text)
        try:
            node = loader.get_single_node()
            lines: dict[Key, int] = {}
            _collect_lines(node, (), lines, path)
            value = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        kind = "" if isinstance(error, YamlLimitError) else "not valid YAML: "
        raise ConfigError(f"{where}: {kind}{error.problem or error.context}") from error
    except (OSError, *CONSTRUCTION_ERRORS) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: contains a {type(value).__name__}, expected keys and values")
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: key {key} is a {type(key).__name__}, expected a name; put it in quotes")
    return YamlFile(value, lines, anchored)


def parse_value(text: str) -> Any:
    """Parse a single YAML value.

    Raises:
        ValueError: The text is not valid YAML, or is larger than a setting can be.
    """
    try:
        check_limits(text, SETTINGS)
        return yaml.load(text, LOADER)  # the safe loader, in C
    except YamlLimitError as error:
        raise ValueError(str(error.problem)) from error
    except CONSTRUCTION_ERRORS as error:
        raise ValueError("not valid YAML") from error


def _collect_lines(
    node: yaml.Node | None, prefix: Key, lines: dict[Key, int], path: Path, parents: tuple[yaml.Node, ...] = ()
) -> None:
    """Add the line of each key below ``node`` to ``lines``."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if item in (*parents, node):
                line = node.start_mark.line + 1
                raise ConfigError(f"{path}, line {line}: key {'.'.join(prefix)} contains itself through its anchor")
            _collect_lines(item, (*prefix, "[]"), {}, path, (*parents, node))
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        line = key_node.start_mark.line + 1
        if not key[-1].isprintable():
            raise ConfigError(f"{path}, line {line}: key {key[-1]!r} is not a name")
        if key in lines and key_node.value != "<<":
            raise ConfigError(f"{path}, line {line}: key {'.'.join(key)} is given twice (first on line {lines[key]})")
        lines[key] = line
        if value_node in (*parents, node):
            raise ConfigError(f"{path}, line {line}: key {'.'.join(key)} contains itself through its anchor")
        _collect_lines(value_node, key, lines, path, (*parents, node))
