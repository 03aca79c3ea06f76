"""The commands that make the next model from marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixal.config import Config, as_config
from pixal.defects.options import DefectOptions
from pixal.outcome import Results
from pixal.tasks import configured_task

if TYPE_CHECKING:
    from typing_extensions import Unpack  # from 3.11 on in typing


def accept(
    marks: str | Path | None = None,
    *,
    types: Sequence[str] | None = None,
    confirmed: bool = False,
    undo: bool | int = False,
    config: Config | str | Path | None = None,
) -> Results:
    """Make training photographs and known defects from the marks of inspectors.

    A part marked as a false alarm becomes a training photograph of its type. A part marked as missed or confirmed
    becomes a known defect, with the box that was drawn or the regions that were found. Both are copied to
    ``out/COMPONENT/TYPE/accepted``. Running it again adds what is new, and removes parts whose mark was taken back.

    Args:
        marks: A table of marks to be stored first: that of a ``report.html``, or one with the columns ``type``,
            ``image`` and ``mark``. Default: only the marks in the database.
        types: Image types. Default: all.
        confirmed: Take over parts whose pass was confirmed as well, as training photographs.
        undo: Instead, remove what the last run has added; a number: what the run of that number has added.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.

    Returns:
        The parts that were added and removed; ``summary()`` is one line per type.

    Raises:
        InputError: There are no verdicts, a type is not known, or the table is damaged.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).accept(config, marks=marks, types=types, confirmed=confirmed, undo=undo)


def promote(
    types: Sequence[str] | None = None,
    *,
    check: bool = False,
    back: bool | str = False,
    overview: bool = False,
    force: bool = False,
    config: Config | str | Path | None = None,
    quiet: bool = False,
    **planted: Unpack[DefectOptions],
) -> Results:
    """Replace the model in use of a type by its candidate, or return to an earlier model.

    Before, both models are compared: on all parts that were ever marked (with held-out scores where a model was trained
    on them), on the last batches, and on planted defects. ``promotion.html`` in the folder of the candidate shows it,
    with a recommendation. A candidate that is worse is not put in place. The model that is replaced is kept.

    Args:
        types: Image types. Default: all that have a candidate.
        check: Compare only.
        back: Instead, put back the model that was in use before; a name: that earlier model.
        overview: Instead, list the models of each type.
        force: Put the candidate in place although it is worse.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        quiet: Show no progress bars.
        **planted: ``kinds``, ``sizes``, ``contrasts`` and ``defects``, see ``pixal.defects.options.DefectOptions``.
            The defaults are those of ``compare``.

    Returns:
        What was done; ``summary()`` is the recommendation with its reasons.

    Raises:
        InputError: The candidate is worse, or there is no such earlier model.
        ModelError: There is no candidate.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).promote(
        config, types=types, check=check, back=back, overview=overview, force=force, planted=planted, quiet=quiet
    )


def recalibrate(
    types: Sequence[str] | None = None,
    *,
    batch: str | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Adapt the calibration of models to parts that are confirmed to be good, without a new fit.

    Spread of the errors, scores of good parts, threshold, and the light that batches are compared with then come from
    these parts. The result is a candidate: ``promote`` compares it with the model in use.

    Args:
        types: Image types. Default: all that have a model.
        batch: Name of a batch whose parts are all good, except those that are marked as defective. Default: the parts
            that were marked as false alarms, or whose pass was confirmed.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        quiet: Show no progress bars.

    Returns:
        What has changed; ``summary()`` is one sentence each.

    Raises:
        InputError: There are fewer than 8 good parts, or no such batch.
        ModelError: There is no model in use.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).recalibrate(config, types=types, batch=batch, quiet=quiet)
