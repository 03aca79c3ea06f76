"""The command ``inspect``, which looks at photographs before any training."""

from __future__ import annotations

from pathlib import Path

from pixal.config import Config, load_config
from pixal.outcome import Results
from pixal.tasks import configured_task


def inspect(
    input_path: str | Path,
    *,
    against: str | Path | None = None,
    sample: int | None = None,
    out: str | Path | None = None,
    config: Config | str | Path | None = None,
    quiet: bool = False,
) -> Results:
    """Find problems with photographs before training: damaged, blurred, badly exposed, unusual, or duplicates.

    Writes ``inspection.html``, ``photographs.csv`` (one row per photograph) and ``inspection.yaml``. No model and no
    settings of a component are needed. Where settings name the component, or it has results already, its ``history.db``
    gets the figures and findings, too.

    Args:
        input_path: A folder of photographs, with one sub-folder per type; or the photographs of one type.
        against: Another such folder, to compare light, contrast, noise and sharpness with, type by type.
        sample: Inspect only this many photographs of each type, chosen at random. Default: all.
        out: Folder for the results. Default: ``inspection/NAME``, with the name of the folder of the photographs.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        quiet: Show no progress bars.

    Returns:
        The findings; ``to_pandas()`` is the table, ``summary()`` a text, and ``files`` says what was written.

    Raises:
        InputError: There is no photograph that can be read, or the results would lie among the photographs.
        ConfigError: The configuration is not valid.
    """
    config = config if isinstance(config, Config) else load_config(config)
    return configured_task(config).inspect(input_path, config, against=against, sample=sample, out=out, quiet=quiet)
