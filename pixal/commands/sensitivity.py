"""The command ``sensitivity``, which plants defects on held-out good parts."""

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


def sensitivity(
    input_path: str | Path | None = None,
    *,
    rates: Sequence[float] = (),
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
    **planted: Unpack[DefectOptions],
) -> Results:
    """Measure which defects the trained models find, with defects planted on held-out good parts.

    Each good part is scored by a model that did not see it. For each type this writes ``metadata/sensitivity.yaml``,
    ``sensitivity.csv`` (one row per defect), ``sensitivity_map.npz``, and two figures. An interrupted run resumes; the
    same model, seed and options give the same results.

    Args:
        input_path: The ``out.npz`` that the models were trained on, or a folder of them. Default: those of the
            component.
        rates: False-alarm rates to report besides the configured one.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Measure again where the results of the same model and options exist.
        quiet: Show no progress bars.
        **planted: ``kinds``, ``sizes``, ``contrasts`` and ``defects``, see ``pixal.defects.options.DefectOptions``.
            Default of sizes: 1 to 6 for the width of lines, 2 to 24 for others; of contrasts: 0.1, 0.2 and 0.4, both
            signs.

    Returns:
        What is found, one sentence per kind of defect; ``summary()`` is the text.

    Raises:
        InputError: The photographs that the model was trained on are missing, or an option has a bad value.
        ConfigError: The configuration is not valid, or a kind of defect is unknown.
        ModelError: A model is missing or damaged, or was trained on other data.
        KeyboardInterrupt: The run was interrupted; the same command resumes it.
    """
    config = as_config(config)
    return configured_task(config).sensitivity(
        input_path,
        config,
        planted=planted,
        rates=rates,
        force=force,
        quiet=quiet,
    )
