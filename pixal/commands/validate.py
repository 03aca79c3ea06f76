"""The commands validate, validate --watch and detect."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Results
from pixal.tasks import configured_task


def validate(
    input_path: str | Path,
    *,
    truth: str | Path | None = None,
    model: str | None = None,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Results:
    """Give every photograph below ``input_path`` a verdict, with the models that ``train`` wrote.

    ``truth``: folder of ``labels.csv`` and masks to measure against. ``model``: the type whose model judges all, in
    place of each type's own; ``COMPONENT/TYPE`` is one of another component. Writes the tables, figures, maps and the
    report below ``validate/COMPONENT``. Verdicts of an earlier run stay where photograph, model and settings are the
    same; with ``force`` none does. Raises InputError for input that cannot be used, ModelError for a model that is
    missing or does not match.
    """
    config = as_config(config)
    return configured_task(config).validate(input_path, config, truth=truth, model=model, force=force, quiet=quiet)


def watch(
    input_path: str | Path,
    *,
    model: str | None = None,
    config: Config | str | Path | None = None,
    force: bool = False,
) -> Results:
    """Judge the photographs below a folder as they come, until Ctrl-C; returns what the batch came to.

    A photograph is taken when its file has not changed from one look at the folder to the next, and can be read. What
    is judged stays judged, also from one watch to the next and when its photograph is taken away, unless photograph,
    model or settings have changed; ``force``: unless it comes again. ``model``: as of ``validate``. ``pause`` is called
    between two looks with the seconds of ``validation.watch_interval``; a KeyboardInterrupt, there or elsewhere, ends
    the watch. Raises InputError for what is no folder, ModelError where nothing is trained.
    """
    config = as_config(config)
    return configured_task(config).watch(input_path, config, model=model, force=force)


def detect(
    input_path: str | Path | None = None,
    *,
    truth: str | Path | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Give new verdicts on inputs that ``validate`` has prepared, with today's thresholds and today's model.

    ``input_path``: the folder ``validate`` wrote, or one type's in it (default: that of the component). Parts that
    another type's model judged are judged by that again.
    """
    config = as_config(config)
    return configured_task(config).detect(input_path, config, truth=truth, quiet=quiet)
