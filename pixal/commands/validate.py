"""The commands ``validate``, ``validate --watch`` and ``detect``."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Results
from pixal.tasks import configured_task


def validate(
    input_path: str | Path | None = None,
    *,
    batch: str | None = None,
    truth: str | Path | None = None,
    model: str | None = None,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Results:
    """Give each photograph of a batch a verdict, with the models that ``train`` wrote.

    Tables, figures, anomaly maps and the report go to ``validate/COMPONENT``. Stored verdicts of the same photograph,
    model and settings are kept.

    Args:
        input_path: Folder of photographs (one sub-folder per image type, or the photographs of one type), or one image.
            Default: the photographs of the known ``batch``.
        batch: Name of the batch. Default: a batch of the same photographs is continued; a new one is named after their
            folder and the time of the first one. The results of the batch before move to
            ``validate/COMPONENT/batches/NAME``.
        truth: Folder with ``labels.csv`` and masks, to measure the verdicts against.
        model: Name of the type whose model is used for all photographs, instead of that of their own type.
            ``COMPONENT/TYPE`` names a model of another component, and ``FILE.pixal`` one that ``export`` wrote.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Make all verdicts again.
        quiet: Show no progress bars.

    Returns:
        The verdicts of the batch.

    Raises:
        InputError: The photographs, the name of the batch or the truth cannot be used.
        ConfigError: The configuration is not valid.
        ModelError: A model is missing, or does not match the photographs.
    """
    config = as_config(config)
    return configured_task(config).validate(
        input_path, config, batch=batch, truth=truth, model=model, force=force, quiet=quiet
    )


def watch(
    input_path: str | Path | None = None,
    *,
    batch: str | None = None,
    model: str | None = None,
    config: Config | str | Path | None = None,
    force: bool = False,
) -> Results:
    """Give photographs a verdict as they arrive in a folder, until a ``KeyboardInterrupt`` (Ctrl-C).

    PIXAL looks at the folder every ``validation.watch_interval`` seconds. A photograph is processed when its file is
    readable and has not changed since the last look. A verdict is kept when the photograph is removed, and when the
    watch is started again. It is made again if the photograph, the model or the settings have changed.

    Args:
        input_path: Folder of photographs: one sub-folder per image type, or the photographs of one type. Default: that
            of the known ``batch``.
        batch: Name of the batch, like in ``validate``.
        model: Name of the type whose model is used for all photographs, like in ``validate``.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Make the verdicts of photographs in the folder again.

    Returns:
        The verdicts of the batch.

    Raises:
        InputError: The input is not a folder.
        ConfigError: The configuration is not valid.
        ModelError: There is no trained model.
    """
    config = as_config(config)
    return configured_task(config).watch(input_path, config, batch=batch, model=model, force=force)


def detect(
    input_path: str | Path | None = None,
    *,
    batch: str | None = None,
    truth: str | Path | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Repeat the verdicts on a batch that ``validate`` has prepared, with the current model and settings.

    The photographs are not read again. A part that ``validate`` scored with the model of another type is scored with
    that model again.

    Args:
        input_path: Folder that ``validate`` wrote, or the folder of one type in it. Default: that of the batch.
        batch: Name of the batch. Default: the newest one.
        truth: Folder with ``labels.csv`` and masks, to measure the verdicts against.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        quiet: Show no progress bars.

    Returns:
        The verdicts of the batch.

    Raises:
        InputError: There is no batch, or it cannot be used.
        ConfigError: The configuration is not valid.
        ModelError: A model is missing, or does not match the batch.
    """
    config = as_config(config)
    return configured_task(config).detect(input_path, config, batch=batch, truth=truth, quiet=quiet)
