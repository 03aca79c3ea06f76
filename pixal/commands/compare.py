"""The command ``compare``: several models on the same planted defects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pixal.config import Config, as_config
from pixal.outcome import Results
from pixal.tasks import configured_task

if TYPE_CHECKING:
    from typing_extensions import Unpack  # from 3.11 on in typing

    from pixal.defects.options import DefectOptions


def compare(
    input_path: str | Path | None = None,
    *,
    candidates: Sequence[str] = (),
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **planted: Unpack[DefectOptions],
) -> Results:
    """Train several models on the same good parts, and compare which planted defects they find.

    All candidates hold out the same parts and see the same defects at the same places. For each type this writes
    ``metadata/comparison.yaml``, ``comparison.csv`` (one row per candidate) and ``figures/comparison.png``. The models
    are in ``comparison/`` in the folder of the component. An interrupted run resumes.

    Args:
        input_path: An ``out.npz``, or a folder of them. Default: those of the component.
        candidates: Models as ``FAMILY``, ``FAMILY,KEY=VALUE,...`` or ``KEY=VALUE,...``; the first is the one that the
            others are compared with. Default: the configured family, ``gaussian``, ``padim`` and ``autoencoder``.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Score the defects again where the results of the same models and defects exist.
        quiet: Show no progress bars.
        **planted: ``kinds``, ``sizes``, ``contrasts`` and ``defects``, see ``pixal.defects.options.DefectOptions``.
            Default of sizes: 1 to 4 for the width of lines, 2 to 16 for others; of contrasts: 0.2, both signs.

    Returns:
        The comparison of each type; ``summary()`` is the table.

    Raises:
        InputError: There are no prepared good parts, or an option has a bad value.
        ConfigError: The configuration is not valid, or a candidate is not.
        ModelError: The first candidate cannot be trained.
        KeyboardInterrupt: The run was interrupted; the same command resumes it.
    """
    config = as_config(config)
    return configured_task(config).compare(
        input_path,
        config,
        candidates=candidates,
        planted=planted,
        force=force,
        quiet=quiet,
    )
