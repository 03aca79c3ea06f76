"""The commands ``preprocess``, ``remove_bg``, ``align`` and ``make_input``."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Outcome
from pixal.tasks import configured_task


def preprocess(
    input_dir: str | Path, *, config: Config | str | Path | None = None, force: bool = False, quiet: bool = False
) -> Outcome:
    """Make the model input of photographs: remove the background, align, crop and pool.

    This runs ``remove_bg``, ``align`` and ``make_input``. Work that is already done, on the same files with the same
    settings, is skipped.

    Args:
        input_dir: Folder of photographs: one sub-folder per image type, or the photographs of one type.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Do all work again.
        quiet: Show no progress bars.

    Returns:
        The number of finished images, and the images that could not be processed, with the reasons.

    Raises:
        InputError: There are no photographs, or none could be processed.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).preprocess(input_dir, config, force=force, quiet=quiet)


def remove_bg(
    input_dir: str | Path, *, config: Config | str | Path | None = None, force: bool = False, quiet: bool = False
) -> Outcome:
    """Find the part on each photograph, and write RGBA images whose alpha channel is the foreground mask.

    This is the first step of ``preprocess``.

    Args:
        input_dir: Folder of photographs: one sub-folder per image type, or the photographs of one type.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Do all work again.
        quiet: Show no progress bars.

    Returns:
        The number of finished images, and the images that could not be processed, with the reasons.

    Raises:
        InputError: There are no photographs, or none could be processed.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).remove_bg(input_dir, config, force=force, quiet=quiet)


def align(
    input_dir: str | Path | None = None,
    *,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Align the images that ``remove_bg`` wrote to the reference photograph of their type.

    This is the second step of ``preprocess``.

    Args:
        input_dir: Folder of the photographs whose images are aligned. Default: all types of the component.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Do all work again.
        quiet: Show no progress bars.

    Returns:
        The number of aligned images, and the images that could not be aligned, with the reasons.

    Raises:
        InputError: There is nothing to align, or no image could be aligned.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).align(input_dir, config, force=force, quiet=quiet)


def make_input(
    input_dir: str | Path | None = None,
    *,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Crop the aligned images, match their light to the reference, pool them, and write ``out.npz``.

    This is the last step of ``preprocess``. It writes one file per type, or one for all types in one-hot mode.

    Args:
        input_dir: Folder of the photographs whose images are used. Default: all types of the component.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Do all work again.
        quiet: Show no progress bars.

    Returns:
        The number of images in the input, and the images that could not be processed, with the reasons.

    Raises:
        InputError: There are no aligned images, or none could be processed.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).make_input(input_dir, config, force=force, quiet=quiet)
