"""The command ``benchmark``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixal.config import Config, as_config
from pixal.outcome import Results
from pixal.tasks import configured_task


def benchmark(
    input_path: str | Path,
    *,
    out: str | Path = "benchmark",
    classes: Sequence[str] | None = None,
    config: Config | str | Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Results:
    """Preprocess, train and validate each class of a data set, and write ``master_results.csv``.

    A class that is finished, with the same files and settings, is skipped. A class that fails gets a row with the
    reason.

    Args:
        input_path: Folder with one sub-folder per class, in the layout of MVTec AD or MVTec AD 2. Or a batch that
            PIXAL rendered (``train/COMPONENT``, ``production/COMPONENT``, ``truth``); each component is a class.
        out: Folder for the table. The relative paths of ``paths.yaml`` start here; each class is a component.
        classes: Names of the classes to run. Default: all.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        force: Run finished classes again.
        quiet: Show no progress bars.

    Returns:
        The rows of the table.

    Raises:
        InputError: There is no class.
        ConfigError: The configuration is not valid.
    """
    config = as_config(config)
    return configured_task(config).benchmark(input_path, config, out=out, classes=classes, force=force, quiet=quiet)
