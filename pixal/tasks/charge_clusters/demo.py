"""``pixal demo --task charge_clusters``: simulate a sensor, then preprocess, train and validate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pixal.config import load_config
from pixal.config.loading import DEFAULTS as SHIPPED
from pixal.io.demo_folder import open_demo_folder, working_directory
from pixal.io.files import write_bytes
from pixal.tasks.charge_clusters.preprocessing import preprocess
from pixal.tasks.charge_clusters.results import ClusterResults
from pixal.tasks.charge_clusters.settings import DEFAULTS, cluster_config
from pixal.tasks.charge_clusters.simulated_files import write_simulation
from pixal.tasks.charge_clusters.simulation import Sensor
from pixal.tasks.charge_clusters.training import train
from pixal.tasks.charge_clusters.validating import validate

_log = logging.getLogger(__name__)

COMPONENT = "Demo_Sensor"
EVENTS = 50_000
SHORT = (("n_epochs: 30  ", "n_epochs: 8   "),)  # a short training

_SIMULATED = Path("simulated")


def demo(
    folder: Path, *, config: str | Path | None, overrides: Sequence[str], quiet: bool, events: int = EVENTS
) -> ClusterResults:
    """Simulate events, train on 80 % of them, and validate with the 10 % that are held out for tests.

    Args:
        folder: An empty or new folder, or the folder of an earlier demo. All files are written below it.
        config: Folder of the settings. None: the defaults of the task, with a shorter training.
        overrides: Settings of the form ``KEY=VALUE``.
        quiet: Whether progress bars are hidden.
        events: Number of simulated events.

    Raises:
        InputError: ``folder`` contains something else.
    """
    open_demo_folder(folder, _SIMULATED)
    _write_configs(Path(config) if config is not None else None, folder / "configs")
    with working_directory(folder):
        settings = cluster_config(load_config("configs", overrides))
        _log.info("simulating %d tracks in a pixel sensor", events)
        if not (_SIMULATED / "part.1.parquet").is_file():
            write_simulation(_SIMULATED, events, seed=settings.model_training.seed, files=2)
        preprocess(_SIMULATED, settings, force=False, quiet=quiet)
        train(None, settings, resume=False, epochs=None, quiet=quiet)
        results = validate(None, settings, quiet=quiet, sensor=Sensor())
    return replace(results, folder=folder / results.folder)


def _write_configs(source: Path | None, target: Path) -> None:
    """Copy the settings; the component of ``paths.yaml`` gets the name of the demo's."""
    parameters = ((source or DEFAULTS) / "parameters.yaml").read_text(encoding="utf-8")
    for before, after in SHORT if source is None else ():
        parameters = parameters.replace(before, after)
    paths = source / "paths.yaml" if source is not None else SHIPPED / "paths.yaml"
    name = load_config(source).paths.component
    text = paths.read_text(encoding="utf-8").replace(f"component: {name}\n", f"component: {COMPONENT}\n")
    write_bytes(target / "parameters.yaml", parameters.encode())
    write_bytes(target / "paths.yaml", text.encode())
