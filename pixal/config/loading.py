"""Load the configuration: read the YAML files of a folder, merge them, and check them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixal.config.document import Document, section_names
from pixal.config.former import read_stored_settings
from pixal.config.path_checks import check_paths
from pixal.config.paths import Paths
from pixal.config.schema import Execution, ModelTraining, Parameters, Tracking
from pixal.config.yaml_file import YamlFile, read_yaml
from pixal.errors import ConfigError
from pixal.registry import TASKS

_log = logging.getLogger(__name__)

DEFAULTS = Path(__file__).parent / "defaults"
CONFIGS = "configs"
"""The folder of the settings in the working directory."""


@dataclass(frozen=True)
class Config:
    """The settings of one run: the sections of ``parameters.yaml`` as attributes, and ``paths``.

    A task derives its own class from this one, and adds its sections.

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
        """Name of the experiment in MLflow."""
        return self.parameters.experimentName

    @property
    def model_training(self) -> ModelTraining:
        """The model, its loss, and how it is trained."""
        return self.parameters.model_training

    @property
    def execution(self) -> Execution:
        """Where and on how many images at the same time PIXAL works."""
        return self.parameters.execution

    @property
    def tracking(self) -> Tracking:
        """Where runs are logged."""
        return self.parameters.tracking


class TaskSettings(Protocol):
    """The types of the settings of a task, for ``load_config``."""

    parameters_type: type[Parameters]
    config_type: type[Config]


def load_config(folder: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load and check the configuration.

    Args:
        folder: Folder with ``parameters.yaml``, ``paths.yaml``, and optionally one file per section (for example
            ``validation.yaml``). A missing section or file gets the default values. Or the folder ``metadata`` of an
            earlier run, whose records hold the settings of that run. Default: ``./configs`` if it
            exists, or else the defaults that are part of the package.
        overrides: Settings of the form ``KEY=VALUE``, with a dotted key and a YAML value, for example
            ``model_training.n_epochs=100``.

    Returns:
        The settings. The task decides the type, for example ``PhotographConfig``.

    Raises:
        ConfigError: A file or an override is not valid. The message names the file, the line and the key.
    """
    source = _find_folder(folder)
    stored = read_stored_settings(source)
    parameters_file = stored.path if stored else source / "parameters.yaml"
    if stored:
        parameters = stored.content
    else:
        parameters = read_yaml(parameters_file) if parameters_file.is_file() else YamlFile({}, {})
    task: TaskSettings = TASKS.load(_task_name(parameters.value, overrides))
    sections = section_names(task.parameters_type)
    document = Document(task.parameters_type)
    document.merge(parameters, parameters_file, "parameters")
    for name in sections if stored is None else ():
        path = source / f"{name}.yaml"
        if path.is_file():
            document.merge(read_yaml(path), path, name)
    for override in overrides:
        document.override(override)
    if stored:
        return task.config_type(document.validated(), _paths_of_run(stored.component), source)
    _warn_of_unknown_files(source, {f"{name}.yaml" for name in ("parameters", "paths", *sections)})
    return task.config_type(document.validated(), _read_paths(source), source)


def as_config(config: Config | str | Path | None) -> Config:
    """Return loaded settings unchanged; load those of a folder, or with None the default ones."""
    if isinstance(config, Config):
        return config
    loaded = load_config(config)
    if config is None:
        warn_of_shipped_component(loaded)
    return loaded


def warn_of_shipped_component(config: Config) -> None:
    """Warn where settings that were loaded without naming a folder are those of the package.

    Their component is an example: the outputs would go into the folders of a component that the user never named.
    """
    if config.source != DEFAULTS:
        return
    here = Path.cwd()
    above = next((folder for folder in here.parents if (folder / CONFIGS / "paths.yaml").is_file()), None)
    advice = f"change to {above}, which has one" if above else "name yours with --config"
    _log.warning(
        "there is no folder %s in %s: using the settings of the package, with the component %s; %s",
        CONFIGS,
        here,
        config.paths.component,
        advice,
    )


def _find_folder(folder: str | Path | None) -> Path:
    if folder is None:
        return Path(CONFIGS) if Path(CONFIGS).is_dir() else DEFAULTS
    source = Path(folder)
    if not source.is_dir():
        raise ConfigError(
            f"configuration folder {source} does not exist; name a folder with parameters.yaml and paths.yaml"
        )
    if not any(source.glob("*.yaml")):
        raise ConfigError(f"configuration folder {source} contains neither parameters.yaml nor paths.yaml")
    return source


def _task_name(content: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Name of the task. It is needed first, because its schema checks all other settings."""
    name = content.get("task", Parameters.model_fields["task"].default)
    for override in overrides:
        key, _, value = override.partition("=")
        name = value.strip() if key.strip() == "task" else name
    return str(name)


def _read_paths(source: Path) -> Paths:
    file = source / "paths.yaml"
    if not file.is_file():
        file = DEFAULTS / "paths.yaml"
    content = read_yaml(file)
    lines = {key[0]: line for key, line in content.lines.items() if len(key) == 1}
    paths = Paths(content.value, file, lines)
    check_paths(paths, content.anchored)
    return paths


def _paths_of_run(component: str) -> Paths:
    """The output folders of the component of an earlier run: those of ``./configs``, or else of the package."""
    paths = _read_paths(Path(CONFIGS))
    return paths if component in ("", paths.component) else paths.for_component(component)


def _warn_of_unknown_files(source: Path, known: set[str]) -> None:
    for path in sorted(source.glob("*.y*ml")):
        if path.name not in known:
            _log.warning("%s is not read: PIXAL reads parameters.yaml, paths.yaml and one file per section", path)
