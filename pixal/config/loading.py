"""Read a folder of YAML files, merge them, check them, and say exactly where something is wrong."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pixal.config.paths import Paths
from pixal.config.schema import Execution, ModelTraining, Parameters
from pixal.errors import ConfigError
from pixal.registry import TASKS

_log = logging.getLogger(__name__)

DEFAULTS = Path(__file__).parent / "defaults"
Key = tuple[str, ...]


@dataclass(frozen=True)
class Config:
    """The settings of one run: the sections of ``parameters.yaml`` as attributes, and ``paths``.

    A task derives its own from this, with its own sections.

    Attributes:
        parameters: All settings.
        paths: The output folders.
        source: The folder that the settings were read from.
    """

    parameters: Parameters
    paths: Paths
    source: Path

    @property
    def experimentName(self) -> str:  # noqa: N802  # the key in users' files
        """The experiment in MLflow."""
        return self.parameters.experimentName

    @property
    def model_training(self) -> ModelTraining:
        """The model, its loss, and how it is trained."""
        return self.parameters.model_training

    @property
    def execution(self) -> Execution:
        """Where work is done."""
        return self.parameters.execution


class TaskSettings(Protocol):
    """What ``load_config`` needs of a task: the types of its settings."""

    parameters_type: type[Parameters]
    config_type: type[Config]


def section_names(parameters: type[Parameters]) -> tuple[str, ...]:
    """The sections of ``parameters.yaml``; each may have a file of its own."""
    return tuple(name for name, field in parameters.model_fields.items() if field.annotation is not str)


def load_config(folder: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load the configuration in ``folder``, with ``overrides`` of the form ``KEY=VALUE`` (dotted key, YAML value).

    ``folder`` holds ``parameters.yaml`` and ``paths.yaml``, and optionally a file a section (``validation.yaml``).
    Without it: ``./configs``, or else the defaults shipped in the package. A section or a file that is missing has
    its default values.

    Raises ConfigError that names file, line and key.
    """
    source = _find(folder)
    main = _read(source / "parameters.yaml") if (source / "parameters.yaml").is_file() else _Yaml({}, {})
    task: TaskSettings = TASKS.load(_task_name(main.value, overrides))
    sections = section_names(task.parameters_type)
    document = _Document(task.parameters_type)
    document.merge(main, source / "parameters.yaml", "parameters")
    for name in sections:
        path = source / f"{name}.yaml"
        if path.is_file():
            document.merge(_read(path), path, name)
    for override in overrides:
        document.override(override)
    paths_file = source / "paths.yaml"
    if not paths_file.is_file():
        paths_file = DEFAULTS / "paths.yaml"
    for other in sorted(source.glob("*.y*ml")):
        if other.name not in {f"{name}.yaml" for name in ("parameters", "paths", *sections)}:
            _log.warning("%s is not read: PIXAL reads parameters.yaml, paths.yaml and one file a section", other)
    paths = _read(paths_file)
    lines = {key[0]: line for key, line in paths.lines.items() if len(key) == 1}
    return task.config_type(document.checked(), Paths.read(paths_file, paths.value, lines), source)


def _find(folder: str | Path | None) -> Path:
    if folder is None:
        return Path("configs") if Path("configs").is_dir() else DEFAULTS
    source = Path(folder)
    if not source.is_dir():
        raise ConfigError(
            f"configuration folder {source} does not exist; name a folder with parameters.yaml and paths.yaml"
        )
    if not any(source.glob("*.yaml")):
        raise ConfigError(f"configuration folder {source} holds neither parameters.yaml nor paths.yaml")
    return source


def _task_name(content: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """The task that the settings name; its schema checks everything else."""
    name = content.get("task", Parameters.model_fields["task"].default)
    for override in overrides:
        key, _, value = override.partition("=")
        name = value.strip() if key.strip() == "task" else name
    return str(name)


@dataclass
class _Yaml:
    """A YAML file's value, and the line of each of its keys."""

    value: dict[str, Any]
    lines: dict[Key, int]


def _read(path: Path) -> _Yaml:
    try:
        text = path.read_text(encoding="utf-8")
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            lines: dict[Key, int] = {}
            _note_lines(node, (), lines, path)
            value = loader.construct_document(node) if node is not None else {}
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds a {type(value).__name__} where keys and values are expected")
    return _Yaml(value, lines)


def _note_lines(
    node: yaml.Node | None, prefix: Key, lines: dict[Key, int], path: Path, above: tuple[yaml.Node, ...] = ()
) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in lines and key_node.value != "<<":
            raise ConfigError(f"{path}, line {line}: key {'.'.join(key)} is given twice (first on line {lines[key]})")
        lines[key] = line
        if value_node in (*above, node):
            raise ConfigError(f"{path}, line {line}: key {'.'.join(key)} leads back to itself through its anchor")
        _note_lines(value_node, key, lines, path, (*above, node))


@dataclass
class _Document:
    """The files of a folder, merged by section; knows where each key came from."""

    schema: type[Parameters]
    value: dict[str, Any] = field(default_factory=dict)
    places: dict[Key, str] = field(default_factory=dict)

    def merge(self, read: _Yaml, path: Path, name: str) -> None:
        """Add a file: ``parameters.yaml``, or a section's own, with or without the section's name on top."""
        prefix: Key = ()
        if name != "parameters" and not (set(read.value) and set(read.value) <= set(self.schema.model_fields)):
            prefix = (name,)
        for key, line in read.lines.items():
            whole = (*prefix, *key)
            if whole in self.places and not isinstance(_at(read.value, key), dict):
                raise ConfigError(
                    f"{path}, line {line}: key {'.'.join(whole)} is also set in {self.places[whole]}; keep one"
                )
            self.places.setdefault(whole, f"{path}, line {line}")
        value: dict[str, Any] = read.value
        for part in reversed(prefix):
            value = {part: value}
        _merge(self.value, value)

    def override(self, text: str) -> None:
        """Apply one ``KEY=VALUE``."""
        name, equals, value = text.partition("=")
        key = tuple(name.strip().split("."))
        if not equals or not all(key):
            raise ConfigError(f"--set {text}: expected KEY=VALUE, as in model_training.n_epochs=100")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not valid YAML") from error
        _check_known(self.schema, key, f"--set {text}")
        inner = self.value
        for part in key[:-1]:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[key[-1]] = parsed
        self.places[key] = f"--set {text}"

    def checked(self) -> Parameters:
        """The settings as typed objects, or a ConfigError for the first thing that is wrong."""
        for key in _walk(self.value):
            _check_known(self.schema, key, self._place(key))
        for name in section_names(self.schema):  # an empty section ("validation:") means its defaults
            if self.value.get(name, ...) is None:
                del self.value[name]
        try:
            return self.schema.model_validate(self.value)
        except ValidationError as error:
            first = error.errors()[0]
            key = _setting(self.schema, tuple(str(part) for part in first["loc"] if not isinstance(part, int)))
            raise ConfigError(f"{self._place(key)}: {'.'.join(key)}: {_reason(first)}") from error

    def _place(self, key: Key) -> str:
        while key and key not in self.places:
            key = key[:-1]
        return self.places.get(key, "configuration")


def _reason(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    value = error.get("input")
    if error["type"] == "literal_error":
        allowed = [text.strip("'\" ") for text in error["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        return f"{value!r} is not one of {', '.join(allowed)}{_nearest(str(value), allowed)}"
    if error["type"] == "value_error":
        return message
    return f"{message[0].lower()}{message[1:]}, not {value!r}"


def _check_known(schema: type[Parameters], key: Key, place: str) -> None:
    model: type[BaseModel] = schema
    for depth, part in enumerate(key):
        known = model.model_fields
        if part not in known:
            whole = [".".join((*key[:depth], name)) for name in known]
            name = ".".join(key[: depth + 1])
            raise ConfigError(f"{place}: unknown key {name}{_nearest(name, whole, part, schema)}")
        inner = known[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            if depth + 1 < len(key) and not _takes_mapping(inner):
                raise ConfigError(
                    f"{place}: {'.'.join(key[: depth + 1])} is a single value, it has no key {key[depth + 1]}"
                )
            return
        model = inner


def _setting(schema: type[Parameters], key: Key) -> Key:
    """The part of ``key`` that names a setting: what follows is a place in its value, or pydantic's name for a type."""
    model: Any = schema
    for depth, part in enumerate(key):
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return key[:depth]
        model = model.model_fields[part].annotation
    return key


def _takes_mapping(annotation: Any) -> bool:
    """Whether a setting of this type may be a mapping, whose keys (names of image types) are the user's own."""
    return get_origin(annotation) is dict or any(_takes_mapping(inner) for inner in get_args(annotation))


def _nearest(name: str, known: Iterable[str], part: str | None = None, schema: type[Parameters] = Parameters) -> str:
    """A hint: where ``part`` is known, the one of ``known`` most like ``name``, or one anywhere like ``part``."""
    everywhere = {key[-1]: ".".join(key) for key in _walk(schema().model_dump())}
    found = difflib.get_close_matches(name, list(known), 1, 0.6)
    if part in everywhere:
        found = [everywhere[part]]
    elif not found and part is not None:
        found = [everywhere[key] for key in difflib.get_close_matches(part, everywhere, 1, 0.7)]
    return f"; the nearest is {found[0]}" if found else ""


def _walk(value: Mapping[str, Any], prefix: Key = ()) -> list[Key]:
    keys: list[Key] = []
    for name, inner in value.items():
        keys.append((*prefix, str(name)))
        if isinstance(inner, dict):
            keys += _walk(inner, (*prefix, str(name)))
    return keys


def _merge(into: dict[str, Any], value: Mapping[str, Any]) -> None:
    for key, inner in value.items():
        if isinstance(inner, dict) and isinstance(into.get(key), dict):
            _merge(into[key], inner)
        else:
            into[key] = inner


def _at(value: Any, key: Key) -> Any:
    for part in key:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def as_config(config: Config | str | Path | None) -> Config:
    """Settings already loaded, or those of a folder (None: as ``load_config`` finds them)."""
    return config if isinstance(config, Config) else load_config(config)
