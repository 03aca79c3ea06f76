"""The command ``clean``."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Cleaned
from pixal.tasks import configured_task


def clean(*, maps: bool = False, remove: bool = False, config: Config | str | Path | None = None) -> Cleaned:
    """Remove what PIXAL makes again: images between photographs and model input, model inputs of batches.

    Models, verdicts, reports, figures and marks stay. So does every file that PIXAL did not write, and what was made
    of photographs that are gone.

    Args:
        maps: Also the anomaly maps of batches. ``pixal serve`` then draws no outlines.
        remove: Remove it. Default: only find it.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.

    Returns:
        What can be removed, with its size; ``summary()`` is a text.

    Raises:
        InputError: Another run is working on the component.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).clean(config, maps=maps, remove=remove)
