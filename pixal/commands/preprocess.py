"""The commands preprocess, remove_bg, align and make_input."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Outcome
from pixal.tasks import configured_task


def preprocess(
    input_dir: str | Path, *, config: Config | str | Path | None = None, force: bool = False, quiet: bool = False
) -> Outcome:
    """Remove the background, align, crop, and make the network's input of every photograph below ``input_dir``.

    ``config``: loaded settings, or the folder to load them from. ``force``: make everything again. Returns what was
    done and what could not be. Raises InputError where nothing could be processed, ConfigError for a bad configuration.
    """
    config = as_config(config)
    return configured_task(config).preprocess(input_dir, config, force=force, quiet=quiet)


def remove_bg(
    input_dir: str | Path, *, config: Config | str | Path | None = None, force: bool = False, quiet: bool = False
) -> Outcome:
    """Find the part on every photograph below ``input_dir``; write RGBA images whose alpha is the foreground."""
    config = as_config(config)
    return configured_task(config).remove_bg(input_dir, config, force=force, quiet=quiet)


def align(
    input_dir: str | Path | None = None,
    *,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Align what ``remove_bg`` made of the photographs below ``input_dir`` to one reference a type."""
    config = as_config(config)
    return configured_task(config).align(input_dir, config, force=force, quiet=quiet)


def make_input(
    input_dir: str | Path | None = None,
    *,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Cut, light, and pool the aligned photographs; write ``out.npz`` (one a type, or one for all in one-hot mode)."""
    config = as_config(config)
    return configured_task(config).make_input(input_dir, config, force=force, quiet=quiet)
