"""The task ``charge_clusters``: the functions that do the work of each command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pixal.config import Config
from pixal.errors import InputError
from pixal.extras import require_extra
from pixal.outcome import Outcome, Results
from pixal.tasks.charge_clusters.settings import ClusterConfig, ClusterParameters, cluster_config
from pixal.tasks.task import Task


class ChargeClusters(Task):
    """Learn the position and the angles of particles from simulated clusters, each with its uncertainty.

    The methods import what they need, so each command loads only what it uses.
    """

    name = "charge_clusters"
    parameters_type = ClusterParameters
    config_type = ClusterConfig

    def preprocess(self, source: str | Path, config: Config, *, force: bool, quiet: bool) -> Outcome:
        """Read parquet files, split and normalise their events, and write shards."""
        require_extra("pyarrow", "task: charge_clusters")
        from pixal.tasks.charge_clusters.preprocessing import preprocess

        return preprocess(source, cluster_config(config), force=force, quiet=quiet)

    def train(
        self, source: str | Path | None, config: Config, *, resume: bool, epochs: int | None, quiet: bool
    ) -> Outcome:
        """Train one network."""
        self._require_network()
        from pixal.tasks.charge_clusters.training import train

        return train(source, cluster_config(config), resume=resume, epochs=epochs, quiet=quiet)

    def validate(
        self,
        source: str | Path | None,
        config: Config,
        *,
        batch: str | None,
        truth: str | Path | None,
        model: str | None,
        force: bool,
        quiet: bool,
    ) -> Results:
        """Predict, and compare with the truth."""
        self._require_network()
        from pixal.tasks.charge_clusters.validating import validate

        if batch is not None or truth is not None or model is not None:
            raise InputError(
                "--batch, --truth and --model do not apply to charge clusters: the files hold the truth, and pixal "
                "import stores a model from another computer"
            )
        return validate(source, cluster_config(config), quiet=quiet)

    def detect(
        self,
        source: str | Path | None,
        config: Config,
        *,
        batch: str | None,
        truth: str | Path | None,
        quiet: bool,
    ) -> Results:
        """Predict events whose truth is not known."""
        self._require_network()
        from pixal.tasks.charge_clusters.detecting import detect

        if batch is not None or truth is not None:
            raise InputError("--batch and --truth do not apply to charge clusters; validate compares with the truth")
        if source is None:
            raise InputError("detect predicts the events of files without labels; name them with -i")
        return detect(source, cluster_config(config), quiet=quiet)

    def demo(self, folder: Path, *, config: str | Path | None, overrides: Sequence[str], quiet: bool) -> Results:
        """Simulate a sensor, and run all steps."""
        self._require_network()
        from pixal.tasks.charge_clusters.demo import demo

        return demo(folder, config=config, overrides=overrides, quiet=quiet)

    def _require_network(self) -> None:
        """Check that the packages of the network are installed, before any work."""
        require_extra("pyarrow", "task: charge_clusters")
        require_extra("tensorflow", "task: charge_clusters")
