"""The commands ``init``, ``check`` and ``status``."""

from __future__ import annotations

from pathlib import Path

from pixal.commands.starting import StartedConfig, write_start
from pixal.config import Config, as_config
from pixal.errors import InputError
from pixal.outcome import Overview
from pixal.tasks import configured_task


def init(
    component: str | None = None, *, input_dir: str | Path | None = None, config: str | Path = "configs"
) -> StartedConfig:
    """Write a folder of settings for a component: all settings with their default values and a comment each.

    Args:
        component: The name of the component. Default: the name of the folder of its photographs.
        input_dir: The folder of the component's photographs. Its types are listed, and nothing in it is changed.
        config: The folder to write.

    Returns:
        The written files, and the types in ``input_dir``.

    Raises:
        InputError: Neither a name nor a folder is given, the name cannot be that of a folder, the folder has no
            photographs, or ``config`` already holds settings.
    """
    types: dict[str, int] = {}
    if input_dir is not None:
        from pixal.tasks.photographs.discovery import list_photographs

        types = {name: len(photographs) for name, photographs in list_photographs(input_dir).items()}
        component = component or Path(input_dir).resolve().name
    if component is None:
        raise InputError("name the component, or the folder of its photographs (-i)")
    return write_start(Path(config), component, None if input_dir is None else Path(input_dir), types)


def check(input_path: str | Path | None = None, *, config: Config | str | Path | None = None) -> Overview:
    """Find problems before a run, and list what the commands would do. Nothing is written.

    Args:
        input_path: The folder of photographs. Default: check the settings alone.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.

    Returns:
        The photographs by type, the problems, and the plan.

    Raises:
        InputError: There are no photographs.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).check(input_path, config)


def status(*, config: Config | str | Path | None = None) -> Overview:
    """Read the types, models and batches of the component: what is out of date and why, and what to run next.

    Args:
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.

    Returns:
        The state of the component. Nothing is written.

    Raises:
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).status(config)
