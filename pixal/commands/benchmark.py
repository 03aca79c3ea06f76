"""The command benchmark."""

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
    """Preprocess, train and validate each class below ``input_path``, and write ``master_results.csv``.

    ``input_path``: a folder a class, laid out as those of MVTec AD or MVTec AD 2; or a batch as PIXAL renders them
    (``train/COMPONENT``, ``production/COMPONENT``, ``truth``), whose components are the classes. ``out``: the folder
    of the table, in which the relative paths of ``paths.yaml`` lie here, each class a component. ``classes``: only
    these. A class that is finished, of the same input with the same settings, stays; ``force``: none does. One that
    fails is a row with its reason. Raises InputError where there is no class, ConfigError for a bad configuration.
    """
    config = as_config(config)
    return configured_task(config).benchmark(input_path, config, out=out, classes=classes, force=force, quiet=quiet)
